-- An ended group is queued again, see `again_group`.
-- ARGV: cap gid, which of the units that failed are wanted or '', numbers of the jobs that are wanted
--       with commas between them or '', then number and attachment of each job that has other data now
local replaced, wanted = {}, nil
for i = 5, #ARGV, 2 do replaced[tonumber(ARGV[i])] = ARGV[i + 1] end
for number in string.gmatch(ARGV[4], '%d+') do
  wanted = wanted or {}
  wanted[tonumber(number)] = true
end
return finished(again_group(ARGV[2], ARGV[1], replaced, wanted, ARGV[3]))
