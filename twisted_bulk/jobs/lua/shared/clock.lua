-- The queue's time (ms since 1970): `now`. It never goes back.
--
-- It is the server's clock less `skew`. `skew` is 0 until somebody sets the server's clock. Every
-- node calls `maintain` each second and tells how long it has been since its last call by a clock
-- that nobody sets; so `maintain` finds a step of the server's clock and adds it to `skew`.
--
-- An example. At 10:00:00 the clock is set one hour forward. A script that runs next reads 11:00:00,
-- which is more than MAX_AHEAD beyond `seen`: it is not `sure`. It uses `seen` + MAX_AHEAD, and takes,
-- expires and forgets nothing. The next `maintain` hears from its caller that one second has passed.
-- It sets `skew` to one hour, and from then on `now` is 10:00:01 and later.
--
-- CLOCK has the fields
--   skew   ms by which the server's clock was put forward in all; below 0: back
--   seen   `now` at the last `maintain`
--   leapt  when `now` went on by more than MAX_AHEAD at once: no node was there to call `maintain`
--   aged   the time by which retention counts; after a leap it catches up slowly (maintain.lua)
local CLOCK = 'bw:{bulkwav}:clock'
local time = call('TIME')
local wall = time[1] * 1000 + math.floor(time[2] / 1000)

local MAX_AHEAD = 5000  -- ms that `now` may be beyond `seen` before somebody must confirm it
local MIN_STEP = 2000   -- ms; a larger difference between two clocks is a step of one of them

local skew, seen = unpack(call('HMGET', CLOCK, 'skew', 'seen'))
skew, seen = tonumber(skew or 0), tonumber(seen or 0)
local now = math.max(wall - skew, seen)
local sure = seen == 0 or now - seen <= MAX_AHEAD
-- Where no node calls `maintain` only producers run: their delays count from the server's clock.
if not sure and not PRODUCES then now = seen + MAX_AHEAD end

-- Every script that changes something returns through this: it writes the events, numbers the changes
-- of groups, and tells the workers of new jobs.
local function finished(reply)
  for Q, events in pairs(tally) do
    local key = Q .. 'm:' .. whole(math.floor(now / 60000))
    for what, n in pairs(events) do
      if call('HINCRBY', key, what, whole(n)) == n then call('EXPIRE', key, 172800) end
    end
  end
  for Q, gids in pairs(changed) do
    for gid in pairs(gids) do
      call('ZADD', Q .. 'changes', whole(call('HINCRBY', Q .. 'meta', 'cseq', 1)), gid)
    end
  end
  for Q in pairs(wakes) do call('PUBLISH', Q .. 'wake', '') end
  return reply
end
