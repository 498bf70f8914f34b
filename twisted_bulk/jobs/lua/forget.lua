-- Remove the record of groups that have ended, with their jobs.
-- ARGV: tombstone_ms, then group ids     reply: how many
-- With tombstone_ms > 0 each id is remembered as deleted for so long, so that every
-- node can tell "deleted" from "never heard of" when it looks at its files.
write_first()
local n = 0
for i = 2, #ARGV do
  local gid, g = ARGV[i], P .. 'g:' .. ARGV[i]
  local f = call('HMGET', g, 'state', 'jobs', 'nonce', 'ended', 'owner')
  if f[4] then
    for k = 1, tonumber(f[2]) do
      local id = job_id(gid, f[3], k)
      local att = call('HGET', P .. 'j:' .. id, 'att')
      if att then call('UNLINK', P .. 'a:' .. att) end
      call('UNLINK', P .. 'j:' .. id, P .. 'p:' .. id)
      call('ZREM', P .. 'done', id)
      call('ZREM', P .. 'dead', id)
    end
    call('ZREM', P .. 'gs:' .. f[1], gid)
    call('ZREM', P .. 'groups', gid)
    if f[5] then call('ZREM', P .. 'go:' .. f[5], gid) end
    call('ZREM', P .. 'gend', gid)
    call('ZREM', P .. 'kept', gid)
    call('UNLINK', g)
    if tonumber(ARGV[1]) > 0 then
      call('HSET', g, 'state', 'deleted')
      call('PEXPIRE', g, ARGV[1])
    end
    n = n + 1
  end
end
return n
