-- A worker gives jobs back, without using up a try.
-- ARGV: worker, 'only' or 'except', delay_ms, then pairs: id attempt      reply: how many
-- 'only': it gives the named jobs back; 'except': all others that it has by the queue's record (it
-- does not know of these where the reply of a reserve was lost).
write_first()
local wid, delay, named, n = ARGV[1], tonumber(ARGV[3]), {}, 0
for i = 4, #ARGV, 2 do named[ARGV[i]] = ARGV[i + 1] end
for _, id in ipairs(call('SMEMBERS', P .. 'w:' .. wid)) do
  local key = P .. 'j:' .. id
  local state, tries, holder, alone = unpack(call('HMGET', key, 'state', 'tries', 'wid', 'alone'))
  local mine
  if ARGV[2] == 'only' then mine = named[id] == tries else mine = named[id] ~= tries end
  if mine and state == 'doing' and holder == wid then
    call('HINCRBY', key, 'tries', -1)
    call('HDEL', key, 'wid')
    if alone then call('HDEL', key, 'lost', 'solo') end  -- it ran alone, and its worker lives
    hand_back(id, wid, delay > 0 and 'later' or 'todo', whole(now + delay))
    n = n + 1
  end
end
return finished(n)
