-- Drop the members of ended groups of which some units failed, the oldest first. These groups cannot
-- be queued again then. ARGV: how many groups      reply: their ids
write_first()
local gids = {}
for _, gid in ipairs(call('ZRANGE', P .. 'kept', 0, tonumber(ARGV[1]) - 1)) do
  local jobs, nonce = unpack(call('HMGET', P .. 'g:' .. gid, 'jobs', 'nonce'))
  for i = 1, tonumber(jobs or 0) do
    local att = call('HGET', P .. 'j:' .. job_id(gid, nonce, i), 'att')
    if att then call('UNLINK', P .. 'a:' .. att) end
  end
  call('UNLINK', P .. 'n:' .. gid)
  call('ZREM', P .. 'kept', gid)
  gids[#gids + 1] = gid
end
return gids
