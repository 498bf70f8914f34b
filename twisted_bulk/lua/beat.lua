-- A worker lives: renew its leases, note its progress.
-- ARGV: worker lease_ms, then per job: id attempt units progress
-- reply: {ids it does not hold any more}
drains()
local wid, lease, lost = ARGV[1], tonumber(ARGV[2]), {}
call('ZADD', P .. 'wk', whole(now), wid)
for b = 3, #ARGV, 4 do
  local id, key = ARGV[b], P .. 'j:' .. ARGV[b]
  local j = call('HMGET', key, 'state', 'tries', 'wid', 'units', 'gid')
  if (j[1] == 'doing' or j[1] == 'todo') and holds(j[2], j[3], wid, ARGV[b + 1]) then
    if j[1] == 'todo' then
      -- The lease ran out (the server was away), its holder lives, nobody has taken it.
      call('ZREM', P .. 'todo', id)
      call('SADD', P .. 'w:' .. wid, id)
      call('HINCRBY', key, 'lost', -1)
    end
    call('ZADD', P .. 'doing', whole(now + lease), id)
    call('HSET', key, 'state', 'doing', 'progress', ARGV[b + 3])
    -- Only forward: a second attempt starts anew, what users see does not.
    local step = tonumber(ARGV[b + 2]) - tonumber(j[4])
    if step > 0 then
      call('HSET', key, 'units', ARGV[b + 2])
      if j[5] ~= '' then call('HINCRBY', P .. 'g:' .. j[5], 'units', step) end
    end
  else lost[#lost + 1] = id end
end
return lost
