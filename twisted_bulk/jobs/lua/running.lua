-- For how long a group has been running. ARGV: gid      reply: ms
local started = call('HGET', P .. 'g:' .. ARGV[1], 'started')
return started and whole(math.max(0, now - started)) or '0'
