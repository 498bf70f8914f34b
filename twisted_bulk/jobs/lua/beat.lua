-- A heartbeat of a worker: its leases are renewed, its progress is noted.
-- ARGV: worker lease_ms why, then for each job: id attempt units progress
-- why: the reason why it takes no more jobs, or empty
-- reply: {stop, paused, {ids of jobs that it does not hold any more}, {the cancelled ones of these}}
write_first()
local wid, lease, lost, cancelled = ARGV[1], tonumber(ARGV[2]), {}, {}
alive(wid)
if ARGV[3] ~= '' then call('HSET', P .. 'waits', wid, ARGV[3]) else call('HDEL', P .. 'waits', wid) end
for b = 4, #ARGV, 4 do
  local id, key = ARGV[b], P .. 'j:' .. ARGV[b]
  local state, tries, holder, units, gid, reason = unpack(
    call('HMGET', key, 'state', 'tries', 'wid', 'units', 'gid', 'why'))
  local held = holds(tries, holder, wid, ARGV[b + 1])
  if held and (state == 'doing' or state == 'todo') then
    if state == 'todo' then
      -- The lease ran out, as the server was away; nobody has taken the job, so it is not lost.
      unlist(id, 'todo')
      call('SADD', P .. 'w:' .. wid, id)
      call('HINCRBY', key, 'free', -1)
      if call('HINCRBY', key, 'lost', -1) <= 0 then call('HDEL', key, 'lost') end
      call('HDEL', key, 'solo')  -- its worker lives
      call('HSET', key, 'state', 'doing')
    end
    call('ZADD', P .. 'doing', whole(now + lease), id)
    if ARGV[b + 3] ~= '' then
      call('HSET', key, 'progress', ARGV[b + 3])
      if gid then note_change(P, gid) end
    end
    -- A second attempt begins anew, but the progress that users see never falls.
    local step = tonumber(ARGV[b + 2]) - tonumber(units or 0)
    if step > 0 then
      call('HSET', key, 'units', ARGV[b + 2])
      if gid then call('HINCRBY', P .. 'g:' .. gid, 'units', step) end
    end
  else
    lost[#lost + 1] = id
    if held and (reason == 'cancelled' or reason == 'hopeless') then cancelled[#cancelled + 1] = id end
  end
end
local cfg = call('HMGET', P .. 'cfg', 'stop', 'paused')
return finished({tonumber(cfg[1] or 0), tonumber(cfg[2] or 0), lost, cancelled})
