-- How many requests at once a host that is in trouble gets, from all nodes alike: halved when
-- it says so, one more each second while it goes well (AIMD; Chiu and Jain, 1989).
-- ARGV: most, then per report: host, 1 trouble or 0 none, ms that it asked for
-- reply: per host in trouble: host, limit, ms to wait
local key, most = P .. 'pace', tonumber(ARGV[1])
local STEP, MEMORY, HOSTS = 1000, 300000, 1000
local hosts, known, all, out = {}, 0, call('HGETALL', key), {}
for i = 1, #all, 2 do
  local limit, till, changed = string.match(all[i + 1], '(%d+) (%d+) (%d+)')
  if math.max(till, changed) + MEMORY <= now then call('HDEL', key, all[i])
  else
    hosts[all[i]] = {limit = tonumber(limit), till = tonumber(till), changed = tonumber(changed)}
    known = known + 1
  end
end
for b = 2, #ARGV, 3 do
  local name, host = ARGV[b], hosts[ARGV[b]]
  if ARGV[b + 1] == '1' then
    if not host and known < HOSTS then
      host, known = {limit = most, till = 0, changed = 0}, known + 1
      hosts[name] = host
    end
    if host then
      if now - host.changed >= STEP then
        host.limit, host.changed = math.max(1, math.floor(math.min(host.limit, most) / 2)), now
      end
      host.till = math.max(host.till, now + tonumber(ARGV[b + 2]))
    end
  elseif host and now >= host.till and now - host.changed >= STEP then
    host.limit, host.changed = host.limit + 1, now
  end
  if host and host.limit >= most and now >= host.till then
    call('HDEL', key, name)
    hosts[name] = nil
  elseif host then
    local value = whole(host.limit) .. ' ' .. whole(host.till) .. ' ' .. whole(host.changed)
    call('HSET', key, name, value)
  end
end
if next(hosts) then call('PEXPIRE', key, 4 * MEMORY) end
for name, host in pairs(hosts) do
  out[#out + 1] = name
  out[#out + 1] = host.limit
  out[#out + 1] = math.max(0, host.till - now)
end
return out
