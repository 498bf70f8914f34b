-- Remove the records of groups that have ended, see `forget_group`.
-- ARGV: tombstone_ms, then group ids     reply: how many
write_first()
local n = 0
for i = 2, #ARGV do n = n + forget_group(ARGV[i], ARGV[1]) end
return finished(n)
