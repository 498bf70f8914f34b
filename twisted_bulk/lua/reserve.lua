-- ARGV: worker count lease_ms max_bytes
-- reply: {ms until the next job is due or -1, {{id, attempt, attachment, payload}, ...}}
drains()
local wid, count, lease, room = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
call('ZADD', P .. 'wk', whole(now), wid)
promote(1000)
reclaim(200)
expire(200)
local out = {}
while #out < count do
  local got = call('ZPOPMIN', P .. 'todo')
  if #got == 0 then break end
  local id = got[1]
  local key = P .. 'j:' .. id
  local j = call('HMGET', key, 'payload', 'tries', 'exp', 'gid', 'att')
  if j[1] then
    if tonumber(j[3]) > 0 and tonumber(j[3]) <= now then bury(id, 'expired')
    elseif #out > 0 and #j[1] > room then
      call('ZADD', P .. 'todo', got[2], id)
      break
    else
      local attempt = tonumber(j[2]) + 1
      -- It has started in time, also if it must be begun anew.
      call('HSET', key, 'state', 'doing', 'tries', attempt, 'wid', wid, 'at', whole(now), 'exp', 0)
      call('ZREM', P .. 'exp', id)
      call('ZADD', P .. 'doing', whole(now + lease), id)
      call('SADD', P .. 'w:' .. wid, id)
      local g = P .. 'g:' .. j[4]
      if j[4] ~= '' and call('HGET', g, 'state') == 'queued' then
        move_group(j[4], g, 'running')
        call('HSET', g, 'started', whole(now))
      end
      room = room - #j[1]
      out[#out + 1] = {id, attempt, j[5], j[1]}
    end
  end
end
local due = call('ZRANGE', P .. 'later', 0, 0, 'WITHSCORES')[2]
return {due and math.max(0, tonumber(due) - now) or -1, out}
