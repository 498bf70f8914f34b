-- Prepended to every script. KEYS[1] is the prefix of one queue's keys.
--   todo, later, doing, done, dead   ZSET  job id -> place in line | due | lease end | end | end (ms)
--   j:<job>                          HASH  one job; a field at its default (below) is absent
--   p:<job>                          STRING its payload, if that is too long for the hash
--   w:<worker>                       SET   the jobs that one worker process holds
--   wk                               ZSET  worker -> its last sign of life (ms)
--   exp                              ZSET  job id -> when it is too late to start (ms)
--   dd:<digest>                      STRING the job that has these parameters
--   cfg                              HASH  stop, paused, max_doing, qps, cap: live settings
--   meta                             HASH  serial numbers; backlog (units not finished);
--                                          empty_since, alive, hold (ms)
--   rl                               STRING when the next start is due under qps (us)
--   m:<minute>                       HASH  what happened in it
--   wake                             channel: something can be taken
--   g:<group>                        HASH  jobs that end together, and what then follows
--   groups, gs:<state>, go:<owner>   ZSET  group -> serial number, all and by state or owner
--   gend                             ZSET  group -> end (ms)
-- Only the server's clock counts. Payloads and results are opaque bytes.
local P = KEYS[1]
local call = redis.call
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local MAX, MAXLOST = 3, 3           -- tries, and lost workers, where a job says nothing else
local SMALL = 64                    -- a longer value would cost a hash its compact form
local GAP, HOLD = 5000, 8000        -- ms; see `may_reclaim`
local PRIORITY = 1099511627776      -- 2^40 places in each priority; exact for |priority| <= 8191

local function whole(x) return string.format('%.0f', x) end

-- Over maxmemory Redis refuses a growing command only until a script's first
-- write. Scripts that empty the queue begin with this one, so a full server
-- can still be drained; scripts that fill it must not.
local function drains() call('DEL', P .. '_') end

-- What happened, by queue; written once, by `finished`.
local tally, wakes = {}, {}
local function count(Q, what, n)
  tally[Q] = tally[Q] or {}
  tally[Q][what] = (tally[Q][what] or 0) + n
end

-- How every script that changes something ends.
local function finished(reply)
  for Q, events in pairs(tally) do
    local key = Q .. 'm:' .. whole(math.floor(now / 60000))
    for what, n in pairs(events) do
      if call('HINCRBY', key, what, whole(n)) == n then call('EXPIRE', key, 172800) end
    end
  end
  for Q in pairs(wakes) do call('PUBLISH', Q .. 'wake', '') end
  return reply
end

local function line_up(Q, id, score)
  call('ZADD', Q .. 'todo', score, id)
  wakes[Q] = true
end

local function backlog(Q, change)
  local left = call('HINCRBY', Q .. 'meta', 'backlog', change)
  if left == 0 then call('HSET', Q .. 'meta', 'empty_since', whole(now))
  elseif left == tonumber(change) then call('HDEL', Q .. 'meta', 'empty_since') end
end

-- ZPOPMIN takes the lowest score: a higher priority comes first.
local function scored(prio, serial) return whole(-tonumber(prio) * PRIORITY + serial) end
local function rescored(score, prio)
  local old = -math.floor(tonumber(score) / PRIORITY + 0.5)
  return whole(tonumber(score) + (old - tonumber(prio)) * PRIORITY)
end

local function move_group(gid, g, state)
  call('ZREM', P .. 'gs:' .. call('HGET', g, 'state'), gid)
  call('HSET', g, 'state', state)
  call('ZADD', P .. 'gs:' .. state, call('HGET', g, 'serial'), gid)
end

