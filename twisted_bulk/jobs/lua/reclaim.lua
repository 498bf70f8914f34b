-- A worker process is known to be dead: its jobs are taken back now, before their leases end.
-- ARGV: worker blamed, then pairs: a job's id, and how many of its members are on the worker's disk
-- blamed: 1: it died by itself, and nobody ended it      reply: how many jobs
write_first()
local ids = call('SMEMBERS', P .. 'w:' .. ARGV[1])
local kept = {}
for b = 3, #ARGV, 2 do kept[ARGV[b]] = ARGV[b + 1] end
for _, id in ipairs(ids) do requeue(id, kept[id], ARGV[2] == '1') end
call('HDEL', P .. 'waits', ARGV[1])
call('DEL', P .. 'w:' .. ARGV[1])
call('ZREM', P .. 'wk', ARGV[1])
return finished(#ids)
