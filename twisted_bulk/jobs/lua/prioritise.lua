-- Another priority for jobs that wait. ARGV: 'job' or 'group', id, priority
-- reply: how many jobs have it now | -1 unknown
write_first()
local function one(id)
  local key = P .. 'j:' .. id
  local state, old, lost, few = unpack(call('HMGET', key, 'state', 'score', 'lost', 'few'))
  if not state or state == 'done' or state == 'dead' then return 0 end
  local score = rescored(old, ARGV[3])
  call('HSET', key, 'score', score)  -- also of a job that runs: it may be given back
  if state == 'todo' then push_todo(P, id, {score = score, lost = lost, few = few}) end
  return 1
end
if ARGV[1] == 'job' then
  if call('EXISTS', P .. 'j:' .. ARGV[2]) == 0 then return -1 end
  return finished(one(ARGV[2]))
end
local jobs, nonce = unpack(call('HMGET', P .. 'g:' .. ARGV[2], 'jobs', 'nonce'))
if not jobs then return -1 end
local n = 0
for i = 1, tonumber(jobs) do n = n + one(job_id(ARGV[2], nonce, i)) end
note_change(P, ARGV[2])
return finished(n)
