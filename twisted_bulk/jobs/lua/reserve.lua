-- ARGV: worker count lease_ms max_bytes alone late express
-- alone: 0 what waits; else one of the suspects, to be run alone: 1 any loss of it counts,
--        2 only one for which it is blamed (`reclaim`)
-- late: how many more may come of those that have waited for LATE: nobody with a free slot wants
--       them; express: and how many of these that are small
-- reply: {what, ms, {{id, attempt, attachment, payload, size, 1 if its group is small}, ...},
--         suspects that wait, others that wait}
-- what: ok | empty | stop | paused | full (max_doing are running) | rate (qps is used up)
-- ms: until something may change without a wake, or -1
write_first()
local wid, n, lease, bytes = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local alone, late, express = ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7])
-- ms; none where there is no other worker
local LATE = call('ZCOUNT', P .. 'wk', whole(now - 3000), '+inf') > 1 and 300 or 0
alive(wid)
local cfg = call('HMGET', P .. 'cfg', 'stop', 'paused', 'max_doing', 'qps')
if cfg[1] == '1' then return {'stop', -1, {}, 0, 0} end
if cfg[2] == '1' then return {'paused', -1, {}, 0, 0} end
promote(1000)
reclaim(200)
expire(200)
local suspects, waiting = call('ZCARD', P .. 'suspect'), call('ZCARD', P .. 'todo')
if cfg[3] then
  local free = tonumber(cfg[3]) - call('ZCARD', P .. 'doing')
  n = math.min(n, free)
  late = math.min(late, free - n)
  express = math.min(express, free - n - late)
end
if n <= 0 and late <= 0 and express <= 0 then return finished({'full', 200, {}, suspects, waiting}) end

-- The rate of the whole cluster, as a generic cell rate algorithm: `due` is when the next start
-- is. Whoever comes late finds as many starts as were missed, up to a fifth of a second's.
local step, due
if cfg[4] then
  local us = time[1] * 1000000 + time[2]
  step = 1000000 / tonumber(cfg[4])
  due = math.max(tonumber(call('GET', P .. 'rl') or '0'), us - 200000)
  due = math.min(due, us + step) -- the rate may have been lower
  if due > us then return finished({'rate', math.ceil((due - us) / 1000), {}, suspects, waiting}) end
  local may = math.floor((us - due) / step) + 1
  n = math.min(n, may)
  late = math.min(late, may - n)
  express = math.min(express, may - n - late)
end

local function start(id, attempt, gid)
  -- It has started in time, also if it must be begun anew.
  local key = P .. 'j:' .. id
  call('HSET', key, 'state', 'doing', 'tries', attempt, 'wid', wid, 'at', whole(now))
  if alone ~= '0' then call('HSET', key, 'alone', alone) else call('HDEL', key, 'alone') end
  call('ZADD', P .. 'doing', whole(now + lease), id)
  call('SADD', P .. 'w:' .. wid, id)
  local g = gid and P .. 'g:' .. gid
  if g and call('HGET', g, 'state') == 'queued' then
    move_group(gid, g, 'running')
    call('HSET', g, 'started', whole(now))
  end
end

local out, more, buried = {}, true, 0

-- The next `most` jobs of one of the lines. `wait`: ms for which they have to have waited.
local function take(line, most, wait)
  most = most + #out
  while more and #out < most and buried < 1000 do
    local got = call('ZPOPMIN', P .. line, most - #out)
    if #got == 0 then break end
    for i = 1, #got, 2 do
      local id = got[i]
      local key = P .. 'j:' .. id
      local j = call('HMGET', key, 'payload', 'tries', 'exp', 'gid', 'att', 'state', 'size', 'enq', 'few')
      if more and j[6] == 'todo' then
        local payload = j[1] or call('GET', P .. 'p:' .. id) or ''
        if sure and j[3] and tonumber(j[3]) <= now then
          kill_job(id, 'expired')
          buried = buried + 1
        elseif #out > 0 and #payload > bytes then more = false
        elseif tonumber(j[8]) <= now and tonumber(j[8]) > now - wait then more = false
        else
          if j[3] then
            call('HDEL', key, 'exp')
            call('ZREM', P .. 'exp', id)
          end
          if j[4] then unlist(id, 'todo') end
          local attempt = tonumber(j[2] or 0) + 1
          start(id, attempt, j[4])
          bytes = bytes - #payload
          out[#out + 1] = {id, attempt, j[5] or '', payload, tonumber(j[7] or 1), tonumber(j[9] or 0)}
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
if buried > 0 then return finished({'empty', 0, {}, suspects, waiting}) end
local next = call('ZRANGE', P .. 'later', 0, 0, 'WITHSCORES')[2]
return finished({'empty', next and math.max(sure and 0 or 200, tonumber(next) - now) or -1, {}, suspects, waiting})
