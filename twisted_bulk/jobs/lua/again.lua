-- An ended group is queued again with those of its jobs of which some units failed. The result of
-- each is kept as `prev`, with its `prevok` units: it counts again if this run fails.
-- ARGV: cap gid, then number and attachment of each job that has other data now
-- reply: how many jobs | 0 it has not ended, or nothing failed | -1 it is unknown | -2 over the cap
--        | -4 its members are not kept any more
local gid, g = ARGV[2], P .. 'g:' .. ARGV[2]
local before, ended, jobs, nonce = unpack(call('HMGET', g, 'state', 'ended', 'jobs', 'nonce'))
if not before or before == 'deleted' then return -1 end
if not ended then return 0 end
local chosen, units, replaced = {}, 0, {}
for i = 3, #ARGV, 2 do replaced[tonumber(ARGV[i])] = ARGV[i + 1] end
for i = 1, tonumber(jobs) do
  local id = job_id(gid, nonce, i)
  local state, size, ok, why, res, att = unpack(
    call('HMGET', P .. 'j:' .. id, 'state', 'size', 'ok', 'why', 'res', 'att'))
  size, ok = tonumber(size or 1), tonumber(ok or 0)
  if state and ok < size then
    if att and call('EXISTS', P .. 'a:' .. att) == 0 then return -4 end
    if replaced[i] and call('EXISTS', P .. 'a:' .. replaced[i]) == 0 then return -4 end
    chosen[#chosen + 1] = {id = id, att = att, data = replaced[i], state = state, size = size, ok = ok, why = why, res = res}
    units = units + size
  end
end
if #chosen == 0 then return 0 end
if units > room(ARGV[1]) then return -2 end
for _, job in ipairs(chosen) do
  local key = P .. 'j:' .. job.id
  if job.data then
    call('PERSIST', P .. 'a:' .. job.data)
    call('HSET', key, 'att', job.data)
    if job.att then call('UNLINK', P .. 'a:' .. job.att) end
  end
  call('ZREM', P .. job.state, job.id)
  clear(job.id)
  call('HDEL', key, 'res')
  if job.res then call('HSET', key, 'prev', job.res, 'prevok', job.ok) end
  push_todo_again(job.id)
  backlog(P, job.size)
  call('HINCRBY', g, 'left', 1)
  call('HINCRBY', g, 'ok', 0 - job.ok)
  call('HINCRBY', g, 'bad', job.ok - job.size)
  call('HINCRBY', g, 'units', -1000 * job.size)
  if job.why == 'expired' then call('HINCRBY', g, 'expired', -1) end
end
call('HDEL', g, 'ended', 'started', 'cancelled', 'hopeless')
call('HINCRBY', g, 'runs', 1)
call('HSET', g, 'before', before)  -- its zips stay until this run has ended
call('ZREM', P .. 'gend', gid)
call('ZREM', P .. 'kept', gid)
move_group(gid, g, 'queued')
count(P, 'enqueued', #chosen)
return finished(#chosen)
