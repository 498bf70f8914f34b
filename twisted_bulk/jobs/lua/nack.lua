-- An attempt at a job failed. ARGV: worker id attempt delay_ms fatal error
-- reply: 1 it is tried again after delay_ms | 3 it is dead | 0 the worker does not hold it
write_first()
local wid, id = ARGV[1], ARGV[2]
local key = P .. 'j:' .. id
local state, tries, holder, max, free, before, of = unpack(
  call('HMGET', key, 'state', 'tries', 'wid', 'max', 'free', 'fails', 'of'))
if state ~= 'doing' or not holds(tries, holder, wid, ARGV[3]) then return 0 end
-- A line for each of the last 16 tries: when it failed (ms), and how (200 characters).
local fails = (before or '') .. whole(now) .. ' ' .. string.gsub(string.sub(ARGV[6], 1, 200), '%c', ' ') .. '\n'
local _, lines = string.gsub(fails, '\n', '')
if lines > 16 then fails = string.gsub(fails, '^[^\n]*\n', '') end
call('HSET', key, 'fails', fails)
local last = tonumber(tries) - tonumber(free or 0) >= tonumber(max or MAX_TRIES)
if ARGV[5] == '1' or last then
  kill_job(id, ARGV[5] == '1' and 'fatal' or 'retries', ARGV[6])
  return finished(3)
end
call('HSET', key, 'err', ARGV[6])
if of then note_after(of, id, AFTER_TRYING) end
call('HDEL', key, 'lost', 'solo')  -- its worker lives
count(P, 'retried', 1)
hand_back(id, wid, 'later', whole(now + tonumber(ARGV[4])))
return finished(1)
