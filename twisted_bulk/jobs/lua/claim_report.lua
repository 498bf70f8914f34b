-- Claim the right to report on a running group, or keep it, for as long as one report may take.
-- ARGV: gid reporter lease_ms      reply: the report's number | 0 another process has the right
-- s:<group> has the reporter's id, and '!' before it while a report may be on its way.
write_first()
local g = P .. 'g:' .. ARGV[1]
if call('HGET', g, 'state') ~= 'running' then return 0 end
local key = P .. 's:' .. ARGV[1]
local holder = call('GET', key)
if holder and holder ~= ARGV[2] and holder ~= '!' .. ARGV[2] then return 0 end
call('SET', key, '!' .. ARGV[2], 'PX', ARGV[3])
return call('HINCRBY', g, 'seq', 1)
