-- Ids of groups, newest first.
-- ARGV: states with commas or '', owner or '', tags with commas or '', prefix of the name or '', since_ms or '',
--       before_ms or '', cursor or '', limit, groups that are looked at
-- reply: {cursor of the next page or '', id, ...}. A page may have fewer than the limit though more
-- follow.
local filter, limit = filter_of(unpack(ARGV, 1, 6)), tonumber(ARGV[8])
local reply = {''}
reply[1] = search(filter, ARGV[7], tonumber(ARGV[9]), function(gid)
  reply[#reply + 1] = gid
  return #reply <= limit
end)
return reply
