-- Another priority for jobs that wait. ARGV: 'job' or 'group', id, priority
-- reply: how many jobs have it now | -1 unknown
write_first()
if ARGV[1] == 'group' then return finished(prioritise_group(ARGV[2], ARGV[3])) end
if call('EXISTS', P .. 'j:' .. ARGV[2]) == 0 then return -1 end
return finished(prioritise_job(ARGV[2], ARGV[3]))
