-- How long ago the first job of a group was begun; 0: none was. ARGV: gid      reply: ms
local started = call('HGET', P .. 'g:' .. ARGV[1], 'started')
return started and whole(math.max(0, now - started)) or '0'
