-- Ids of groups, newest first. ARGV: state or '', owner or '', cursor or '', limit
-- reply: {cursor of the next page or '', id, ...}. Where both state and owner are given, a page may
-- have fewer than the limit though more follow: the owner's groups are searched, 1000 at a time.
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
