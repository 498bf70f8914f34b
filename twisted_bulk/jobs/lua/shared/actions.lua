-- What users do with groups: cancel, queue again, forget, change the priority; and with the job that
-- follows one: revive. Each returns the reply of the script of its name.

-- End all jobs of a group. A worker that has one of them learns it from its next heartbeat.
-- Returns 1 cancelled | 0 it had ended | -1 it is unknown
local function cancel_group(gid)
  local g = P .. 'g:' .. gid
  local state, jobs, nonce = unpack(call('HMGET', g, 'state', 'jobs', 'nonce'))
  if not state or state == 'deleted' then return -1 end
  if state ~= 'queued' and state ~= 'running' then return 0 end
  call('HSET', g, 'cancelled', 1, 'hopeless', 1)
  for i = 1, tonumber(jobs) do kill_job(job_id(gid, nonce, i), 'cancelled') end
  return 1
end

-- Another priority for a job that waits. Returns 1 it has it | 0 it has ended, or is unknown
local function prioritise_job(id, priority)
  local key = P .. 'j:' .. id
  local state, old, lost, few = unpack(call('HMGET', key, 'state', 'score', 'lost', 'few'))
  if not state or state == 'done' or state == 'dead' then return 0 end
  local score = rescored(old, priority)
  call('HSET', key, 'score', score)  -- also of a job that runs: it may be given back
  if state == 'todo' then push_todo(P, id, {score = score, lost = lost, few = few}) end
  return 1
end

-- Returns how many jobs have the priority now | -1 the group is unknown
local function prioritise_group(gid, priority)
  local jobs, nonce = unpack(call('HMGET', P .. 'g:' .. gid, 'jobs', 'nonce'))
  if not jobs then return -1 end
  local n = 0
  for i = 1, tonumber(jobs) do n = n + prioritise_job(job_id(gid, nonce, i), priority) end
  note_change(P, gid)
  return n
end

-- The jobs of a group of which some units failed, as a list, and the sum of their units; or nil and
-- -1 it is unknown | 0 it has not ended, or nothing failed | -4 its members are not kept any more
-- replaced: keys of new attachments by the numbers of jobs
-- wanted: a set of the numbers of jobs; nil: all
local function failed_jobs(gid, replaced, wanted)
  local state, ended, jobs, nonce = unpack(
    call('HMGET', P .. 'g:' .. gid, 'state', 'ended', 'jobs', 'nonce'))
  if not state or state == 'deleted' then return nil, -1 end
  if not ended then return nil, 0 end
  local chosen, units = {}, 0
  for i = 1, tonumber(jobs) do
    local id = job_id(gid, nonce, i)
    local job_state, size, ok, why, res, att, tags = unpack(
      call('HMGET', P .. 'j:' .. id, 'state', 'size', 'ok', 'why', 'res', 'att', 'tags'))
    size, ok = tonumber(size or 1), tonumber(ok or 0)
    if job_state and ok < size and (not wanted or wanted[i]) then
      if att and call('EXISTS', P .. 'a:' .. att) == 0 then return nil, -4 end
      if replaced[i] and call('EXISTS', P .. 'a:' .. replaced[i]) == 0 then return nil, -4 end
      chosen[#chosen + 1] = {id = id, att = att, data = replaced[i], state = job_state, size = size,
        ok = ok, why = why, res = res, tags = tags or ''}
      units = units + size
    end
  end
  if #chosen == 0 then return nil, 0 end
  return chosen, units
end

