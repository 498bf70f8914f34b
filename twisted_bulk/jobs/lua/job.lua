-- One job. ARGV: id      reply: {} it is unknown | {now, skew, place in line or -1, {its fields ...}}
local key = P .. 'j:' .. ARGV[1]
local state = call('HGET', key, 'state')
if not state then return {} end
return {whole(now), whole(skew), state == 'todo' and place_of(ARGV[1]) or -1, call('HGETALL', key)}
