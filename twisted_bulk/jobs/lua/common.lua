-- Prepended to every script. KEYS[1] is the prefix of one queue's keys.
--   todo, later, doing, done, dead   ZSET  job id -> place in line | due | lease end | end | end (ms)
--   suspect                          ZSET  instead of todo, for jobs that may have killed their worker
--   small                            ZSET  those of todo that belong to a group of few units
--   j:<job>                          HASH  one job; a field at its default (below) is absent
--   p:<job>                          STRING its payload, if that is too long for the hash
--   w:<worker>                       SET   the jobs that one worker process holds
--   wk                               ZSET  worker -> its last sign of life (ms)
--   waits                            HASH  worker -> why it takes nothing now
--   exp                              ZSET  job id -> when it is too late to start (ms)
--   dd:<digest>                      STRING the job that has these parameters
--   cfg                              HASH  stop, paused, max_doing, qps, cap: live settings
--   meta                             HASH  serial numbers; backlog (units not finished);
--                                          empty_since, alive, hold (ms)
--   doubt                            ZSET  jobs with a time that was reckoned before the next tick -> `skew` then
--   rl                               STRING when the next start is due under qps (us)
--   m:<minute>                       HASH  what happened in it
--   wake                             channel: something can be taken
--   g:<group>                        HASH  jobs that end together, and what then follows
--   groups, gs:<state>, go:<owner>   ZSET  group -> serial number, all and by state or owner
--   kept                             ZSET  group that has ended, and whose members stay, as not all
--                                          jobs were whole -> when it ended (ms)
--   gend                             ZSET  group -> when its retention begins (ms)
-- One for all queues, bw:{bulkwav}:clock:
--                                    HASH  the queue's time, see below
-- Payloads and results are opaque bytes.
--
-- The queue's time (ms) is the server's clock less `skew`. It never goes back. A step of the
-- server's clock is found by `tick`, which every node calls each second with what its own
-- monotonic clock has counted, and goes into `skew`. Between the step and the next tick the time
-- is at most AHEAD beyond the last one, and nothing is taken, expired or forgotten.
--   seen   the time at the last tick
--   leapt  when the time last went on by more than AHEAD at once: nobody was there to tick
--   aged   the time as retention sees it: after a leap it catches up slowly
local P = KEYS[1]
local CLOCK = 'bw:{bulkwav}:clock'
local call = redis.call
local time = call('TIME')
local wall = time[1] * 1000 + math.floor(time[2] / 1000)

local MAX, MAXLOST = 3, 3           -- tries, and lost workers, where a job says nothing else
local SUSPECT = 2                   -- losses in a row from which a job is run alone
local SMALL = 64                    -- bytes; a longer value would cost a hash its compact form
local FEW = 100                     -- units of a group up to which its jobs are in `small`
local GAP, HOLD = 5000, 8000        -- ms; see `may_reclaim`
local AHEAD, STEP = 5000, 2000      -- ms; a difference of STEP between two clocks is a step
local TRUST, CATCH_UP = 120000, 4   -- ms without a leap, after which `aged` runs 4 times as fast
local PRIORITY = 1099511627776      -- 2^40 places in each priority; exact for |priority| <= 8191

local skew, seen = unpack(call('HMGET', CLOCK, 'skew', 'seen'))
skew, seen = tonumber(skew or 0), tonumber(seen or 0)
local now = math.max(wall - skew, seen)
local sure = seen == 0 or now - seen <= AHEAD
-- Where nobody ticks only producers run, and their delays count from the true time.
if not sure and not PRODUCES then now = seen + AHEAD end

local function whole(x) return string.format('%.0f', x) end

-- Over maxmemory Redis refuses a growing command only until a script's first
-- write. Scripts that empty the queue begin with this one, so a full server
-- can still be drained; scripts that fill it must not.
local function write_first() call('DEL', P .. '_') end

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

-- Put a job whose state is todo into its line. `job` has its score, and lost and few where they are
-- not at their default.
local function push_todo(Q, id, job)
  if tonumber(job.lost or 0) >= SUSPECT then call('ZADD', Q .. 'suspect', job.score, id)
  else
    call('ZADD', Q .. 'todo', job.score, id)
    if job.few == '1' then call('ZADD', Q .. 'small', job.score, id) end
  end
  wakes[Q] = true
end

local function push_todo_again(id)
  local j = call('HMGET', P .. 'j:' .. id, 'score', 'lost', 'few')
  if not j[1] then return end
  call('HSET', P .. 'j:' .. id, 'state', 'todo')
  push_todo(P, id, {score = j[1], lost = j[2], few = j[3]})
end

-- Take a job out of the index of its state.
local function unlist(id, state)
  call('ZREM', P .. state, id)
  if state == 'todo' then
    call('ZREM', P .. 'suspect', id)
    call('ZREM', P .. 'small', id)
  end
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
  keep('few', '0') keep('exp', '0') keep('gid', '') keep('att', '') keep('dd', '') keep('win', '0')
  if #job.payload <= SMALL then keep('payload') else call('SET', Q .. 'p:' .. id, job.payload) end
  call('HSET', Q .. 'j:' .. id, unpack(set))
  job.score = score
  if waits then call('ZADD', Q .. 'later', job.due, id) else push_todo(Q, id, job) end
  if not sure and (waits or tonumber(job.exp or 0) > 0) then call('ZADD', Q .. 'doubt', whole(skew), id) end
  if tonumber(job.exp or 0) > 0 then call('ZADD', Q .. 'exp', job.exp, id) end
  if job.dd and job.dd ~= '' then call('SET', Q .. 'dd:' .. job.dd, id) end
  backlog(Q, job.size or 1)
  count(Q, 'enqueued', 1)
