-- End a job, or all jobs of a group. A worker that has one of them learns it from its next heartbeat.
-- ARGV: 'job' or 'group', id
-- reply: 1 cancelled | 0 it had ended | -1 it is unknown
write_first()
local id = ARGV[2]
if ARGV[1] == 'job' then
  if call('EXISTS', P .. 'j:' .. id) == 0 then return -1 end
  return finished(kill_job(id, 'cancelled') and 1 or 0)
end
local g = P .. 'g:' .. id
local state, jobs, nonce = unpack(call('HMGET', g, 'state', 'jobs', 'nonce'))
if not state or state == 'deleted' then return -1 end
if state ~= 'queued' and state ~= 'running' then return 0 end
call('HSET', g, 'cancelled', 1, 'hopeless', 1)
for i = 1, tonumber(jobs) do kill_job(job_id(id, nonce, i), 'cancelled') end
return finished(1)
