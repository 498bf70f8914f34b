-- Begin or stop a bulk action. ARGV: id, 'running' or 'stopped', keep_ms
-- keep_ms: for which the record of one that was stopped is kept
-- reply: 1 it is in this state | 0 it has ended, or has not begun | -1 it is unknown
--        | -2 as many of its token run as may
local key, groups = P .. 'bk:' .. ARGV[1], P .. 'bi:' .. ARGV[1]
local state = call('HGET', key, 'state')
if not state then return -1 end
if state == ARGV[2] then return 1 end
if ARGV[2] == 'running' then
  if state ~= 'planned' then return 0 end
  if running_bulks(call('HGET', key, 'by')) >= MAX_RUNNING then return -2 end
  call('HSET', key, 'state', 'running')
  call('PERSIST', key)
  call('PERSIST', groups)
  for i, field in ipairs(call('HGETALL', key)) do
    if i % 2 == 1 and string.sub(field, 1, 5) == 'left:' then call('HDEL', key, field) end
  end
  return finished(1)
end
if state ~= 'running' then return 0 end
call('HSET', key, 'state', 'stopped', 'ended', whole(now))
call('PEXPIRE', key, ARGV[3])
call('UNLINK', groups)
return finished(1)
