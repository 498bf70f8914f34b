-- A report is not on its way any more. Its reporter keeps the right to the next one for lease_ms; 0:
-- it gives the right up.
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
