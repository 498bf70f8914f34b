-- An ended group goes on with those of its jobs that were not whole. What each had left as its
-- result is kept as `prev`, with its `prevok` units: it counts again should this run fail.
-- ARGV: cap gid
-- reply: jobs queued | 0 it has not ended, or nothing is missing | -1 unknown | -2 over the cap
--        | -4 its members are not kept any more
local gid, g = ARGV[2], P .. 'g:' .. ARGV[2]
local f = call('HMGET', g, 'state', 'ended', 'jobs', 'nonce')
if not f[1] or f[1] == 'deleted' then return -1 end
if not f[2] then return 0 end
local chosen, units = {}, 0
for i = 1, tonumber(f[3]) do
  local id = job_id(gid, f[4], i)
  local j = call('HMGET', P .. 'j:' .. id, 'state', 'size', 'ok', 'why', 'res', 'att')
  local size = tonumber(j[2] or 1)
  if j[1] and tonumber(j[3] or 0) < size then
    if j[6] and call('EXISTS', P .. 'a:' .. j[6]) == 0 then return -4 end
    chosen[#chosen + 1] = {id = id, state = j[1], size = size, ok = tonumber(j[3] or 0), why = j[4],
      res = j[5]}
    units = units + size
  end
end
if #chosen == 0 then return 0 end
if units > room(ARGV[1]) then return -2 end
for _, job in ipairs(chosen) do
  local key = P .. 'j:' .. job.id
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
call('HSET', g, 'before', f[1])  -- what was there then stays until this run has ended
call('ZREM', P .. 'gend', gid)
call('ZREM', P .. 'kept', gid)
move_group(gid, g, 'queued')
count(P, 'enqueued', #chosen)
return finished(#chosen)
