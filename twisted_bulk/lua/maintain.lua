-- What time brings: due jobs, lost leases, expiries, old records.
-- ARGV: limit keep_ms worker_dead_ms      reply: groups to forget
drains()
local limit, old = tonumber(ARGV[1]), whole(now - tonumber(ARGV[2]))
promote(limit)
reclaim(limit)
expire(limit)
for _, state in ipairs({'done', 'dead'}) do
  for _, id in ipairs(call('ZRANGEBYSCORE', P .. state, '-inf', old, 'LIMIT', 0, limit)) do
    -- A group's jobs go with the group.
    local gid = call('HGET', P .. 'j:' .. id, 'gid')
    if not gid or gid == '' or call('EXISTS', P .. 'g:' .. gid) == 0 then
      call('ZREM', P .. state, id)
      call('UNLINK', P .. 'j:' .. id)
    end
  end
end
call('ZREMRANGEBYSCORE', P .. 'wk', '-inf', whole(now - tonumber(ARGV[3])))
return call('ZRANGEBYSCORE', P .. 'gend', '-inf', old, 'LIMIT', 0, 100)
