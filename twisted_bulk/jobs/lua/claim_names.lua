-- Claim names for units of a group: each name is one unit's, in all jobs of the group.
-- ARGV: gid, then 10 bytes for each: a digest of the name (6) and a number of the claimant (4)
-- reply: for each 1 it is the claimant's | 0 it is another one's
-- The hash n:<group> has lists of about 64 of these strings: an entry of their own would take five
-- times as much memory.
write_first()
local gid, reply = ARGV[1], {}
local key = P .. 'n:' .. gid
local total = tonumber(call('HGET', P .. 'g:' .. gid, 'total') or 0)
local lists = math.floor(total / 64) + 1
for i = 2, #ARGV do
  local digest, who = string.sub(ARGV[i], 1, 6), string.sub(ARGV[i], 7)
  local a, b, c = string.byte(digest, 1, 3)
  local field = (a * 65536 + b * 256 + c) % lists
  local claimed = call('HGET', key, field) or ''
  local owner = nil
  for at = 1, #claimed, 10 do
    if string.sub(claimed, at, at + 5) == digest then owner = string.sub(claimed, at + 6, at + 9) end
  end
  if total > 0 and not owner then call('HSET', key, field, claimed .. ARGV[i]) end
  reply[i - 1] = (not owner or owner == who) and 1 or 0
end
return reply