-- Put a new job, whose id is unknown, into queue Q (a prefix). `job` has the fields that
-- are not at their default, and: prio, first, due (ms, 0 for now), payload.
local function add(Q, id, job)
  local serial
  if job.first == '1' then serial = -call('HINCRBY', Q .. 'meta', 'lseq', 1)
  else serial = call('HINCRBY', Q .. 'meta', 'seq', 1) end
  local score, waits = scored(job.prio or 0, serial), tonumber(job.due or 0) > now
  local set = {'state', waits and 'later' or 'todo', 'score', score, 'enq', whole(now)}
  local function keep(name, default)
    if job[name] and tostring(job[name]) ~= default then
      set[#set + 1] = name
      set[#set + 1] = job[name]
    end
  end
  keep('max', tostring(MAX)) keep('maxlost', tostring(MAXLOST)) keep('size', '1')
  keep('exp', '0') keep('gid', '') keep('att', '') keep('dd', '') keep('win', '0')
  if #job.payload <= SMALL then keep('payload') else call('SET', Q .. 'p:' .. id, job.payload) end
  call('HSET', Q .. 'j:' .. id, unpack(set))
  if waits then call('ZADD', Q .. 'later', job.due, id) else line_up(Q, id, score) end
  if tonumber(job.exp or 0) > 0 then call('ZADD', Q .. 'exp', job.exp, id) end
  if job.dd and job.dd ~= '' then call('SET', Q .. 'dd:' .. job.dd, id) end
  backlog(Q, job.size or 1)
  count(Q, 'enqueued', 1)
end

-- The last job of a group has ended: the group's state follows, and the job
-- that was named to come after it is queued in the same breath.
local function close_group(gid, g)
  local f = call('HMGET', g, 'cancelled', 'expired', 'jobs', 'ok', 'need', 'total',
    'after_queue', 'after', 'after_max', 'nonce', 'runs')
  local state = 'failed'
  local enough = tonumber(f[4]) >= tonumber(f[5])
  if f[1] and not (f[11] and enough) then state = 'cancelled'
  elseif f[2] == f[3] then state = 'expired'
  elseif f[4] == f[6] then state = 'done'
  elseif enough then state = 'partial' end
  move_group(gid, g, state)
  call('HSET', g, 'ended', whole(now))
  call('HINCRBY', g, 'seq', 1)
  call('ZADD', P .. 'gend', whole(now), gid)
  if f[8] ~= '' then
    add(f[7], gid .. '@' .. f[10] .. (f[11] and '+' .. f[11] or ''), {max = f[9], maxlost = '0', payload = f[8]})
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

-- A twin may come again: at once after a failure, after the window after a success.
local function free_twin(id, digest, window)
  local key = P .. 'dd:' .. digest
  if call('GET', key) ~= id then return end
  if tonumber(window or 0) > 0 then call('PEXPIRE', key, window) else call('DEL', key) end
end

local function drop_payload(id)
  if call('HDEL', P .. 'j:' .. id, 'payload') == 0 then call('UNLINK', P .. 'p:' .. id) end
end

-- End a job, once. `ok` of its `size` units succeeded; then follow fields to keep.
finish = function(id, state, ok, ...)
  local key = P .. 'j:' .. id
  local j = call('HMGET', key, 'state', 'wid', 'size', 'gid', 'att', 'units', 'dd', 'win', 'exp', 'at',
    'prev', 'prevok')
  if not j[1] or j[1] == 'done' or j[1] == 'dead' then return false end
  call('ZREM', P .. j[1], id)
  if j[9] then call('ZREM', P .. 'exp', id) end
  if j[2] then call('SREM', P .. 'w:' .. j[2], id) end
  local size = tonumber(j[3] or 1)
  if state == 'dead' and j[11] then
    ok = tonumber(j[12])  -- a further run that fails leaves what the one before it had
    call('HSET', key, 'res', j[11])
  end
  call('HSET', key, 'state', state, 'end', whole(now), 'ok', ok, ...)
  -- What is not whole may be asked for again: it keeps what it was.
  local done = state == 'done' and (not j[4] or tonumber(ok) >= size)
  if done then drop_payload(id) end
  call('ZADD', P .. state, whole(now), id)
  if j[5] and (done or not j[4]) then call('UNLINK', P .. 'a:' .. j[5]) end
  if j[7] then free_twin(id, j[7], state == 'done' and j[8]) end
  backlog(P, -size)
  if state == 'done' then
    count(P, 'done', 1)
    count(P, 'units', size)
    if j[10] then count(P, 'busy', math.max(0, now - j[10])) end
  else
    count(P, call('HGET', key, 'why') == 'expired' and 'expired' or 'failed', 1)
  end
  if j[4] then
    local missing = size * 1000 - tonumber(j[6] or 0)
    call('HSET', key, 'units', size * 1000)
    settle(j[4], size, tonumber(ok), call('HGET', key, 'why'), missing)
  end
  return true
end

local function bury(id, why, err)
  if err and err ~= '' then return finish(id, 'dead', 0, 'why', why, 'err', err) end
  return finish(id, 'dead', 0, 'why', why)
end

-- A lease ran out or its owner is known to be dead: back to its old place.
local function requeue(id)
  local key = P .. 'j:' .. id
  local j = call('HMGET', key, 'wid', 'score', 'tries', 'max', 'maxlost')
  call('ZREM', P .. 'doing', id)
  if not j[2] then return end
  local lost, most = call('HINCRBY', key, 'lost', 1), tonumber(j[5] or MAXLOST)
  count(P, 'lost', 1)
  if most == 0 then
    call('HINCRBY', key, 'tries', -1)  -- a lost worker says nothing about this job
  elseif lost >= most then
    return bury(id, 'poison', 'its worker was lost ' .. lost .. ' times')
  elseif tonumber(j[3]) >= tonumber(j[4] or MAX) then
    return bury(id, 'retries', 'its worker was lost on the last try')
  end
  if j[1] then call('SREM', P .. 'w:' .. j[1], id) end
  call('HSET', key, 'state', 'todo')
  line_up(P, id, j[2])
end

local function promote(limit)
  for _, id in ipairs(call('ZRANGEBYSCORE', P .. 'later', '-inf', whole(now), 'LIMIT', 0, limit)) do
    call('ZREM', P .. 'later', id)
    local score = call('HGET', P .. 'j:' .. id, 'score')
    if score then
      call('HSET', P .. 'j:' .. id, 'state', 'todo')
      line_up(P, id, score)
    end
  end
end

-- No worker has been heard for a while: the server was away, or all of them were. Their leases
-- may have run out without a fault of theirs, so for two heartbeats (and the time that a
-- reconnection takes) nothing is taken from them.
local function may_reclaim()
  local f = call('HMGET', P .. 'meta', 'alive', 'hold')
  return not (f[1] and now - f[1] > GAP) and not (f[2] and now < tonumber(f[2]))
end

-- A worker gives a sign of life.
local function alive(wid)
  call('ZADD', P .. 'wk', whole(now), wid)
  local last = call('HGET', P .. 'meta', 'alive')
  if last and now - last > GAP then call('HSET', P .. 'meta', 'hold', whole(now + HOLD)) end
  if not last or now - last > 250 then
    call('HSET', P .. 'meta', 'alive', whole(now))
    local f = call('HMGET', P .. 'meta', 'backlog', 'empty_since')
    if not f[2] and tonumber(f[1] or 0) == 0 then call('HSET', P .. 'meta', 'empty_since', whole(now)) end
  end
end

local function reclaim(limit)
  local ids = call('ZRANGEBYSCORE', P .. 'doing', '-inf', whole(now), 'LIMIT', 0, limit)
  if #ids > 0 and may_reclaim() then for _, id in ipairs(ids) do requeue(id) end end
end

local function expire(limit)
  for _, id in ipairs(call('ZRANGEBYSCORE', P .. 'exp', '-inf', whole(now), 'LIMIT', 0, limit)) do
    local state = call('HGET', P .. 'j:' .. id, 'state')
    if state == 'todo' or state == 'later' then bury(id, 'expired') else call('ZREM', P .. 'exp', id) end
  end
end

-- Is this the reservation that `wid` was given?
local function holds(j_tries, j_wid, wid, attempt) return j_tries == attempt and j_wid == wid end

-- Take the worker off a job and put that where `state` says.
local function hand_back(id, wid, state, score)
  call('ZREM', P .. 'doing', id)
  call('SREM', P .. 'w:' .. wid, id)
  call('HSET', P .. 'j:' .. id, 'state', state)
  if state == 'todo' then line_up(P, id, score) else call('ZADD', P .. state, score, id) end
end

local function room(cap)
  local live = call('HGET', P .. 'cfg', 'cap')
  return tonumber(live or cap) - tonumber(call('HGET', P .. 'meta', 'backlog') or '0')
end