end

-- The ids of a group's jobs, the one place where they are made; `nonce` is its first run's.
local function job_id(gid, nonce, number) return gid .. '@' .. nonce .. '/' .. number end

-- The id of the job that follows a group's run.
local function after_id(gid, nonce, runs) return gid .. '@' .. nonce .. (runs and '+' .. runs or '') end

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
  if state ~= 'done' then call('ZADD', P .. 'kept', whole(now), gid) end
  if f[8] ~= '' then
    add(f[7], after_id(gid, f[10], f[11]), {max = f[9], maxlost = '0', payload = f[8]})
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
    for i = 1, tonumber(f[4]) do finish(job_id(gid, f[5], i), 'dead', 0, 'why', 'hopeless') end
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
  unlist(id, j[1])
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

local function kill_job(id, why, err)
  if err and err ~= '' then return finish(id, 'dead', 0, 'why', why, 'err', err) end
  return finish(id, 'dead', 0, 'why', why)
end

-- A lease ran out or its owner is known to be dead: back to its old place. That uses up no try.
-- It counts against the job only where nothing of it had got further since the loss before. After
-- SUSPECT of these in a row it is a suspect, and is next run alone. A job that was lost `maxlost`
-- times in a row while it ran alone is buried. `kept`: units that are known to be done and kept;
-- `blamed`: the worker died by itself.
local function requeue(id, kept, blamed)
  local key = P .. 'j:' .. id
  local j = call('HMGET', key, 'wid', 'score', 'maxlost', 'units', 'sunits', 'skept', 'alone')
  call('ZREM', P .. 'doing', id)
  if not j[2] then return end
  count(P, 'lost', 1)
  if j[1] then call('SREM', P .. 'w:' .. j[1], id) end
  local most, units = tonumber(j[3] or MAXLOST), tonumber(j[4] or 0)
  if most == 0 then
    call('HINCRBY', key, 'tries', -1)  -- a lost worker says nothing about this job
    return push_todo_again(id)
  end
  call('HINCRBY', key, 'free', 1)
  kept = tonumber(kept or 0)
  if units > tonumber(j[5] or 0) or kept > tonumber(j[6] or 0) then
    call('HSET', key, 'sunits', units, 'skept', math.max(kept, tonumber(j[6] or 0)))
    call('HDEL', key, 'lost', 'solo')
  else
    call('HINCRBY', key, 'lost', 1)
    local alone = j[7] == '1' or (j[7] == '2' and blamed)
    if alone and call('HINCRBY', key, 'solo', 1) >= most then
      return kill_job(id, 'poison', 'its worker was lost ' .. most .. ' times while it ran alone')
    end
  end
  push_todo_again(id)
end

local function promote(limit)
  if not sure then return end
  for _, id in ipairs(call('ZRANGEBYSCORE', P .. 'later', '-inf', whole(now), 'LIMIT', 0, limit)) do
    call('ZREM', P .. 'later', id)
    push_todo_again(id)
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
  if not sure then return end
  local ids = call('ZRANGEBYSCORE', P .. 'doing', '-inf', whole(now), 'LIMIT', 0, limit)
  if #ids > 0 and may_reclaim() then for _, id in ipairs(ids) do requeue(id) end end
end

local function expire(limit)
  if not sure then return end
  for _, id in ipairs(call('ZRANGEBYSCORE', P .. 'exp', '-inf', whole(now), 'LIMIT', 0, limit)) do
    local state = call('HGET', P .. 'j:' .. id, 'state')
    if state == 'todo' or state == 'later' then kill_job(id, 'expired') else call('ZREM', P .. 'exp', id) end
  end
end

-- Is this the reservation that `wid` was given?
local function holds(j_tries, j_wid, wid, attempt) return j_tries == attempt and j_wid == wid end

-- Take the worker off a job and put that into the index of `state`, for later with when it is due.
local function hand_back(id, wid, state, due)
  call('ZREM', P .. 'doing', id)
  call('SREM', P .. 'w:' .. wid, id)
  if state == 'todo' then return push_todo_again(id) end
  call('HSET', P .. 'j:' .. id, 'state', state)
  call('ZADD', P .. state, due, id)
end

-- Jobs ahead of one that waits, or -1.
local function place_of(id)
  return call('ZRANK', P .. 'todo', id) or call('ZRANK', P .. 'suspect', id) or -1
end

-- A job that has ended begins anew.
local function clear(id)
  call('HDEL', P .. 'j:' .. id, 'tries', 'free', 'lost', 'solo', 'sunits', 'skept', 'alone', 'wid',
    'at', 'end', 'ok', 'why', 'err', 'exp', 'units', 'progress', 'fails')
end

local function room(cap)
  local live = call('HGET', P .. 'cfg', 'cap')
  return tonumber(live or cap) - tonumber(call('HGET', P .. 'meta', 'backlog') or '0')
end
