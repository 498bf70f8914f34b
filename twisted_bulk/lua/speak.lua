-- One speaker per running group: claim or keep the right to report its progress.
-- ARGV: gid speaker lease_ms      reply: the next number of its reports, or 0
drains()
local g = P .. 'g:' .. ARGV[1]
if call('HGET', g, 'state') ~= 'running' then return 0 end
local key = P .. 's:' .. ARGV[1]
local holder = call('GET', key)
if holder and holder ~= ARGV[2] then return 0 end
call('SET', key, ARGV[2], 'PX', ARGV[3])
return call('HINCRBY', g, 'seq', 1)
