-- How many groups match a filter. ARGV: as groups.lua, but for the limit
-- reply: {how many of those that were looked at, cursor of the others or ''}
local filter, most, n = filter_of(unpack(ARGV, 1, 6)), tonumber(ARGV[8]), 0
local keys = source_of(filter)
local conditions = math.min(#filter.states, 1) + #filter.tags + (filter.owner == '' and 0 or 1)
-- Where one index answers, it is counted and not searched.
if conditions <= 1 and filter.prefix == '' and ARGV[7] == '' then
  local low = filter.since == '' and '-inf' or whole(serial_at(filter.since))
  local top = filter.before == '' and '+inf' or '(' .. whole(serial_at(filter.before))
  for _, key in ipairs(keys) do n = n + call('ZCOUNT', key, low, top) end
  return {n, ''}
end
local cursor = search(filter, ARGV[7], most, function()
  n = n + 1
  return true
end)
return {n, cursor}
