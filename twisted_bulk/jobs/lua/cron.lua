-- When calls at fixed times were due last.
-- ARGV: for each its name and its line
-- reply: the server's clock (ms), then for each the time up to which it was queued (ms)
-- One that is new counts from now. One whose line has changed goes on from at most 10 s ago: while
-- two versions of a program run, each sees the other's line, and neither may lose a time.
-- A time that is far ahead was queued while the server's clock was wrong: it counts from now again.
local CHANGED_MS, AHEAD_MS = 10000, 7200000
local out = {whole(wall)}
for n = 1, #ARGV, 2 do
  local name, line = ARGV[n], ARGV[n + 1]
  local stored = call('HGET', P .. 'cron', name)
  local last, known = string.match(stored or '', '^(%d+) (.*)$')
  if known == line and tonumber(last) > wall + AHEAD_MS then
    last = whole(wall)
    call('HSET', P .. 'cron', name, last .. ' ' .. line)
  end
  if known ~= line then
    last = whole(math.max(tonumber(last or wall), wall - CHANGED_MS))
    call('HSET', P .. 'cron', name, last .. ' ' .. line)
  end
  out[#out + 1] = last
end
return out
