-- ARGV: worker id attempt delay_ms fatal error
-- reply: 1 tried again later | 3 it was the last try | 0 not yours any more
write_first()
local wid, id = ARGV[1], ARGV[2]
local key = P .. 'j:' .. id
local j = call('HMGET', key, 'state', 'tries', 'wid', 'max', 'free', 'fails')
if j[1] ~= 'doing' or not holds(j[2], j[3], wid, ARGV[3]) then return 0 end
-- One line for each of the last tries: when it failed (ms), and how.
local fails = (j[6] or '') .. whole(now) .. ' ' .. string.gsub(string.sub(ARGV[6], 1, 200), '%c', ' ') .. '\n'
local _, lines = string.gsub(fails, '\n', '')
if lines > 16 then fails = string.gsub(fails, '^[^\n]*\n', '') end
call('HSET', key, 'fails', fails)
local last = tonumber(j[2]) - tonumber(j[5] or 0) >= tonumber(j[4] or MAX)
if ARGV[5] == '1' or last then
  kill_job(id, ARGV[5] == '1' and 'fatal' or 'retries', ARGV[6])
  return finished(3)
end
call('HSET', key, 'err', ARGV[6])
call('HDEL', key, 'lost', 'solo')  -- its worker lives
count(P, 'retried', 1)
hand_back(id, wid, 'later', whole(now + tonumber(ARGV[4])))
return finished(1)
