-- Prepended to every script. KEYS[1] is the prefix of one queue's keys.
--   todo, later, doing, done, dead   ZSET  job id -> place in line | due | lease end | end | end (ms)
--   j:<job>                          HASH  one job
--   w:<worker>                       SET   the jobs that one worker process holds
--   wk                               ZSET  worker -> its last sign of life (ms)
--   exp                              ZSET  job id -> when it is too late to start (ms)
--   g:<group>                        HASH  jobs that end together, and what then follows
--   groups, gs:<state>               ZSET  group -> serial number, all and by state
--   gend                             ZSET  group -> end (ms)
--   meta                             HASH  serial numbers, `backlog` (units of size not finished)
-- Only the server's clock counts. Payloads and results are opaque bytes.
local P = KEYS[1]
local call = redis.call
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function whole(x) return string.format('%.0f', x) end

-- Over maxmemory Redis refuses a growing command only until a script's first
-- write. Scripts that empty the queue begin with this one, so a full server
-- can still be drained; scripts that fill it must not.
local function drains() call('DEL', P .. '_') end

local function move_group(gid, g, state)
  call('ZREM', P .. 'gs:' .. call('HGET', g, 'state'), gid)
  call('HSET', g, 'state', state)
  call('ZADD', P .. 'gs:' .. state, call('HGET', g, 'serial'), gid)
end

-- Put a new job into queue Q (a prefix) unless its id is known there.
local function add(Q, id, prio, first, due, expires, max, maxlost, size, gid, att, payload)
  local key = Q .. 'j:' .. id
  if call('EXISTS', key) == 1 then return 0 end
  local n
  if first == '1' then n = -call('HINCRBY', Q .. 'meta', 'lseq', 1)
  else n = call('HINCRBY', Q .. 'meta', 'seq', 1) end
  -- ZPOPMIN takes the lowest score: a higher priority comes first. Exact in a
  -- double for |prio| <= 8191.
  local score = whole(-tonumber(prio) * 1099511627776 + n)
  local waits = tonumber(due) > now
  call('HSET', key, 'payload', payload, 'state', waits and 'later' or 'todo', 'prio', prio,
    'score', score, 'tries', 0, 'lost', 0, 'max', max, 'maxlost', maxlost, 'exp', expires,
    'size', size, 'units', 0, 'gid', gid, 'att', att, 'enq', whole(now))
  if waits then call('ZADD', Q .. 'later', due, id) else call('ZADD', Q .. 'todo', score, id) end
  if tonumber(expires) > 0 then call('ZADD', Q .. 'exp', expires, id) end
  if att ~= '' then call('PERSIST', Q .. 'a:' .. att) end
  call('HINCRBY', Q .. 'meta', 'backlog', size)
  return 1
end

-- The last job of a group has ended: the group's state follows, and the job
-- that was named to come after it is queued in the same breath.
local function close_group(gid, g)
  local f = call('HMGET', g, 'cancelled', 'expired', 'jobs', 'ok', 'need', 'total',
    'after_queue', 'after', 'after_max', 'nonce')
  local state = 'failed'
  if f[1] then state = 'cancelled'
  elseif f[2] == f[3] then state = 'expired'
  elseif f[4] == f[6] then state = 'done'
  elseif tonumber(f[4]) >= tonumber(f[5]) then state = 'partial' end
  move_group(gid, g, state)
  call('HSET', g, 'ended', whole(now))
  call('HINCRBY', g, 'seq', 1)
  call('ZADD', P .. 'gend', whole(now), gid)
  if f[8] ~= '' then
    add(f[7], gid .. '@' .. f[10], '0', '0', '0', '0', f[9], '1000000', '1', '', '', f[8])
  end
end

local finish

