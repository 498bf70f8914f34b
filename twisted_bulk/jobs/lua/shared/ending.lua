-- How jobs and groups end.

-- Its jobs change state in the same step, so the change is noted.
local function move_group(gid, g, state)
  call('ZREM', P .. 'gs:' .. call('HGET', g, 'state'), gid)
  call('HSET', g, 'state', state)
  call('ZADD', P .. 'gs:' .. state, call('HGET', g, 'serial'), gid)
end

-- The last job of a group has ended. The group ends, and in the same step the job that follows it
-- is queued.
local function close_group(gid, g)
  local cancelled, expired, jobs, ok, need, total, after_queue, after, after_max, nonce, runs = unpack(
    call('HMGET', g, 'cancelled', 'expired', 'jobs', 'ok', 'need', 'total', 'after_queue', 'after',
      'after_max', 'nonce', 'runs'))
  local state = 'failed'
  local enough = tonumber(ok) >= tonumber(need)
  -- A cancelled further run leaves what the runs before it had.
  if cancelled and not (runs and enough) then state = 'cancelled'
  elseif expired == jobs then state = 'expired'
  elseif ok == total then state = 'done'
  elseif enough then state = 'partial' end
  move_group(gid, g, state)
  call('HSET', g, 'ended', whole(now))
  call('HINCRBY', g, 'seq', 1)
  call('ZADD', P .. 'gend', whole(now), gid)
  if state == 'done' then call('UNLINK', P .. 'n:' .. gid)
  else call('ZADD', P .. 'kept', whole(now), gid) end
  if after ~= '' then
    add(after_queue, after_id(gid, nonce, runs), {max = after_max, maxlost = '0', of = P, payload = after})
  end
end

local finish

-- One job of a group has ended: count it. `ok` of its `size` units succeeded; `missing` thousandths
-- were not yet in the group's `units`.
local function settle(gid, size, ok, why, missing)
  local g = P .. 'g:' .. gid
  if call('EXISTS', g) == 0 then return end
  call('HINCRBY', g, 'units', missing)
  call('HINCRBY', g, 'ok', ok)
  local bad = call('HINCRBY', g, 'bad', size - ok)
  if why == 'expired' then call('HINCRBY', g, 'expired', 1) end
  local left = call('HINCRBY', g, 'left', -1)
  if left == 0 then return close_group(gid, g) end
  local total, need, hopeless, jobs, nonce = unpack(
    call('HMGET', g, 'total', 'need', 'hopeless', 'jobs', 'nonce'))
  if not hopeless and bad > tonumber(total) - tonumber(need) then
    -- The group cannot succeed any more: its other jobs end, too.
    call('HSET', g, 'hopeless', 1)
    for i = 1, tonumber(jobs) do finish(job_id(gid, nonce, i), 'dead', 0, 'why', 'hopeless') end
  end
end

-- A job with the digest of an ended one may be queued again: at once after a failure, after `window`
-- ms after a success.
local function free_digest(id, digest, window)
  local key = P .. 'dd:' .. digest
  if call('GET', key) ~= id then return end
  if tonumber(window or 0) > 0 then call('PEXPIRE', key, window) else call('DEL', key) end
end

local function drop_payload(id)
  if call('HDEL', P .. 'j:' .. id, 'payload') == 0 then call('UNLINK', P .. 'p:' .. id) end
end

-- End a job. `ok` of its units succeeded; then follow names and values of fields to keep.
-- Returns false if it is unknown or had ended.
finish = function(id, state, ok, ...)
  local key = P .. 'j:' .. id
  local old, wid, size, gid, att, units, digest, window, exp, began, previous, previous_ok, previous_tags, of =
    unpack(call('HMGET', key, 'state', 'wid', 'size', 'gid', 'att', 'units', 'dd', 'win', 'exp', 'at', 'prev',
      'prevok', 'prevtags', 'of'))
  if not old or old == 'done' or old == 'dead' then return false end
  note_change_of(id, gid, of)
  unlist(id, old)
  if exp then call('ZREM', P .. 'exp', id) end
  if wid then call('SREM', P .. 'w:' .. wid, id) end
  size = tonumber(size or 1)
  if state == 'dead' and previous then
    ok = tonumber(previous_ok)  -- a further run that fails leaves the result of the run before
    call('HSET', key, 'res', previous)
  end
  call('HSET', key, 'state', state, 'end', whole(now), 'ok', ok, ...)
  -- A job of a group of which some units failed may be queued again: it keeps payload and members.
  local whole_job = state == 'done' and (not gid or tonumber(ok) >= size)
  if whole_job then drop_payload(id) end
  call('ZADD', P .. state, whole(now), id)
  if att and (whole_job or not gid) then call('UNLINK', P .. 'a:' .. att) end
  if digest then free_digest(id, digest, state == 'done' and window) end
  backlog(P, -size)
  if of then note_after(of, id, state == 'dead' and AFTER_FAILED or nil) end
  if state == 'done' then
    count(P, 'done', 1)
    count(P, 'units', size)
    if began then count(P, 'busy', math.max(0, now - began)) end
  else
    count(P, call('HGET', key, 'why') == 'expired' and 'expired' or 'failed', 1)
  end
  if gid then
    local missing = size * 1000 - tonumber(units or 0)
    local why, tags = unpack(call('HMGET', key, 'why', 'tags'))
    if state == 'dead' then tags = why .. (previous_tags and ',' .. previous_tags or '') end
    call('HSET', key, 'units', size * 1000)
    if tags then
      call('HSET', key, 'tags', tags)
      tag_group(gid, tags)
    end
    settle(gid, size, tonumber(ok), why, missing)
  end
  return true
end

-- A job fails for good. Returns false if it is unknown or had ended.
local function kill_job(id, why, err)
  if err and err ~= '' then return finish(id, 'dead', 0, 'why', why, 'err', err) end
  return finish(id, 'dead', 0, 'why', why)
end

-- Remove the traces of a job's last run, as it is queued again.
local function clear(id)
  call('HDEL', P .. 'j:' .. id, 'tries', 'free', 'lost', 'solo', 'sunits', 'skept', 'alone', 'wid',
    'at', 'end', 'ok', 'why', 'err', 'exp', 'units', 'progress', 'fails', 'tags')
end
