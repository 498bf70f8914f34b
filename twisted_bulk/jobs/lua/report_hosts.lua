-- Nodes tell each other of hosts in trouble. All nodes together send a host no more requests at once
-- than its limit. The limit is halved when the host has too much to do, and grows by one each second
-- while it serves requests (AIMD; Chiu and Jain, 1989). After AWAY_FAILURES failures in a row that
-- tell of the host and not of one request, the host is away: each node asks it once, with a pause
-- before each further time that doubles from FIRST_PAUSE to LAST_PAUSE.
-- ARGV: most, then for each host: name, trouble (1 or 0), ms of pause that it asked for, whether it has
--       answered before the failures (1 or 0), whether it has served a request (1 or 0), failures in a
--       row, two batches that had trouble with it (numbers, or 0)
-- reply: for each host in trouble: name, limit, ms of the pause that is left, failures in a row, ms
--        since the first of these, ms until it is asked again as it is away, the two batches
local key, most = P .. 'sources', tonumber(ARGV[1])
local CHANGE_EVERY = 1000       -- ms between two changes of a limit
local FORGET_AFTER = 300000     -- ms without trouble after which a host is forgotten
local MAX_HOSTS = 1000          -- hosts in trouble; of further ones nothing is kept
local AWAY_FAILURES = 3         -- as in downloads/host_trouble.py
local FIRST_PAUSE, LAST_PAUSE = 1000, 15000  -- ms, as there
local FIELDS = {'limit', 'till', 'changed', 'fails', 'since', 'pause', 'again', 'first', 'second'}
local hosts, known, all, out = {}, 0, call('HGETALL', key), {}
for i = 1, #all, 2 do
  local host, n = {}, 0
  for number in string.gmatch(all[i + 1], '%d+') do
    n = n + 1
    host[FIELDS[n]] = tonumber(number)
  end
  if math.max(host.till, host.changed) + FORGET_AFTER <= now then call('HDEL', key, all[i])
  else hosts[all[i]], known = host, known + 1 end
end
for b = 2, #ARGV, 8 do
  local name, host = ARGV[b], hosts[ARGV[b]]
  local trouble, wait = ARGV[b + 1] == '1', tonumber(ARGV[b + 2])
  local there, good, fails = ARGV[b + 3] == '1', ARGV[b + 4] == '1', tonumber(ARGV[b + 5])
  if (trouble or fails > 0) and not host and known < MAX_HOSTS then
    host, known = {limit = most, till = 0, changed = 0, fails = 0, since = 0, pause = 0, again = 0,
      first = 0, second = 0}, known + 1
    hosts[name] = host
  end
  if host then
    for _, batch in ipairs({tonumber(ARGV[b + 6]), tonumber(ARGV[b + 7])}) do
      if host.first == 0 then host.first = batch
      elseif batch ~= 0 and batch ~= host.first and host.second == 0 then host.second = batch end
    end
  end
  if host and there then
    host.fails, host.since, host.pause, host.again = 0, 0, 0, 0
    if good and not trouble and now >= host.till and now - host.changed >= CHANGE_EVERY then
      host.limit, host.changed = host.limit + 1, now
    end
  end
  if host and trouble then
    if now - host.changed >= CHANGE_EVERY then
      host.limit, host.changed = math.max(1, math.floor(math.min(host.limit, most) / 2)), now
    end
    host.till = math.max(host.till, now + wait)
  end
  if host and fails > 0 then
    if host.fails == 0 then host.since = now end
    host.fails, host.changed = host.fails + fails, math.max(host.changed, now - CHANGE_EVERY)
    if host.fails >= AWAY_FAILURES and now >= host.again then
      host.pause = math.min(LAST_PAUSE, math.max(FIRST_PAUSE, 2 * host.pause))
      host.again = now + host.pause
    end
  end
  if host and host.limit >= most and host.fails == 0 and now >= host.till then
    call('HDEL', key, name)
    hosts[name] = nil
  elseif host then
    local value = {}
    for n, field in ipairs(FIELDS) do value[n] = whole(host[field]) end
    call('HSET', key, name, table.concat(value, ' '))
  end
end
if next(hosts) then call('PEXPIRE', key, 4 * FORGET_AFTER) end
for name, host in pairs(hosts) do
  out[#out + 1] = name
  out[#out + 1] = host.limit
  out[#out + 1] = math.max(0, host.till - now)
  out[#out + 1] = host.fails
  out[#out + 1] = host.fails > 0 and math.max(0, now - host.since) or 0
  out[#out + 1] = math.max(0, host.again - now)
  out[#out + 1] = host.first
  out[#out + 1] = host.second
end
return out
