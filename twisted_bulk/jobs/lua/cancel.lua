-- ARGV: 'job' or 'group', id
-- reply: 1 cancelled | 0 it had ended | -1 unknown
-- A worker that holds a cancelled job learns it from its next beat.
write_first()
local id = ARGV[2]
if ARGV[1] == 'job' then
  if call('EXISTS', P .. 'j:' .. id) == 0 then return -1 end
  return finished(kill_job(id, 'cancelled') and 1 or 0)
end
local g = P .. 'g:' .. id
local f = call('HMGET', g, 'state', 'jobs', 'nonce')
if not f[1] or f[1] == 'deleted' then return -1 end
if f[1] ~= 'queued' and f[1] ~= 'running' then return 0 end
call('HSET', g, 'cancelled', 1, 'hopeless', 1)
for i = 1, tonumber(f[2]) do kill_job(job_id(id, f[3], i), 'cancelled') end
return finished(1)
