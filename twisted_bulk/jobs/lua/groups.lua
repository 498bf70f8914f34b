-- Newest first. ARGV: state or '', owner or '', cursor or '', limit
-- reply: {cursor of what follows or '', id, ...}; of an owner's in one state fewer than there are
-- may come, as these are looked for.
local state, owner, limit = ARGV[1], ARGV[2], tonumber(ARGV[4])
local top = ARGV[3] == '' and '+inf' or '(' .. ARGV[3]
local index = (owner ~= '' and 'go:' .. owner) or (state ~= '' and 'gs:' .. state) or 'groups'
local picks = owner ~= '' and state ~= ''
local looked = picks and 1000 or limit
local found = call('ZREVRANGEBYSCORE', P .. index, top, '-inf', 'WITHSCORES', 'LIMIT', 0, looked)
local reply = {#found == 2 * looked and found[#found] or ''}
for i = 1, #found, 2 do
  if not picks or call('HGET', P .. 'g:' .. found[i], 'state') == state then
    reply[#reply + 1] = found[i]
    if #reply > limit then
      reply[1] = i + 1 < #found and found[i + 1] or reply[1]
      break
    end
  end
end
return reply
