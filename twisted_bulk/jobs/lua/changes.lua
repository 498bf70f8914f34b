-- Groups of which something changed that their users see, in the order of their last changes.
-- ARGV: the number of a change, or -1 (no group is wanted); limit
-- reply: {number of the last change, number of the last one that is known no more, group, its number, ...}
-- A forgotten group is among them for an hour (maintain.lua).
local last, gone = unpack(call('HMGET', P .. 'meta', 'cseq', 'cgone'))
local found = {}
if tonumber(ARGV[1]) >= 0 then
  found = call('ZRANGEBYSCORE', P .. 'changes', '(' .. ARGV[1], '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[2])
end
return {tonumber(last or 0), tonumber(gone or 0), unpack(found)}
