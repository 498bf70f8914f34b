-- One group as it stands.
-- ARGV: gid
-- reply: {} | {now, skew, place in line or -1, {its fields...}, {{job fields...}, ...}, {fields of
--        the job that follows, if there is to be one}}
local gid, g = ARGV[1], P .. 'g:' .. ARGV[1]
local f = call('HMGET', g, 'jobs', 'nonce', 'state', 'after', 'after_queue', 'runs')
if not f[1] then return {} end
local place, jobs = -1, {}
for i = 1, tonumber(f[1]) do
  local id = job_id(gid, f[2], i)
  jobs[i] = call('HMGET', P .. 'j:' .. id, 'state', 'size', 'ok', 'progress', 'res', 'why', 'err', 'prev')
  if i == 1 and f[3] == 'queued' then place = place_of(id) end
end
local after = {}
if f[4] and f[4] ~= '' then
  local id = after_id(gid, f[2], f[6])
  after = call('HMGET', f[5] .. 'j:' .. id, 'state', 'fails', 'res', 'end')
  after[5] = call('ZSCORE', f[5] .. 'later', id) or false
end
return {whole(now), whole(skew), place, call('HGETALL', g), jobs, after}
