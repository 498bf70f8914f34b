-- ARGV: worker id attempt delay_ms fatal error
-- reply: 1 tried again later | 3 it was the last try | 0 not yours any more
drains()
local id, key = ARGV[2], P .. 'j:' .. ARGV[2]
local j = call('HMGET', key, 'state', 'tries', 'wid', 'max')
if j[1] ~= 'doing' or not holds(j[2], j[3], ARGV[1], ARGV[3]) then return 0 end
if ARGV[5] == '1' then bury(id, 'fatal', ARGV[6]) return 3 end
if tonumber(j[2]) >= tonumber(j[4]) then bury(id, 'retries', ARGV[6]) return 3 end
call('ZREM', P .. 'doing', id)
call('SREM', P .. 'w:' .. ARGV[1], id)
call('HSET', key, 'state', 'later', 'err', ARGV[6])
call('ZADD', P .. 'later', whole(now + tonumber(ARGV[4])), id)
return 1
