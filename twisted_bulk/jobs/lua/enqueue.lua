-- New jobs.
-- ARGV: cap, then for each job: id prio first due_in_ms expires_in_ms max maxlost size digest window_ms
--       payload
-- reply for each job: 1 queued | 0 this id is known | -2 over the cap | the id of the job with this digest
local out, left = {}, room(ARGV[1])
for b = 1, #ARGV - 1, 11 do
  local reply = enqueue(b, left)
  if reply == 1 then left = left - ARGV[b + 8] end
  out[#out + 1] = reply
end
return finished(out)
