-- Bulk actions: what users do with many groups at once.
--
--   bulks           ZSET    bulk action -> its serial number (`bseq` of meta)
--   bk:<bulk>       HASH    one bulk action
--   bi:<bulk>       ZSET    the groups that it is still to look at -> serial number
--
-- Fields of a bulk action.
--   action          cancel, retry, delete, priority, notify
--   value           of action priority
--   by              the token that planned it
--   state           finding (its groups), planned, running, stopped, done
--   frozen          when it was planned: it changes the groups that were found then, as they were then
--   total, eligible  how many groups were found, and how many of them would be changed
--   done            groups that were changed
--   left:<reason>   groups that were not, by the reason; before it runs: that would not be
--   ended           when it ended or was stopped

local MAX_PLANS = 3      -- of one token that are made, or wait to be begun; then the oldest goes
local MAX_RUNNING = 3    -- of one token
local MAX_BULKS = 50     -- of one token that are known; then the oldest that does not run goes

local BULK_COST = 200   -- jobs of groups that one step changes at most, but for the last group
local FILL_COST = 2000  -- jobs of groups that one step of a plan looks at at most, but for the last group

local function drop_bulk(bulk)
  call('UNLINK', P .. 'bk:' .. bulk, P .. 'bi:' .. bulk)
  call('ZREM', P .. 'bulks', bulk)
end

-- Make room for another plan of the token `by`.
local function drop_plans(by)
  local plans, known = 0, 0
  for _, bulk in ipairs(call('ZREVRANGEBYSCORE', P .. 'bulks', '+inf', '-inf')) do
    local state, owner = unpack(call('HMGET', P .. 'bk:' .. bulk, 'state', 'by'))
    if not state then drop_bulk(bulk)
    elseif owner == by and state ~= 'running' then
      known = known + 1
      if state == 'planned' or state == 'finding' then plans = plans + 1 end
      if known >= MAX_BULKS or (state ~= 'stopped' and state ~= 'done' and plans >= MAX_PLANS) then drop_bulk(bulk) end
    end
  end
end

local function running_bulks(by)
  local n = 0
  for _, bulk in ipairs(call('ZRANGE', P .. 'bulks', 0, -1)) do
    local state, owner = unpack(call('HMGET', P .. 'bk:' .. bulk, 'state', 'by'))
    if state == 'running' and owner == by then n = n + 1 end
  end
  return n
end

-- Why a group is not queued again, by the reply of `again_group`.
local NOT_AGAIN = {[0] = 'nothing_failed', [-4] = 'members_dropped'}

-- Why an action does not change a group, or nil. `frozen`: the moment of the plan. For action retry it
-- does not look at the group's jobs.
local function ineligible(action, gid, frozen)
  local state, created, ended, queued, after_queue, nonce, runs = unpack(
    call('HMGET', P .. 'g:' .. gid, 'state', 'created', 'ended', 'queued', 'after_queue', 'nonce', 'runs'))
  if not state or state == 'deleted' then return 'unknown' end
  -- It may be another group by now that got the id.
  local since = ended or queued or created
  if action == 'notify' then
    local fails = call('ZSCORE', P .. 'gt:' .. AFTER_FAILED, gid) or call('ZSCORE', P .. 'gt:' .. AFTER_TRYING, gid)
    if not fails then return 'not_undelivered' end
    since = call('HGET', after_queue .. 'j:' .. after_id(gid, nonce, runs), 'end')
  elseif action == 'retry' or action == 'delete' then
    if not ended then return 'not_ended' end
  elseif ended then return 'ended' end
  if tonumber(since or 0) > tonumber(frozen) then return 'changed' end
  return nil
end
