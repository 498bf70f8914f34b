-- Limits that several workers share: each gets a fair share, and all together never more than the
-- limit. A worker that has more than its share keeps only those that it uses; others get these when
-- it gives them up.
-- ARGV: worker lease_ms, then for each limit: name most using wanted
-- reply for each limit: how many the worker may use until it asks again
write_first()
local wid, lease, out = ARGV[1], tonumber(ARGV[2]), {}
local TURN = 10000
local turn = math.floor(now / TURN)

-- The share of `wid` by max-min fairness: all wishes are served evenly, the smallest first. Where
-- there is not even one for each worker, they take turns of TURN ms.
local function fair(wishes, most)
  table.sort(wishes, function(a, b) return a.wid < b.wid end)
  for n, wish in ipairs(wishes) do wish.place = (n + turn) % #wishes end
  table.sort(wishes, function(a, b)
    if a.wanted ~= b.wanted then return a.wanted < b.wanted end
    return a.place < b.place
  end)
  for n, wish in ipairs(wishes) do
    local part = math.min(wish.wanted, math.floor(most / (#wishes - n + 1)))
    if wish.wid == wid then return part end
    most = most - part
  end
end

for b = 3, #ARGV, 4 do
  local key, most = P .. 'l:' .. ARGV[b], tonumber(ARGV[b + 1])
  local using, wanted = tonumber(ARGV[b + 2]), tonumber(ARGV[b + 3])
  local taken, wishes, all = 0, {{wid = wid, wanted = wanted}}, call('HGETALL', key)
  for i = 1, #all, 2 do
    local granted, wants, till = string.match(all[i + 1], '(%d+) (%d+) (%d+)')
    if tonumber(till) <= now then call('HDEL', key, all[i])
    elseif all[i] ~= wid then
      taken = taken + tonumber(granted)
      wishes[#wishes + 1] = {wid = all[i], wanted = tonumber(wants)}
    end
  end
  local granted = 0
  if wanted == 0 then call('HDEL', key, wid)
  else
    granted = math.max(using, math.min(fair(wishes, most), most - taken))
    call('HSET', key, wid, whole(granted) .. ' ' .. whole(wanted) .. ' ' .. whole(now + lease))
    call('PEXPIRE', key, lease)
  end
  out[#out + 1] = granted
end
return out
