-- Another priority for what waits. ARGV: 'job' or 'group', id, priority
-- reply: how many jobs have it now | -1 unknown
write_first()
local function one(id)
  local key = P .. 'j:' .. id
  local j = call('HMGET', key, 'state', 'score', 'lost', 'few')
  if not j[1] or j[1] == 'done' or j[1] == 'dead' then return 0 end
  local score = rescored(j[2], ARGV[3])
  call('HSET', key, 'score', score)  -- also of one that runs: it may come back
  if j[1] == 'todo' then push_todo(P, id, {score = score, lost = j[3], few = j[4]}) end
  return 1
end
if ARGV[1] == 'job' then
  if call('EXISTS', P .. 'j:' .. ARGV[2]) == 0 then return -1 end
  return one(ARGV[2])
end
local f = call('HMGET', P .. 'g:' .. ARGV[2], 'jobs', 'nonce')
if not f[1] then return -1 end
local n = 0
for i = 1, tonumber(f[1]) do n = n + one(job_id(ARGV[2], f[2], i)) end
return n
