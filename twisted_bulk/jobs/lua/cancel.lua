-- End a job, or all jobs of a group. ARGV: 'job' or 'group', id
-- reply: 1 cancelled | 0 it had ended | -1 it is unknown
write_first()
local id = ARGV[2]
if ARGV[1] == 'group' then return finished(cancel_group(id)) end
if call('EXISTS', P .. 'j:' .. id) == 0 then return -1 end
return finished(kill_job(id, 'cancelled') and 1 or 0)