local function settle(gid, size, ok, why, missing)
  local g = P .. 'g:' .. gid
  if call('EXISTS', g) == 0 then return end
  call('HINCRBY', g, 'units', missing)
  call('HINCRBY', g, 'ok', ok)
  local bad = call('HINCRBY', g, 'bad', size - ok)
  if why == 'expired' then call('HINCRBY', g, 'expired', 1) end
  local left = call('HINCRBY', g, 'left', -1)
  if left == 0 then return close_group(gid, g) end
  local f = call('HMGET', g, 'total', 'need', 'hopeless', 'jobs', 'nonce')
  if not f[3] and bad > tonumber(f[1]) - tonumber(f[2]) then
    -- What the group needs cannot be reached any more: end the other jobs too.
    call('HSET', g, 'hopeless', 1)
    for i = 1, tonumber(f[4]) do finish(gid .. '@' .. f[5] .. '/' .. i, 'dead', 0, 'why', 'hopeless') end
  end
end

-- End a job, once. `ok` of its `size` units succeeded; then follow fields to keep.
finish = function(id, state, ok, ...)
  local key = P .. 'j:' .. id
  local j = call('HMGET', key, 'state', 'wid', 'size', 'gid', 'att', 'units')
  if not j[1] or j[1] == 'done' or j[1] == 'dead' then return false end
  call('ZREM', P .. j[1], id)
  call('ZREM', P .. 'exp', id)
  if j[2] then call('SREM', P .. 'w:' .. j[2], id) end
  local size, missing = tonumber(j[3]), tonumber(j[3]) * 1000 - tonumber(j[6])
  call('HSET', key, 'state', state, 'end', whole(now), 'ok', ok, 'units', size * 1000, ...)
  call('HDEL', key, 'payload', 'progress')
  call('ZADD', P .. state, whole(now), id)
  if j[5] ~= '' then call('UNLINK', P .. 'a:' .. j[5]) end
  call('HINCRBY', P .. 'meta', 'backlog', -size)
  if j[4] ~= '' then settle(j[4], size, tonumber(ok), call('HGET', key, 'why'), missing) end
  return true
end

local function bury(id, why, err) return finish(id, 'dead', 0, 'why', why, 'err', err or '') end

-- A lease ran out or its owner is known to be dead: back to its old place.
local function requeue(id)
  local key = P .. 'j:' .. id
  local j = call('HMGET', key, 'wid', 'score', 'tries', 'max', 'maxlost')
  call('ZREM', P .. 'doing', id)
  if not j[2] then return end
  local lost = call('HINCRBY', key, 'lost', 1)
  if lost >= tonumber(j[5]) then return bury(id, 'poison', 'its worker was lost ' .. lost .. ' times') end
  if tonumber(j[3]) >= tonumber(j[4]) then return bury(id, 'retries', 'its worker was lost on the last try') end
  if j[1] then call('SREM', P .. 'w:' .. j[1], id) end
  call('HSET', key, 'state', 'todo')
  call('ZADD', P .. 'todo', j[2], id)
end

local function promote(limit)
  for _, id in ipairs(call('ZRANGEBYSCORE', P .. 'later', '-inf', whole(now), 'LIMIT', 0, limit)) do
    call('ZREM', P .. 'later', id)
    local score = call('HGET', P .. 'j:' .. id, 'score')
    if score then
      call('HSET', P .. 'j:' .. id, 'state', 'todo')
      call('ZADD', P .. 'todo', score, id)
    end
  end
end

local function reclaim(limit)
  for _, id in ipairs(call('ZRANGEBYSCORE', P .. 'doing', '-inf', whole(now), 'LIMIT', 0, limit)) do
    requeue(id)
  end
end

local function expire(limit)
  for _, id in ipairs(call('ZRANGEBYSCORE', P .. 'exp', '-inf', whole(now), 'LIMIT', 0, limit)) do
    local state = call('HGET', P .. 'j:' .. id, 'state')
    if state == 'todo' or state == 'later' then bury(id, 'expired') else call('ZREM', P .. 'exp', id) end
  end
end

-- Is this the reservation that `wid` was given?
local function holds(j_tries, j_wid, wid, attempt) return j_tries == attempt and j_wid == wid end