-- An ended group is queued again with those of its jobs of which some units failed. The result of
-- each is kept as `prev`, with its `prevok` units: it counts again if this run fails.
-- only: opaque bytes for the worker, which of the units that failed are wanted; '': all
-- Returns how many jobs | what `failed_jobs` returns | -2 over the cap
local function again_group(gid, cap, replaced, wanted, only)
  local g = P .. 'g:' .. gid
  local chosen, units = failed_jobs(gid, replaced, wanted)
  if not chosen then return units end
  if units > room(cap) then return -2 end
  local before, jobs, nonce = unpack(call('HMGET', g, 'state', 'jobs', 'nonce'))
  note_after(P, gid .. '@', nil)
  for _, job in ipairs(chosen) do
    local key = P .. 'j:' .. job.id
    if job.data then
      call('PERSIST', P .. 'a:' .. job.data)
      call('HSET', key, 'att', job.data)
      if job.att then call('UNLINK', P .. 'a:' .. job.att) end
    end
    call('ZREM', P .. job.state, job.id)
    clear(job.id)
    call('HDEL', key, 'res', 'prevtags')
    if job.res then
      call('HSET', key, 'prev', job.res, 'prevok', job.ok)
      if job.tags ~= '' then call('HSET', key, 'prevtags', job.tags) end
    end
    push_todo_again(job.id)
    backlog(P, job.size)
    call('HINCRBY', g, 'left', 1)
    call('HINCRBY', g, 'ok', 0 - job.ok)
    call('HINCRBY', g, 'bad', job.ok - job.size)
    call('HINCRBY', g, 'units', -1000 * job.size)
    if job.why == 'expired' then call('HINCRBY', g, 'expired', -1) end
  end
  local tags = {}
  for _, job in ipairs(chosen) do
    for tag in string.gmatch(job.tags, '[^,]+') do tags[tag] = true end
  end
  untag_group(gid, jobs, nonce, tags)
  call('HDEL', g, 'ended', 'started', 'cancelled', 'hopeless', 'only')
  if only ~= '' then call('HSET', g, 'only', only) end
  call('HINCRBY', g, 'runs', 1)
  call('HSET', g, 'queued', whole(now))
  call('HSET', g, 'before', before)  -- its zips stay until this run has ended
  call('ZREM', P .. 'gend', gid)
  call('ZREM', P .. 'kept', gid)
  move_group(gid, g, 'queued')
  count(P, 'enqueued', #chosen)
  return #chosen
end

-- Remove the record of a group that has ended, with its jobs.
-- tombstone: ms for which the id is known as deleted. So every node can tell a deleted batch from one
-- that it never knew, when it looks at its files.
-- Returns 1 removed | 0 it has not ended, or is unknown
local function forget_group(gid, tombstone)
  local g = P .. 'g:' .. gid
  local state, jobs, nonce, ended, owner = unpack(
    call('HMGET', g, 'state', 'jobs', 'nonce', 'ended', 'owner'))
  if not ended then return 0 end
  for k = 1, tonumber(jobs) do
    local id = job_id(gid, nonce, k)
    local att, tags = unpack(call('HMGET', P .. 'j:' .. id, 'att', 'tags'))
    for tag in string.gmatch(tags or '', '[^,]+') do call('ZREM', P .. 'gt:' .. tag, gid) end
    if att then call('UNLINK', P .. 'a:' .. att) end
    call('UNLINK', P .. 'j:' .. id, P .. 'p:' .. id)
    call('ZREM', P .. 'done', id)
    call('ZREM', P .. 'dead', id)
  end
  unindex_group(gid, state, owner)
  note_after(P, gid .. '@', nil)
  call('ZREM', P .. 'gend', gid)
  call('ZREM', P .. 'kept', gid)
  call('UNLINK', g, P .. 'n:' .. gid)
  call('ZADD', P .. 'gone', whole(now), gid)
  note_change(P, gid)
  if tonumber(tombstone) > 0 then
    call('HSET', g, 'state', 'deleted')
    call('PEXPIRE', g, tombstone)
  end
  return 1
end

-- A dead job is queued again, with all its tries. One that follows a group and waits for its next try
-- is due now.
-- Returns 1 queued | 0 it is not dead, or belongs to a group | -1 it is unknown | -2 over the cap
--         | the id of another job with its digest
local function revive_job(id, cap)
  local key = P .. 'j:' .. id
  local state, gid, digest, size, payload, of = unpack(
    call('HMGET', key, 'state', 'gid', 'dd', 'size', 'payload', 'of'))
  if not state then return -1 end
  if state == 'later' and of then  -- it waits for its next try: that is made now
    unlist(id, state)
    note_after(of, id, nil)
    push_todo_again(id)
    return 1
  end
  if state ~= 'dead' or gid or not (payload or call('EXISTS', P .. 'p:' .. id) == 1) then return 0 end
  local twin = digest and call('GET', P .. 'dd:' .. digest)
  if twin then return twin end
  if tonumber(size or 1) > room(cap) then return -2 end
  call('ZREM', P .. 'dead', id)
  clear(id)
  if of then note_after(of, id, nil) end
  if digest then call('SET', P .. 'dd:' .. digest, id) end
  push_todo_again(id)
  backlog(P, size or 1)
  count(P, 'enqueued', 1)
  return 1
end

-- Call `act(...)` on the queue whose prefix is `other`.
local function in_queue(other, act, ...)
  local mine = P
  P = other
  local reply = act(...)
  P = mine
  return reply
end
