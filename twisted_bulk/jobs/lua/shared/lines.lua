-- The lines in which jobs wait, and the count of units that have not ended.

local PRIORITY = 1099511627776  -- 2^40 places in each priority; exact for |priority| <= 8191

-- A job's place in line. ZPOPMIN takes the lowest score, so a higher priority has lower ones.
local function scored(prio, serial) return whole(-tonumber(prio) * PRIORITY + serial) end

-- The same place in another priority.
local function rescored(score, prio)
  local old = -math.floor(tonumber(score) / PRIORITY + 0.5)
  return whole(tonumber(score) + (old - tonumber(prio)) * PRIORITY)
end

-- Put a job in state todo into its line. `job` has its score, and lost and few if they are not at
-- their default.
local function push_todo(Q, id, job)
  if tonumber(job.lost or 0) >= SUSPECT_LOSSES then call('ZADD', Q .. 'suspect', job.score, id)
  else
    call('ZADD', Q .. 'todo', job.score, id)
    if job.few == '1' then call('ZADD', Q .. 'small', job.score, id) end
  end
  wakes[Q] = true
end

-- Put a job that is known already back into its line, at its old place.
local function push_todo_again(id)
  local score, lost, few, gid, of = unpack(
    call('HMGET', P .. 'j:' .. id, 'score', 'lost', 'few', 'gid', 'of'))
  if not score then return end
  note_change_of(id, gid, of)
  call('HSET', P .. 'j:' .. id, 'state', 'todo')
  push_todo(P, id, {score = score, lost = lost, few = few})
end

-- Take a job out of the index of its state.
local function unlist(id, state)
  call('ZREM', P .. state, id)
  if state == 'todo' then
    call('ZREM', P .. 'suspect', id)
    call('ZREM', P .. 'small', id)
  end
end

-- Change the units that have not ended.
local function backlog(Q, change)
  local left = call('HINCRBY', Q .. 'meta', 'backlog', change)
  if left == 0 then call('HSET', Q .. 'meta', 'empty_since', whole(now))
  elseif left == tonumber(change) then call('HDEL', Q .. 'meta', 'empty_since') end
end

-- Units that may still be queued. `cap` holds unless a live setting replaces it.
local function room(cap)
  local live = call('HGET', P .. 'cfg', 'cap')
  return tonumber(live or cap) - tonumber(call('HGET', P .. 'meta', 'backlog') or '0')
end

-- How many jobs are ahead of one that waits; -1: it does not wait.
local function place_of(id)
  return call('ZRANK', P .. 'todo', id) or call('ZRANK', P .. 'suspect', id) or -1
end

-- Put a new job, whose id is unknown, into queue Q (a prefix). `job` has the fields that are not at
-- their default, and: prio, first, due (ms; 0 is now), payload.
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
  keep('max', tostring(MAX_TRIES)) keep('maxlost', tostring(MAX_LOSSES)) keep('size', '1')
  keep('few', '0') keep('exp', '0') keep('gid', '') keep('of', '') keep('att', '') keep('dd', '') keep('win', '0')
  if #job.payload <= INLINE_BYTES then keep('payload') else call('SET', Q .. 'p:' .. id, job.payload) end
  call('HSET', Q .. 'j:' .. id, unpack(set))
  job.score = score
  if waits then call('ZADD', Q .. 'later', job.due, id) else push_todo(Q, id, job) end
  if not sure and (waits or tonumber(job.exp or 0) > 0) then call('ZADD', Q .. 'doubt', whole(skew), id) end
  if tonumber(job.exp or 0) > 0 then call('ZADD', Q .. 'exp', job.exp, id) end
  if job.dd and job.dd ~= '' then call('SET', Q .. 'dd:' .. job.dd, id) end
  backlog(Q, job.size or 1)
  count(Q, 'enqueued', 1)
end

-- Queue the job of the words behind ARGV[b]: id prio first due_in_ms expires_in_ms max maxlost size
-- digest window_ms payload. `left`: units that may still be queued.
-- returns 1 queued | 0 this id is known | -2 there is no room | the id of the job with this digest
local function enqueue(b, left)
  local function at(ms) if tonumber(ms) > 0 then return whole(now + tonumber(ms)) end return '0' end
  local id, size, digest = ARGV[b + 1], tonumber(ARGV[b + 8]), ARGV[b + 9]
  if call('EXISTS', P .. 'j:' .. id) == 1 then return 0 end
  local twin = digest ~= '' and call('GET', P .. 'dd:' .. digest)
  if twin then
    count(P, 'duplicate', 1)
    return twin
  end
  if size > left then return -2 end
  add(P, id, {prio = ARGV[b + 2], first = ARGV[b + 3], due = at(ARGV[b + 4]), exp = at(ARGV[b + 5]),
    max = ARGV[b + 6], maxlost = ARGV[b + 7], size = ARGV[b + 8], dd = digest,
    win = ARGV[b + 10], payload = ARGV[b + 11]})
  return 1
end
