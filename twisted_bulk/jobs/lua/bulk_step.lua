-- Go on with a bulk action. Groups are changed and leave its list in one step, so each is changed once,
-- whatever happens to the callers.
-- ARGV: id cap after_cap tombstone_ms keep_ms
-- keep_ms: for which the record is kept after its end
-- reply: {1 more is to come | 0 it has ended | -1 there is no room in the queue for now, id of each group
--         that was changed ...}
local id, key, groups = ARGV[1], P .. 'bk:' .. ARGV[1], P .. 'bi:' .. ARGV[1]
local state, action, value, frozen = unpack(call('HMGET', key, 'state', 'action', 'value', 'frozen'))
if state ~= 'running' then return {0} end
if action ~= 'retry' and action ~= 'notify' then write_first() end
local reply, left, cost, is_full, moved = {1}, {}, 0, false, false

-- Returns 1: it was changed; -2: there is no room for it; another number: it was not changed.
local function act(gid)
  if action == 'cancel' then return cancel_group(gid) end
  if action == 'delete' then return forget_group(gid, ARGV[4]) end
  if action == 'priority' then return math.min(1, prioritise_group(gid, value)) end
  if action == 'retry' then return math.min(1, again_group(gid, ARGV[2], {}, nil, '')) end
  local other, nonce, runs = unpack(call('HMGET', P .. 'g:' .. gid, 'after_queue', 'nonce', 'runs'))
  return in_queue(other, revive_job, after_id(gid, nonce, runs), ARGV[3])
end

local some = call('ZREVRANGEBYSCORE', groups, '+inf', '-inf', 'LIMIT', 0, BULK_COST)
for _, gid in ipairs(some) do
  local why, jobs = ineligible(action, gid, frozen), call('HGET', P .. 'g:' .. gid, 'jobs')
  if not why then
    local outcome = act(gid)
    if outcome == -2 then why = 'full'
    elseif outcome == 1 then reply[#reply + 1] = gid
    else why = action == 'retry' and NOT_AGAIN[outcome] or 'changed' end
  end
  if why == 'full' then is_full = true  -- a smaller one may have room
  else
    if why then left[why] = (left[why] or 0) + 1 end
    call('ZREM', groups, gid)
    moved = true
  end
  cost = cost + tonumber(jobs or 1)
  if cost >= BULK_COST then break end
end
call('HINCRBY', key, 'done', #reply - 1)
for why, n in pairs(left) do call('HINCRBY', key, 'left:' .. why, n) end
if call('ZCARD', groups) == 0 then
  call('HSET', key, 'state', 'done', 'ended', whole(now))
  call('PEXPIRE', key, ARGV[5])
  reply[1] = 0
elseif is_full and not moved then reply[1] = -1 end
return finished(reply)
