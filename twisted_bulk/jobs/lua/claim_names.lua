-- Claim names for units of a group: each name is one unit's, in all jobs of the group.
-- ARGV: gid, then 10 bytes for each: a digest of the name (6) and a number of the claimant (4)
-- reply: for each 1 it is the claimant's | 0 it is another one's
-- The hash n:<group> has lists of about 16 of these strings: a field for each would take three times
-- as much memory.
write_first()
local gid, reply = ARGV[1], {}
local key = P .. 'n:' .. gid
local total = tonumber(call('HGET', P .. 'g:' .. gid, 'total') or 0)
local lists = math.floor(total / 16) + 1
for i = 2, #ARGV do
  local digest, who = string.sub(ARGV[i], 1, 6), string.sub(ARGV[i], 7)
  local a, b, c = string.byte(digest, 1, 3)
  local field = (a * 65536 + b * 256 + c) % lists
  local claimed = call('HGET', key, field) or ''
  local owner, at = nil, 1
  repeat  -- a digest begins at 1, 11, 21 ...; elsewhere its bytes mean nothing
    at = string.find(claimed, digest, at, true)
    if at and at % 10 == 1 then owner = string.sub(claimed, at + 6, at + 9) end
    at = at and at + 1
  until owner or not at
  if total > 0 and not owner then call('HSET', key, field, claimed .. ARGV[i]) end
  reply[i - 1] = (not owner or owner == who) and 1 or 0
end
return reply
