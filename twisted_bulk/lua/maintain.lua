-- What time brings: due jobs, lost leases, expiries, old records.
-- ARGV: limit keep_ms keep_count worker_dead_ms      reply: groups to forget
drains()
local limit, old = tonumber(ARGV[1]), whole(now - tonumber(ARGV[2]))
promote(limit)
reclaim(limit)
expire(limit)
for _, state in ipairs({'done', 'dead'}) do
  local ids = call('ZRANGEBYSCORE', P .. state, '-inf', old, 'LIMIT', 0, limit)
  local over = call('ZCARD', P .. state) - #ids - tonumber(ARGV[3])
  if over > 0 then ids = call('ZRANGE', P .. state, 0, math.min(limit, #ids + over) - 1) end
  for _, id in ipairs(ids) do
    -- A group's jobs go with the group.
    local gid = call('HGET', P .. 'j:' .. id, 'gid')
    if not gid or call('EXISTS', P .. 'g:' .. gid) == 0 then
      call('ZREM', P .. state, id)
      call('UNLINK', P .. 'j:' .. id, P .. 'p:' .. id)
    end
  end
end
-- A worker that holds jobs stays known until they are reclaimed.
for _, wid in ipairs(call('ZRANGEBYSCORE', P .. 'wk', '-inf', whole(now - tonumber(ARGV[4])), 'LIMIT', 0, limit)) do
  if call('EXISTS', P .. 'w:' .. wid) == 0 then call('ZREM', P .. 'wk', wid) end
end
return finished(call('ZRANGEBYSCORE', P .. 'gend', '-inf', old, 'LIMIT', 0, 100))
