-- Limits that several workers share, each as fairly as their wishes allow, never more in all.
-- ARGV: worker lease_ms, then per limit: name most using wanted
-- reply per limit: how many the worker may use until it asks again
-- Whoever has more than its share now keeps only what it uses; others get that as it is given up.
write_first()
local wid, lease, out = ARGV[1], tonumber(ARGV[2]), {}
local turn = math.floor(now / 10000)

-- What `wid` gets when all wishes are served evenly (max-min fairness). Where there is not even
-- one for each, they take turns.
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
