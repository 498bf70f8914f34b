-- One group. ARGV: gid
-- reply: {} it is unknown | {now, skew, place in line or -1, {its fields ...}, {{fields of a job}, ...},
--        {fields of the job that follows; none if none does}, number of its last change}
local gid, g = ARGV[1], P .. 'g:' .. ARGV[1]
local number, nonce, state, payload, after_queue, runs = unpack(
  call('HMGET', g, 'jobs', 'nonce', 'state', 'after', 'after_queue', 'runs'))
if not number then return {} end
local place, jobs = -1, {}
for i = 1, tonumber(number) do
  local id = job_id(gid, nonce, i)
  jobs[i] = call('HMGET', P .. 'j:' .. id, 'state', 'size', 'ok', 'progress', 'res', 'why', 'err', 'prev')
  if i == 1 and state == 'queued' then place = place_of(id) end
end
local after = {}
if payload and payload ~= '' then
  local id = after_id(gid, nonce, runs)
  after = call('HMGET', after_queue .. 'j:' .. id, 'state', 'fails', 'res', 'end')
  after[5] = call('ZSCORE', after_queue .. 'later', id) or false
end
return {whole(now), whole(skew), place, call('HGETALL', g), jobs, after, call('ZSCORE', P .. 'changes', gid) or '0'}
