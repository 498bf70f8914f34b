-- Bulk actions, the latest first. ARGV: how many, then ids; none: the latest
-- reply: {id, {fields ...}, ...}; unknown ones are left out
local ids, reply = {unpack(ARGV, 2)}, {}
if #ids == 0 then ids = call('ZREVRANGEBYSCORE', P .. 'bulks', '+inf', '-inf', 'LIMIT', 0, ARGV[1]) end
for _, id in ipairs(ids) do
  local fields = call('HGETALL', P .. 'bk:' .. id)
  if #fields > 0 then
    reply[#reply + 1] = id
    reply[#reply + 1] = fields
  else call('ZREM', P .. 'bulks', id) end
end
return reply
