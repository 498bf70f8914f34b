-- Drop the members of groups that have ended and are not whole, the oldest first: they cannot be
-- queued again then. ARGV: how many groups      reply: their ids
write_first()
local gids = {}
for _, gid in ipairs(call('ZRANGE', P .. 'kept', 0, tonumber(ARGV[1]) - 1)) do
  local f = call('HMGET', P .. 'g:' .. gid, 'jobs', 'nonce')
  for i = 1, tonumber(f[1] or 0) do
    local att = call('HGET', P .. 'j:' .. job_id(gid, f[2], i), 'att')
    if att then call('UNLINK', P .. 'a:' .. att) end
  end
  call('ZREM', P .. 'kept', gid)
  gids[#gids + 1] = gid
end
return gids
