-- ARGV: worker id attempt ok result
-- reply: 1 recorded | 2 recorded before (replay) | 0 not yours any more | -1 unknown
drains()
local id, key = ARGV[2], P .. 'j:' .. ARGV[2]
local j = call('HMGET', key, 'state', 'tries', 'wid')
if not j[1] then return -1 end
if not holds(j[2], j[3], ARGV[1], ARGV[3]) or j[1] == 'dead' then return 0 end
if j[1] == 'done' then return 2 end
-- 'doing'; or the lease ran out and nobody has taken it yet: the work is done.
finish(id, 'done', ARGV[4], 'res', ARGV[5])
return 1
