-- A report is no longer on its way: its reporter keeps the right to the next for a while, or not.
-- ARGV: gid reporter lease_ms      reply: 0
write_first()
local key = P .. 's:' .. ARGV[1]
if call('GET', key) ~= '!' .. ARGV[2] then return 0 end
if tonumber(ARGV[3]) > 0 then
  call('SET', key, ARGV[2], 'PX', ARGV[3])
else
  call('DEL', key)
end
return 0
