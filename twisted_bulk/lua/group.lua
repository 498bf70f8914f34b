-- One group as it stands.
-- ARGV: gid      reply: {} | {now, skew, place in line or -1, {its fields...}, {{job fields...}, ...}}
local gid, g = ARGV[1], P .. 'g:' .. ARGV[1]
local f = call('HMGET', g, 'jobs', 'nonce', 'state')
if not f[1] then return {} end
local place, jobs = -1, {}
for i = 1, tonumber(f[1]) do
  local id = gid .. '@' .. f[2] .. '/' .. i
  jobs[i] = call('HMGET', P .. 'j:' .. id, 'state', 'size', 'ok', 'progress', 'res', 'why', 'err')
  if i == 1 and f[3] == 'queued' then place = place_of(id) end
end
return {whole(now), whole(skew), place, call('HGETALL', g), jobs}
