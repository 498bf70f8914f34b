-- Who has a job, and for how long.
--
-- A lease runs out when its worker was not heard for as long as it lasts. But if no worker at all was
-- heard for SILENCE, the server was away, or all workers were. Then leases may have run out without
-- a fault of their workers, so for GRACE after that no job is taken from any.

local SILENCE = 5000  -- ms without any worker's heartbeat
local GRACE = 8000    -- ms: two heartbeats, and the time that a reconnection takes
local ALIVE_STEP = 250  -- ms between two writes of `alive`

-- Whether jobs may be taken from workers whose leases ran out.
local function may_reclaim()
  local alive, hold = unpack(call('HMGET', P .. 'meta', 'alive', 'hold'))
  return not (alive and now - alive > SILENCE) and not (hold and now < tonumber(hold))
end

-- A worker was heard.
local function alive(wid)
  call('ZADD', P .. 'wk', whole(now), wid)
  local last = call('HGET', P .. 'meta', 'alive')
  if last and now - last > SILENCE then call('HSET', P .. 'meta', 'hold', whole(now + GRACE)) end
  if not last or now - last > ALIVE_STEP then
    call('HSET', P .. 'meta', 'alive', whole(now))
    local units, empty_since = unpack(call('HMGET', P .. 'meta', 'backlog', 'empty_since'))
    if not empty_since and tonumber(units or 0) == 0 then
      call('HSET', P .. 'meta', 'empty_since', whole(now))
    end
  end
end

-- A worker was lost with this job: the job goes back to its old place in line. That uses up no try.
-- The loss counts against the job only if it had got no further since the loss before. After
-- SUSPECT_LOSSES of these in a row it is a suspect, and runs alone. One that was lost `maxlost` times
-- in a row while it ran alone is dead ("poison").
--   kept: units that are known to be done, and are kept
--   blamed: the worker died by itself, and nobody ended it
local function requeue(id, kept, blamed)
  local key = P .. 'j:' .. id
  local wid, score, most, units, seen_units, seen_kept, alone = unpack(
    call('HMGET', key, 'wid', 'score', 'maxlost', 'units', 'sunits', 'skept', 'alone'))
  call('ZREM', P .. 'doing', id)
  if not score then return end
  count(P, 'lost', 1)
  if wid then call('SREM', P .. 'w:' .. wid, id) end
  most, units = tonumber(most or MAX_LOSSES), tonumber(units or 0)
  if most == 0 then
    call('HINCRBY', key, 'tries', -1)  -- a lost worker says nothing about this job
    return push_todo_again(id)
  end
  call('HINCRBY', key, 'free', 1)
  kept, seen_kept = tonumber(kept or 0), tonumber(seen_kept or 0)
  if units > tonumber(seen_units or 0) or kept > seen_kept then
    call('HSET', key, 'sunits', units, 'skept', math.max(kept, seen_kept))
    call('HDEL', key, 'lost', 'solo')
  else
    call('HINCRBY', key, 'lost', 1)
    local counts = alone == '1' or (alone == '2' and blamed)
    if counts and call('HINCRBY', key, 'solo', 1) >= most then
      return kill_job(id, 'poison', 'its worker was lost ' .. most .. ' times while it ran alone')
    end
  end
  push_todo_again(id)
end

-- Up to `limit` jobs that are due now go into their lines.
local function promote(limit)
  if not sure then return end
  for _, id in ipairs(call('ZRANGEBYSCORE', P .. 'later', '-inf', whole(now), 'LIMIT', 0, limit)) do
    call('ZREM', P .. 'later', id)
    push_todo_again(id)
  end
end

-- Up to `limit` jobs whose lease ran out are taken from their workers.
local function reclaim(limit)
  if not sure then return end
  local ids = call('ZRANGEBYSCORE', P .. 'doing', '-inf', whole(now), 'LIMIT', 0, limit)
  if #ids > 0 and may_reclaim() then for _, id in ipairs(ids) do requeue(id) end end
end

-- Up to `limit` jobs that are too late to start are dead.
local function expire(limit)
  if not sure then return end
  for _, id in ipairs(call('ZRANGEBYSCORE', P .. 'exp', '-inf', whole(now), 'LIMIT', 0, limit)) do
    local state = call('HGET', P .. 'j:' .. id, 'state')
    if state == 'todo' or state == 'later' then kill_job(id, 'expired') else call('ZREM', P .. 'exp', id) end
  end
end

-- The fence: whether `wid` with this attempt is the present holder of a job.
local function holds(job_tries, job_wid, wid, attempt) return job_tries == attempt and job_wid == wid end

-- Take a job from its worker and put it into the index of `state`; of later: until `due`.
local function hand_back(id, wid, state, due)
  call('ZREM', P .. 'doing', id)
  call('SREM', P .. 'w:' .. wid, id)
  if state == 'todo' then return push_todo_again(id) end
  note_change_of(id, unpack(call('HMGET', P .. 'j:' .. id, 'gid', 'of')))
  call('HSET', P .. 'j:' .. id, 'state', state)
  call('ZADD', P .. state, due, id)
end
