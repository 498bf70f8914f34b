-- Jobs that failed, the latest first. ARGV: cursor or '', limit
-- reply: {cursor of the next page or '', id, ...}. Jobs that ended in one millisecond come on one
-- page, which may exceed the limit.
local top, limit = ARGV[1] == '' and '+inf' or '(' .. ARGV[1], tonumber(ARGV[2])
local found = call('ZREVRANGEBYSCORE', P .. 'dead', top, '-inf', 'WITHSCORES', 'LIMIT', 0, limit)
local last = #found == 2 * limit and found[#found] or ''
local reply = {last}
for i = 1, #found, 2 do
  if found[i + 1] ~= last then reply[#reply + 1] = found[i] end
end
if last ~= '' then
  for _, id in ipairs(call('ZREVRANGEBYSCORE', P .. 'dead', last, last)) do reply[#reply + 1] = id end
end
return reply
