-- A round of housekeeping: jobs that are due, leases that ran out, expiry, old records, and steps of
-- the server's clock (see shared/clock.lua). Every node calls it each second.
-- ARGV: limit keep_ms keep_count worker_dead_ms at elapsed_ms again
--   limit           jobs of each kind that are handled in one call
--   keep_ms, keep_count  how long records of ended jobs stay, and how many
--   at              the queue's time in the reply to the caller's last call; 0: it is its first
--   elapsed_ms      ms since then by the caller's monotonic clock
--   again           1: the caller's last call was answered with {}
-- reply: {the queue's time, ms by which the server's clock was put forward (below 0: back), how many
--         records were removed, ids of groups to forget ...}
--        | {} nothing was done: the server's clock was set, or this call took long; call again
write_first()

local TRUST = 120000  -- ms without a leap, after which `aged` may catch up
local CATCH_UP = 4    -- times as fast as `now` that `aged` then runs

-- Find a step of the server's clock, and add it to `skew`. A large difference between `now` and `seen`
-- may also mean that no node was there: the caller's clock tells the two apart. Returns the step in
-- ms, or nil: the caller shall call again, as its message may just have been on its way for long.
local function tick(at, elapsed, again)
  local told, mine, step = wall - skew, seen, 0
  if at > 0 then mine = math.max(seen, at + elapsed) end
  if seen > 0 and told < seen - MIN_STEP then step = told - mine
  elseif seen > 0 and at > 0 and told - seen > MAX_AHEAD and told - mine > MIN_STEP then
    if not again then return nil end
    step = told - mine
  end
  if step ~= 0 then
    skew = skew + step
    call('HSET', CLOCK, 'skew', whole(skew))
  end
  now, sure = math.max(wall - skew, seen), true
  return step
end

-- The time by which retention counts. After an absence of all nodes the queue's time may be wrong by
-- any amount. So `aged` first goes on as if there had been no absence. After TRUST it catches up,
-- CATCH_UP times as fast, so that in an hour no more is removed than else in CATCH_UP hours.
local function age()
  local aged, leapt = unpack(call('HMGET', CLOCK, 'aged', 'leapt'))
  aged, leapt = tonumber(aged or now), tonumber(leapt or 0)
  local passed = now - (seen > 0 and seen or now)
  if passed > MAX_AHEAD then
    leapt, passed = now, 0
    call('HSET', CLOCK, 'leapt', whole(now))
  end
  if now - leapt >= TRUST then passed = passed * CATCH_UP end
  aged = math.min(now, aged + passed)
  call('HSET', CLOCK, 'seen', whole(now), 'aged', whole(aged))
  return aged
end

local step = tick(tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7] == '1')
if not step then return {} end
-- Times that were computed between a step and this moment are corrected.
local doubt = call('ZRANGE', P .. 'doubt', 0, -1, 'WITHSCORES')
for i = 1, #doubt, 2 do
  local id, off = doubt[i], skew - tonumber(doubt[i + 1])
  local exp, due = call('HGET', P .. 'j:' .. id, 'exp'), call('ZSCORE', P .. 'later', id)
  if off ~= 0 and exp then
    call('HSET', P .. 'j:' .. id, 'exp', whole(exp - off))
    call('ZADD', P .. 'exp', whole(exp - off), id)
  end
  if off ~= 0 and due then call('ZADD', P .. 'later', whole(due - off), id) end
