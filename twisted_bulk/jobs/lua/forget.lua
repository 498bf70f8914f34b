-- Remove the records of groups that have ended, with their jobs.
-- ARGV: tombstone_ms, then group ids     reply: how many
-- With tombstone_ms > 0 each id is known as deleted for so long. So every node can tell a deleted
-- batch from one that it never knew, when it looks at its files.
write_first()
local n = 0
for i = 2, #ARGV do
  local gid, g = ARGV[i], P .. 'g:' .. ARGV[i]
  local state, jobs, nonce, ended, owner = unpack(
    call('HMGET', g, 'state', 'jobs', 'nonce', 'ended', 'owner'))
  if ended then
    for k = 1, tonumber(jobs) do
      local id = job_id(gid, nonce, k)
      local att = call('HGET', P .. 'j:' .. id, 'att')
      if att then call('UNLINK', P .. 'a:' .. att) end
      call('UNLINK', P .. 'j:' .. id, P .. 'p:' .. id)
      call('ZREM', P .. 'done', id)
      call('ZREM', P .. 'dead', id)
    end
    call('ZREM', P .. 'gs:' .. state, gid)
    call('ZREM', P .. 'groups', gid)
    if owner then call('ZREM', P .. 'go:' .. owner, gid) end
    call('ZREM', P .. 'gend', gid)
    call('ZREM', P .. 'kept', gid)
    call('UNLINK', g, P .. 'n:' .. gid)
    call('ZADD', P .. 'gone', whole(now), gid)
    note_change(P, gid)
    if tonumber(ARGV[1]) > 0 then
      call('HSET', g, 'state', 'deleted')
      call('PEXPIRE', g, ARGV[1])
    end
    n = n + 1
  end
end
return finished(n)
