-- A worker process is known to be dead: take its jobs back now, not at their lease's end.
-- ARGV: worker      reply: how many
drains()
local ids = call('SMEMBERS', P .. 'w:' .. ARGV[1])
for _, id in ipairs(ids) do requeue(id) end
call('DEL', P .. 'w:' .. ARGV[1])
call('ZREM', P .. 'wk', ARGV[1])
return finished(#ids)
