-- Jobs are done. ARGV: worker, then for each job: id attempt ok result tags
-- reply for each job: 1 recorded | 2 recorded before | 0 the worker does not hold it | -1 unknown
write_first()
local out = {}
for b = 2, #ARGV, 5 do
  local id, reply = ARGV[b], 1
  local state, tries, wid = unpack(call('HMGET', P .. 'j:' .. id, 'state', 'tries', 'wid'))
  if not state then reply = -1
  elseif not holds(tries, wid, ARGV[1], ARGV[b + 1]) or state == 'dead' then reply = 0
  elseif state == 'done' then reply = 2
  -- The state is 'doing'; or the lease ran out, and no other worker has the job yet: it is done.
  else
    local kept = {}
    if ARGV[b + 3] ~= '' then kept = {'res', ARGV[b + 3]} end
    if ARGV[b + 4] ~= '' then
      kept[#kept + 1] = 'tags'
      kept[#kept + 1] = ARGV[b + 4]
    end
    finish(id, 'done', ARGV[b + 2], unpack(kept))
  end
  out[#out + 1] = reply
end
return finished(out)
