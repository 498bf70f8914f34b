-- The indexes of groups, and the search in them.
--
-- A filter is a table. states: a list, any of them, empty: every state. tags: a list, all of them.
-- owner, prefix: '' stands for any. since, before: ms of the queue's time, or ''.

local INDEX = '1'  -- of the field `index` of meta: all groups are in all indexes

-- A group's entry in `names`: its id without its owner, then the id itself.
local function name_entry(gid) return string.match(gid, '[^:]*$') .. '\0' .. gid end

local function index_group(gid, serial, state, owner)
  call('ZADD', P .. 'groups', serial, gid)
  call('ZADD', P .. 'gs:' .. state, serial, gid)
  call('ZADD', P .. 'names', 0, name_entry(gid))
  if owner ~= '' then call('ZADD', P .. 'go:' .. owner, serial, gid) end
end

local function unindex_group(gid, state, owner)
  call('ZREM', P .. 'groups', gid)
  call('ZREM', P .. 'gs:' .. state, gid)
  call('ZREM', P .. 'names', name_entry(gid))
  if owner then call('ZREM', P .. 'go:' .. owner, gid) end
end

-- The tags of a group are those of its jobs that have ended. `tags`: words with commas between them.
local function tag_group(gid, tags)
  local serial = call('HGET', P .. 'g:' .. gid, 'serial')
  if not serial then return end
  for tag in string.gmatch(tags, '[^,]+') do call('ZADD', P .. 'gt:' .. tag, serial, gid) end
end

-- Take the tags `tags` (a set) from a group, but for those that one of its jobs still has.
local function untag_group(gid, jobs, nonce, tags)
  if not next(tags) then return end
  for i = 1, tonumber(jobs) do
    local still = call('HGET', P .. 'j:' .. job_id(gid, nonce, i), 'tags')
    for tag in string.gmatch(still or '', '[^,]+') do tags[tag] = nil end
  end
  for tag in pairs(tags) do call('ZREM', P .. 'gt:' .. tag, gid) end
end

-- The tags of a group whose following job has failed for good, or waits for another try.
local AFTER_FAILED, AFTER_TRYING = '~after_failed', '~after_trying'

-- Give the group that the job `id` follows one of these tags, or nil: none.
-- Q: the prefix of the group's queue
local function note_after(Q, id, tag)
  local gid = string.match(id, '^(.*)@')
  local serial, nonce, runs = unpack(call('HMGET', Q .. 'g:' .. gid, 'serial', 'nonce', 'runs'))
  -- The job of a run before the present one says nothing of this one.
  if serial and tag and id ~= after_id(gid, nonce, runs) then return end
  for _, one in ipairs({AFTER_FAILED, AFTER_TRYING}) do
    if one == tag and serial then call('ZADD', Q .. 'gt:' .. one, serial, gid)
    else call('ZREM', Q .. 'gt:' .. one, gid) end
  end
end

