-- A call at a fixed time is due: it is queued once, whichever process comes first.
-- ARGV: cap, name, line, the time up to which it was queued before (ms), its time (ms), then the job:
--       id prio first due_in_ms expires_in_ms max maxlost size digest window_ms payload
-- reply: 1 queued, or dropped as a call with its digest waits | 0 another process was first | -2 over
--        the cap: it stays due
local name, line, before, due = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
if call('HGET', P .. 'cron', name) ~= before .. ' ' .. line then return 0 end
local reply = enqueue(5, room(ARGV[1]))
if reply == -2 then return -2 end
call('HSET', P .. 'cron', name, due .. ' ' .. line)
return finished(1)
