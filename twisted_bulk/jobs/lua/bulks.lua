-- Bulk actions, the latest first.
-- ARGV: how many, their state or '', '1' and a token: those that it planned, or '' and '', then ids;
--       none: all
-- reply: {id, {fields ...}, ...}; unknown ones are left out
local ids, reply = {unpack(ARGV, 5)}, {}
if #ids == 0 then ids = call('ZREVRANGEBYSCORE', P .. 'bulks', '+inf', '-inf') end
for _, id in ipairs(ids) do
  local key = P .. 'bk:' .. id
  local state, by = unpack(call('HMGET', key, 'state', 'by'))
  if not state then call('ZREM', P .. 'bulks', id)
  elseif (ARGV[2] == '' or state == ARGV[2]) and (ARGV[3] == '' or by == ARGV[4]) and #reply < 2 * ARGV[1] then
    reply[#reply + 1] = id
    reply[#reply + 1] = call('HGETALL', key)
  end
end
return reply
