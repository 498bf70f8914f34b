-- One job as it stands. ARGV: id      reply: {} | {now, place in line or -1, {its fields...}}
local key = P .. 'j:' .. ARGV[1]
local state = call('HGET', key, 'state')
if not state then return {} end
local place = state == 'todo' and call('ZRANK', P .. 'todo', ARGV[1])
return {whole(now), place or -1, call('HGETALL', key)}