end
call('DEL', P .. 'doubt')
local limit, old, gone = tonumber(ARGV[1]), age() - tonumber(ARGV[2]), 0
promote(limit)
reclaim(limit)
expire(limit)
for _, state in ipairs({'done', 'dead'}) do
  local ids = call('ZRANGEBYSCORE', P .. state, '-inf', whole(old), 'LIMIT', 0, limit)
  local over = call('ZCARD', P .. state) - #ids - tonumber(ARGV[3])
  if over > 0 then ids = call('ZRANGE', P .. state, 0, math.min(limit, #ids + over) - 1) end
  for _, id in ipairs(ids) do
    -- A group's jobs go with the group.
    local gid = call('HGET', P .. 'j:' .. id, 'gid')
    if not gid or call('EXISTS', P .. 'g:' .. gid) == 0 then
      call('ZREM', P .. state, id)
      call('UNLINK', P .. 'j:' .. id, P .. 'p:' .. id)
      gone = gone + 1
    end
  end
end
-- A worker that holds jobs stays known until they are reclaimed.
for _, wid in ipairs(call('ZRANGEBYSCORE', P .. 'wk', '-inf', whole(now - tonumber(ARGV[4])), 'LIMIT', 0, limit)) do
  if call('EXISTS', P .. 'w:' .. wid) == 0 then
    call('ZREM', P .. 'wk', wid)
    call('HDEL', P .. 'waits', wid)
  end
end
local reply = {whole(now), whole(step), gone}
for _, gid in ipairs(call('ZRANGEBYSCORE', P .. 'gend', '-inf', whole(old), 'LIMIT', 0, 100)) do
  -- A group stays while the job that follows it has not ended; after that failed, once more as long.
  local after_queue, payload, nonce, runs = unpack(
    call('HMGET', P .. 'g:' .. gid, 'after_queue', 'after', 'nonce', 'runs'))
  local after = payload and payload ~= ''
    and call('HMGET', after_queue .. 'j:' .. after_id(gid, nonce, runs), 'state', 'end')
  if after and after[1] and not after[2] then
    call('ZADD', P .. 'gend', whole(old + 60000), gid)  -- look again in a minute
  elseif after and after[1] == 'dead' and tonumber(after[2]) > old then
    call('ZADD', P .. 'gend', after[2], gid)
  else reply[#reply + 1] = gid end
end
-- Groups that an older version of the program wrote are not in all indexes.
local index, indexed = unpack(call('HMGET', P .. 'meta', 'index', 'indexed'))
if index == INDEX and call('ZCARD', P .. 'names') < call('ZCARD', P .. 'groups') then
  -- A node of an older version has submitted some since.
  call('HDEL', P .. 'meta', 'index', 'indexed')
  index, indexed = nil, nil
end
if index ~= INDEX then
  local some = call('ZRANGEBYSCORE', P .. 'groups', '(' .. (indexed or '0'), '+inf', 'WITHSCORES', 'LIMIT', 0, 500)
  for i = 1, #some, 2 do
    local gid = some[i]
    local other, nonce, runs = unpack(call('HMGET', P .. 'g:' .. gid, 'after_queue', 'nonce', 'runs'))
    local after = after_id(gid, nonce, runs)
    call('ZADD', P .. 'names', 0, name_entry(gid))
    local state, fails = unpack(call('HMGET', other .. 'j:' .. after, 'state', 'fails'))
    if state == 'dead' then note_after(P, after, AFTER_FAILED)
    elseif state == 'later' and fails then note_after(P, after, AFTER_TRYING) end
  end
  if #some > 0 then call('HSET', P .. 'meta', 'indexed', some[#some])
  else call('HSET', P .. 'meta', 'index', INDEX) end
end
local KEEP_CHANGES = 3600000  -- ms for which a forgotten group stays in `changes`
for _, gid in ipairs(call('ZRANGEBYSCORE', P .. 'gone', '-inf', whole(now - KEEP_CHANGES), 'LIMIT', 0, limit)) do
  local number, last = call('ZSCORE', P .. 'changes', gid), call('HGET', P .. 'meta', 'cgone')
  if tonumber(number or 0) > tonumber(last or 0) then call('HSET', P .. 'meta', 'cgone', number) end
  call('ZREM', P .. 'changes', gid)
  call('ZREM', P .. 'gone', gid)
end
if gone > 0 then count(P, 'forgotten', gone) end
return finished(reply)
