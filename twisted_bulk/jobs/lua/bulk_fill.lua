-- Plan a bulk action: find some of its groups. The first call makes its record.
-- ARGV: id action value by keep_ms, the filter as for groups.lua (6 words), cursor or '', groups that are
--       looked at, then selected group ids in place of a search
-- keep_ms: for which the plan is kept
-- reply: {cursor for the next call or '', how many were found, how many of them would be changed}
local id, action, key = ARGV[1], ARGV[2], P .. 'bk:' .. ARGV[1]
local found, n, left = P .. 'bi:' .. id, 0, {}
if call('EXISTS', key) == 0 then
  drop_plans(ARGV[4])
  call('HSET', key, 'action', action, 'value', ARGV[3], 'by', ARGV[4], 'frozen', whole(now), 'state', 'planned',
    'total', '0', 'eligible', '0', 'done', '0')
  call('PEXPIRE', key, ARGV[5])
  call('ZADD', P .. 'bulks', whole(now), id)
end
local frozen, eligible = call('HGET', key, 'frozen'), 0
local function take(gid)
  local why = ineligible(action, gid, frozen)
  if why then left[why] = (left[why] or 0) + 1 else eligible = eligible + 1 end
  call('ZADD', found, call('HGET', P .. 'g:' .. gid, 'serial'), gid)
  n = n + 1
  return true
end
local filter, cursor = filter_of(unpack(ARGV, 6, 11)), ''
if #ARGV > 13 then
  for i = 14, #ARGV do
    local known = call('ZSCORE', P .. 'groups', ARGV[i])
    if known and matches(filter, ARGV[i]) and not call('ZSCORE', found, ARGV[i]) then take(ARGV[i]) end
  end
else cursor = search(filter, ARGV[12], tonumber(ARGV[13]), take) end
call('PEXPIRE', found, ARGV[5])
call('HINCRBY', key, 'total', n)
call('HINCRBY', key, 'eligible', eligible)
for why, count in pairs(left) do call('HINCRBY', key, 'left:' .. why, count) end
return finished({cursor, tonumber(call('HGET', key, 'total')), tonumber(call('HGET', key, 'eligible'))})
