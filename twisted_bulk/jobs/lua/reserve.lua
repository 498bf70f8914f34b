-- A worker takes jobs. ARGV: worker count lease_ms max_bytes alone late express
--   count    how many jobs, at most
--   alone    0 waiting jobs; else one suspect, to be run alone: 1 each loss counts against it,
--            2 only a loss for which it is blamed (reclaim.lua)
--   late     how many more of the jobs that have waited for LATE ms: no worker with a free slot took
--            them; express: how many more of these that are small
-- reply: {supply, ms, {{id, attempt, attachment, payload, size, 1 if its group is small}, ...},
--         suspects that wait, other jobs that wait}
-- supply: ok | empty | stop | paused | full (max_doing run) | rate (qps is used up)
-- ms: until the reply may be another one without a message on `wake`, or -1
write_first()
local wid, n, lease, bytes = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local alone, late, express = ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7])
-- Where no other worker was heard within 3 s, nobody else can take a job.
local LATE = call('ZCOUNT', P .. 'wk', whole(now - 3000), '+inf') > 1 and 300 or 0
alive(wid)
local stop, paused, max_doing, qps = unpack(call('HMGET', P .. 'cfg', 'stop', 'paused', 'max_doing', 'qps'))
if stop == '1' then return {'stop', -1, {}, 0, 0} end
if paused == '1' then return {'paused', -1, {}, 0, 0} end
promote(1000)
reclaim(200)
expire(200)
local suspects, waiting = call('ZCARD', P .. 'suspect'), call('ZCARD', P .. 'todo')
if max_doing then
  local free = tonumber(max_doing) - call('ZCARD', P .. 'doing')
  n = math.min(n, free)
  late = math.min(late, free - n)
  express = math.min(express, free - n - late)
end
if n <= 0 and late <= 0 and express <= 0 then return finished({'full', 200, {}, suspects, waiting}) end

-- The rate of starts in the whole cluster, by the generic cell rate algorithm: `due` is when the next
-- start is due (microseconds). Starts that were missed may be made up for, those of BURST at most.
local step, due
local BURST = 200000  -- microseconds
if qps then
  local us = time[1] * 1000000 + time[2]
  step = 1000000 / tonumber(qps)
  due = math.max(tonumber(call('GET', P .. 'rl') or '0'), us - BURST)
  due = math.min(due, us + step) -- the rate may have been lower before
  if due > us then return finished({'rate', math.ceil((due - us) / 1000), {}, suspects, waiting}) end
  local may = math.floor((us - due) / step) + 1
  n = math.min(n, may)
  late = math.min(late, may - n)
  express = math.min(express, may - n - late)
end

local function start(id, attempt, gid, of)
  local key = P .. 'j:' .. id
  call('HSET', key, 'state', 'doing', 'tries', attempt, 'wid', wid, 'at', whole(now))
  if alone ~= '0' then call('HSET', key, 'alone', alone) else call('HDEL', key, 'alone') end
  call('ZADD', P .. 'doing', whole(now + lease), id)
  call('SADD', P .. 'w:' .. wid, id)
  note_change_of(id, gid, of)
  local g = gid and P .. 'g:' .. gid
  if g and call('HGET', g, 'state') == 'queued' then
    move_group(gid, g, 'running')
    call('HSET', g, 'started', whole(now))
  end
end

local out, more, expired = {}, true, 0

-- Take the next `most` jobs of a line, those that have waited for `wait` ms. Ends at 1000 expired
-- ones, so that one call does not take long.
local function take(line, most, wait)
  most = most + #out
  while more and #out < most and expired < 1000 do
    local got = call('ZPOPMIN', P .. line, most - #out)
    if #got == 0 then break end
    for i = 1, #got, 2 do
      local id = got[i]
      local key = P .. 'j:' .. id
      local payload, tries, exp, gid, att, state, size, queued, few, of = unpack(
        call('HMGET', key, 'payload', 'tries', 'exp', 'gid', 'att', 'state', 'size', 'enq', 'few', 'of'))
      if more and state == 'todo' then
        payload = payload or call('GET', P .. 'p:' .. id) or ''
        if sure and exp and tonumber(exp) <= now then
          kill_job(id, 'expired')
          expired = expired + 1
        elseif #out > 0 and #payload > bytes then more = false
        elseif tonumber(queued) <= now and tonumber(queued) > now - wait then more = false
        else
          if exp then  -- it starts in time, also if it has to be begun anew
            call('HDEL', key, 'exp')
            call('ZREM', P .. 'exp', id)
          end
          if gid then unlist(id, 'todo') end
          local attempt = tonumber(tries or 0) + 1
          start(id, attempt, gid, of)
          bytes = bytes - #payload
          out[#out + 1] = {id, attempt, att or '', payload, tonumber(size or 1), tonumber(few or 0)}
        end
      end
      if not more then call('ZADD', P .. line, got[i + 1], id) end
    end
  end
end

if alone ~= '0' then take('suspect', 1, 0)
else
  take('todo', n, 0)
  take('todo', late, LATE)
  more = bytes > 0
  take('small', express, LATE)
end
if #out > 0 then
  count(P, 'started', #out)
  if step then call('SET', P .. 'rl', string.format('%.2f', due + step * #out), 'PX', 60000 + math.ceil(step * #out / 1000)) end
  return finished({'ok', 0, out, suspects, waiting})
end
if expired > 0 then return finished({'empty', 0, {}, suspects, waiting}) end
local next = call('ZRANGE', P .. 'later', 0, 0, 'WITHSCORES')[2]
return finished({'empty', next and math.max(sure and 0 or 200, tonumber(next) - now) or -1, {}, suspects, waiting})
