-- A worker lives: renew its leases, note its progress.
-- ARGV: worker lease_ms why, then per job: id attempt units progress
-- why: what keeps it from taking more, or empty
-- reply: {stop, paused, {ids that it does not hold any more}, {those of them that were cancelled}}
write_first()
local wid, lease, lost, cancelled = ARGV[1], tonumber(ARGV[2]), {}, {}
alive(wid)
if ARGV[3] ~= '' then call('HSET', P .. 'waits', wid, ARGV[3]) else call('HDEL', P .. 'waits', wid) end
for b = 4, #ARGV, 4 do
  local id, key = ARGV[b], P .. 'j:' .. ARGV[b]
  local j = call('HMGET', key, 'state', 'tries', 'wid', 'units', 'gid', 'why')
  local held = holds(j[2], j[3], wid, ARGV[b + 1])
  if held and (j[1] == 'doing' or j[1] == 'todo') then
    if j[1] == 'todo' then
      -- The lease ran out (the server was away), its holder lives, nobody has taken it.
      unlist(id, 'todo')
      call('SADD', P .. 'w:' .. wid, id)
      call('HINCRBY', key, 'free', -1)
      if call('HINCRBY', key, 'lost', -1) <= 0 then call('HDEL', key, 'lost') end
      call('HDEL', key, 'solo')  -- its worker lives
      call('HSET', key, 'state', 'doing')
    end
    call('ZADD', P .. 'doing', whole(now + lease), id)
    if ARGV[b + 3] ~= '' then call('HSET', key, 'progress', ARGV[b + 3]) end
    -- Only forward: a second attempt starts anew, what users see does not.
    local step = tonumber(ARGV[b + 2]) - tonumber(j[4] or 0)
    if step > 0 then
      call('HSET', key, 'units', ARGV[b + 2])
      if j[5] then call('HINCRBY', P .. 'g:' .. j[5], 'units', step) end
    end
  else
    lost[#lost + 1] = id
    if held and (j[6] == 'cancelled' or j[6] == 'hopeless') then cancelled[#cancelled + 1] = id end
  end
end
local cfg = call('HMGET', P .. 'cfg', 'stop', 'paused')
return finished({tonumber(cfg[1] or 0), tonumber(cfg[2] or 0), lost, cancelled})
