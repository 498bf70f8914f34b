-- What time brings: due jobs, lost leases, expiries, old records.
-- ARGV: limit keep_ms keep_count worker_dead_ms at elapsed_ms again
-- at: the queue's time as the caller was told by its last call, or 0; elapsed_ms: what its
-- monotonic clock has counted since; again: 1 if the call before was answered with {}
-- reply: {the queue's time, ms by which the server's clock was put forward (or back, below 0),
--         how many records went, groups to forget...}
--        | {} nothing was done: there may be a step, or this call was on its way for long
write_first()

-- Find a step of the server's clock. Only two clocks that disagree can tell it from an absence.
local function tick(at, elapsed, again)
  local told, mine, step = wall - skew, seen, 0
  if at > 0 then mine = math.max(seen, at + elapsed) end
  if seen > 0 and told < seen - STEP then step = told - mine
  elseif seen > 0 and at > 0 and told - seen > AHEAD and told - mine > STEP then
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

-- The time as retention sees it. It follows the queue's time, which after an absence may be wrong
-- by any amount: then it first goes on as if there had been none, and later catches up, so that
-- in an hour no more goes than else in CATCH_UP hours.
local function age()
  local aged, leapt = unpack(call('HMGET', CLOCK, 'aged', 'leapt'))
  aged, leapt = tonumber(aged or now), tonumber(leapt or 0)
  local passed = now - (seen > 0 and seen or now)
  if passed > AHEAD then
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
-- What was reckoned from the time before the step was found.
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
  -- A group whose following job has not ended stays, and then for as long again as others.
  local f = call('HMGET', P .. 'g:' .. gid, 'after_queue', 'after', 'nonce', 'runs')
  local after = f[2] and f[2] ~= '' and call('HMGET', f[1] .. 'j:' .. after_id(gid, f[3], f[4]), 'state', 'end')
  if after and after[1] and not after[2] then
    call('ZADD', P .. 'gend', whole(old + 60000), gid)  -- look again in a minute
  elseif after and after[1] == 'dead' and tonumber(after[2]) > old then
    call('ZADD', P .. 'gend', after[2], gid)
  else reply[#reply + 1] = gid end
end
if gone > 0 then count(P, 'forgotten', gone) end
return finished(reply)
