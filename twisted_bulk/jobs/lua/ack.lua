-- ARGV: worker, then per job: id attempt ok result
-- reply per job: 1 recorded | 2 recorded before (replay) | 0 not yours any more | -1 unknown
write_first()
local out = {}
for b = 2, #ARGV, 4 do
  local id, reply = ARGV[b], 1
  local j = call('HMGET', P .. 'j:' .. id, 'state', 'tries', 'wid')
  if not j[1] then reply = -1
  elseif not holds(j[2], j[3], ARGV[1], ARGV[b + 1]) or j[1] == 'dead' then reply = 0
  elseif j[1] == 'done' then reply = 2
  -- 'doing'; or the lease ran out and nobody has taken it yet: the work is done.
  elseif ARGV[b + 3] == '' then finish(id, 'done', ARGV[b + 2])
  else finish(id, 'done', ARGV[b + 2], 'res', ARGV[b + 3]) end
  out[#out + 1] = reply
end
return finished(out)
