-- The state of a queue, for its operator.
-- ARGV: minutes, workers at most, jobs shown of each worker
-- reply: {now, {how many todo, later, doing, done, dead}, suspects among todo, backlog, empty since or -1,
--         {settings ...}, {minute, {events ...}, ... the newest first}, {worker, last heartbeat, how many
--         jobs it has, {their ids ...}, why it takes no job, ...}}
local counts, minutes, workers = {}, {}, {}
for i, state in ipairs({'todo', 'later', 'doing', 'done', 'dead'}) do counts[i] = call('ZCARD', P .. state) end
local suspects = call('ZCARD', P .. 'suspect')
counts[1] = counts[1] + suspects
for i = 0, tonumber(ARGV[1]) - 1 do
  local minute = whole(math.floor(now / 60000) - i)
  minutes[#minutes + 1] = minute
  minutes[#minutes + 1] = call('HGETALL', P .. 'm:' .. minute)
end
local seen = call('ZREVRANGEBYSCORE', P .. 'wk', '+inf', '-inf', 'WITHSCORES', 'LIMIT', 0, ARGV[2])
for i = 1, #seen, 2 do
  local key, ids = P .. 'w:' .. seen[i], {}
  local n = call('SCARD', key)
  if n <= tonumber(ARGV[3]) then ids = call('SMEMBERS', key) end
  local why = call('HGET', P .. 'waits', seen[i]) or ''
  for _, word in ipairs({seen[i], seen[i + 1], n, ids, why}) do workers[#workers + 1] = word end
end
local meta = call('HMGET', P .. 'meta', 'backlog', 'empty_since')
return {whole(now), counts, suspects, meta[1] or '0', meta[2] or '-1', call('HGETALL', P .. 'cfg'), minutes, workers}
