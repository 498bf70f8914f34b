-- Plan a bulk action. ARGV: id action value by keep_ms, then the filter as for groups.lua (6 words), then
-- selected group ids, if any. keep_ms: for which the plan is kept
-- reply: 1
local id, key = ARGV[1], P .. 'bk:' .. ARGV[1]
local selected = #ARGV > 11
for i = 12, #ARGV do
  local serial = call('HGET', P .. 'g:' .. ARGV[i], 'serial')
  if serial then call('ZADD', P .. 'bi:' .. id, serial, ARGV[i]) end
end
call('HSET', key, 'action', ARGV[2], 'value', ARGV[3], 'by', ARGV[4], 'states', ARGV[6], 'owner', ARGV[7],
  'tags', ARGV[8], 'prefix', ARGV[9], 'since', ARGV[10], 'before', ARGV[11], 'selected', selected and '1' or '0',
  'top', whole((call('HGET', P .. 'meta', 'gseq') or 0) + 1), 'frozen', whole(now), 'state', 'planned', 'done', '0')
call('PEXPIRE', key, ARGV[5])
call('PEXPIRE', P .. 'bi:' .. id, ARGV[5])
call('ZADD', P .. 'bulks', whole(now), id)
return finished(1)
