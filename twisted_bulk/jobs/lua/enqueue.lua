-- New jobs.
-- ARGV: cap, then for each job: id prio first due_in_ms expires_in_ms max maxlost size digest window_ms
--       payload
-- reply for each job: 1 queued | 0 this id is known | -2 over the cap | the id of the job with this digest
local out, left = {}, room(ARGV[1])
local function at(ms) if tonumber(ms) > 0 then return whole(now + tonumber(ms)) end return '0' end
for b = 1, #ARGV - 1, 11 do
  local id, size, digest = ARGV[b + 1], tonumber(ARGV[b + 8]), ARGV[b + 9]
  local twin = digest ~= '' and call('GET', P .. 'dd:' .. digest)
  local reply = 1
  if call('EXISTS', P .. 'j:' .. id) == 1 then reply = 0
  elseif twin then
    reply = twin
    count(P, 'duplicate', 1)
  elseif size > left then reply = -2
  else
    add(P, id, {prio = ARGV[b + 2], first = ARGV[b + 3], due = at(ARGV[b + 4]), exp = at(ARGV[b + 5]),
      max = ARGV[b + 6], maxlost = ARGV[b + 7], size = ARGV[b + 8], dd = digest,
      win = ARGV[b + 10], payload = ARGV[b + 11]})
    left = left - size
  end
  out[#out + 1] = reply
end
return finished(out)
