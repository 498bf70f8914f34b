-- Plan a bulk action: find some of its groups. The call without a cursor makes its record, the one
-- that finds the last of them makes it `planned`.
-- ARGV: id action value by keep_ms, the filter as for groups.lua (6 words), cursor or '', groups that are
--       looked at, then selected group ids in place of a search
-- keep_ms: for which the plan is kept
-- reply: {cursor for the next call or '', how many were found in all} | {} the record is gone
local id, action, key = ARGV[1], ARGV[2], P .. 'bk:' .. ARGV[1]
local found, n, left = P .. 'bi:' .. id, 0, {}
if ARGV[12] ~= '' then
  if call('HGET', key, 'state') ~= 'finding' then return {} end
else
  drop_plans(ARGV[4])
  call('HSET', key, 'action', action, 'value', ARGV[3], 'by', ARGV[4], 'frozen', whole(now), 'state', 'finding',
    'total', '0', 'eligible', '0', 'done', '0')
  call('PEXPIRE', key, ARGV[5])
  call('ZADD', P .. 'bulks', call('HINCRBY', P .. 'meta', 'bseq', 1), id)
end
local frozen, eligible, cost = call('HGET', key, 'frozen'), 0, 0
local function take(gid)
  local why = ineligible(action, gid, frozen)
  if not why and action == 'retry' then
    local jobs, reply = failed_jobs(gid, {}, nil)
    if not jobs then why = NOT_AGAIN[reply] end
  end
  if why then left[why] = (left[why] or 0) + 1 else eligible = eligible + 1 end
  call('ZADD', found, call('HGET', P .. 'g:' .. gid, 'serial'), gid)
  n = n + 1
  cost = cost + tonumber(call('HGET', P .. 'g:' .. gid, 'jobs'))
  return cost < FILL_COST
end
local filter, cursor = filter_of(unpack(ARGV, 6, 11)), ''
if #ARGV > 13 then
  -- The cursor is here how many of the ids were looked at.
  for i = 14 + tonumber(ARGV[12] == '' and 0 or ARGV[12]), #ARGV do
    local gid = ARGV[i]
    local is_new = call('ZSCORE', P .. 'groups', gid) and not call('ZSCORE', found, gid)
    if is_new and matches(filter, gid) and not take(gid) and i < #ARGV then
      cursor = whole(i - 13)
      break
    end
  end
else cursor = search(filter, ARGV[12], tonumber(ARGV[13]), take) end
call('PEXPIRE', found, ARGV[5])
call('HINCRBY', key, 'total', n)
call('HINCRBY', key, 'eligible', eligible)
for why, count in pairs(left) do call('HINCRBY', key, 'left:' .. why, count) end
if cursor == '' then call('HSET', key, 'state', 'planned') end
return finished({cursor, tonumber(call('HGET', key, 'total'))})
