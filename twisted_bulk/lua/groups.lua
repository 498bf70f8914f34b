-- Newest first. ARGV: state or '', cursor or '', limit      reply: {id, serial, id, serial, ...}
local index = ARGV[1] == '' and 'groups' or 'gs:' .. ARGV[1]
local top = ARGV[2] == '' and '+inf' or '(' .. ARGV[2]
return call('ZREVRANGEBYSCORE', P .. index, top, '-inf', 'WITHSCORES', 'LIMIT', 0, tonumber(ARGV[3]))
