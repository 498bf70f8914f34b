-- ARGV: cap, then per job: id prio first due_in_ms expires_in_ms max maxlost size payload
-- reply per job: 1 queued | 0 this id is known | -2 over the cap
local cap, out = tonumber(ARGV[1]), {}
local function at(ms) if tonumber(ms) > 0 then return whole(now + tonumber(ms)) end return '0' end
for b = 1, #ARGV - 1, 9 do
  local id, size = ARGV[b + 1], ARGV[b + 8]
  local backlog = tonumber(call('HGET', P .. 'meta', 'backlog') or '0')
  if call('EXISTS', P .. 'j:' .. id) == 1 then out[#out + 1] = 0
  elseif backlog + tonumber(size) > cap then out[#out + 1] = -2
  else
    out[#out + 1] = add(P, id, ARGV[b + 2], ARGV[b + 3], at(ARGV[b + 4]), at(ARGV[b + 5]),
      ARGV[b + 6], ARGV[b + 7], size, '', '', ARGV[b + 9])
  end
end
return out