local function filter_of(states, owner, tags, prefix, since, before)
  local function list(words)
    local found = {}
    for word in string.gmatch(words, '[^,]+') do found[#found + 1] = word end
    return found
  end
  -- Times come by the server's clock.
  local function time(ms) return ms == '' and '' or tonumber(ms) - skew end
  return {states = list(states), owner = owner, tags = list(tags), prefix = prefix, since = time(since),
    before = time(before)}
end

-- Keys of ZSETs group -> serial number that together have all groups of a filter, none twice; how many
-- groups they have; and the filter's conditions that they do not fulfil by themselves. It is the
-- smallest index.
local function source_of(filter)
  local best, size = {P .. 'groups'}, call('ZCARD', P .. 'groups')
  local rest = {states = filter.states, owner = filter.owner, tags = filter.tags, prefix = filter.prefix}
  local function consider(keys, condition, none)
    local n = 0
    for _, key in ipairs(keys) do n = n + call('ZCARD', key) end
    if n < size then
      best, size = keys, n
      rest = {states = filter.states, owner = filter.owner, tags = filter.tags, prefix = filter.prefix}
      rest[condition] = none
      rest.is_by_tag = condition == 'tags'
    end
  end
  if filter.owner ~= '' then consider({P .. 'go:' .. filter.owner}, 'owner', '') end
  for _, tag in ipairs(filter.tags) do consider({P .. 'gt:' .. tag}, 'tags', filter.tags) end
  if #filter.states > 0 then
    local keys = {}
    for i, state in ipairs(filter.states) do keys[i] = P .. 'gs:' .. state end
    consider(keys, 'states', {})
  end
  return best, size, rest
end

-- Whether a group that is in an index meets the conditions of a filter but for its times.
local function matches(filter, gid)
  -- A node of an older version may have forgotten it, and knows nothing of tags.
  if filter.is_by_tag and not call('ZSCORE', P .. 'groups', gid) then return false end
  if #filter.prefix > 0 and string.sub(name_entry(gid), 1, #filter.prefix) ~= filter.prefix then return false end
  if #filter.states > 0 or filter.owner ~= '' then
    local state, owner = unpack(call('HMGET', P .. 'g:' .. gid, 'state', 'owner'))
    local wanted = #filter.states == 0
    for _, one in ipairs(filter.states) do wanted = wanted or one == state end
    if not wanted or (filter.owner ~= '' and owner ~= filter.owner) then return false end
  end
  for _, tag in ipairs(filter.tags) do
    if not call('ZSCORE', P .. 'gt:' .. tag, gid) then return false end
  end
  return true
end

-- The serial number of the first group that was created at `time` (ms) or later; one more than the
-- last one's where none was. Groups are created in the order of their numbers.
local function serial_at(time)
  local low, high = 0, call('ZCARD', P .. 'groups')
  while low < high do
    local middle = math.floor((low + high) / 2)
    local gid = call('ZRANGE', P .. 'groups', middle, middle)[1]
    if tonumber(call('HGET', P .. 'g:' .. gid, 'created')) < tonumber(time) then low = middle + 1
    else high = middle end
  end
  local found = call('ZRANGE', P .. 'groups', low, low, 'WITHSCORES')
  return tonumber(found[2] or (call('HGET', P .. 'meta', 'gseq') or 0) + 1)
end

local function newest_first(a, b) return a[2] > b[2] end

-- Entries {group, serial number} of all groups whose name begins with `prefix`, newest first; nil if
-- they are more than `most`.
local function with_prefix(prefix, most)
  local first, last = '[' .. prefix, '[' .. prefix .. '\255'
  -- While groups of an older version are being indexed, some names are missing.
  if call('HGET', P .. 'meta', 'index') ~= INDEX then return nil end
  if call('ZLEXCOUNT', P .. 'names', first, last) > most then return nil end
  local entries = call('ZRANGEBYLEX', P .. 'names', first, last)
  local found = {}
  for _, entry in ipairs(entries) do
    local gid = string.match(entry, '%z(.*)$')
    local serial = call('ZSCORE', P .. 'groups', gid)
    if serial then found[#found + 1] = {gid, tonumber(serial)} end
  end
  table.sort(found, newest_first)
  return found
end

-- The newest `n` entries of the ZSETs `keys`, or more, whose numbers are below `top` and not below
-- `low`.
local function below(keys, low, top, n)
  local found = {}
  for _, key in ipairs(keys) do
    local some = call('ZREVRANGEBYSCORE', key, '(' .. whole(top), whole(low), 'WITHSCORES', 'LIMIT', 0, n)
    for i = 1, #some, 2 do found[#found + 1] = {some[i], tonumber(some[i + 1])} end
  end
  if #keys > 1 then table.sort(found, newest_first) end
  return found
end

-- Search the groups of a filter, newest first. `take(gid)` is called for each until it returns false.
-- cursor: the number of a group, or '': those older than it are searched
-- most: groups that are looked at
-- Returns the cursor from which it goes on, or '' at the end.
local function search(filter, cursor, most, take)
  local keys, size, rest = source_of(filter)
  local low, top = 0, cursor == '' and 9007199254740991 or tonumber(cursor)
  if filter.since ~= '' then low = serial_at(filter.since) end
  if filter.before ~= '' then top = math.min(top, serial_at(filter.before)) end
  -- An entry of the names costs more than one of an index.
  local named = filter.prefix ~= '' and with_prefix(filter.prefix, math.min(size / 4, most))
  local looked = 0
  while looked < most do
    local n = math.min(100, most - looked)
    local found = named or below(keys, low, top, n)
    local last = named and #found or math.min(#found, n)
    for i = 1, last do
      local gid, serial = found[i][1], found[i][2]
      if serial < top and serial >= low then
        looked, top = looked + 1, serial
        if matches(named and filter or rest, gid) and not take(gid) then return whole(top) end
      end
    end
    if named or #found < n then return '' end
  end
  return whole(top)
end
