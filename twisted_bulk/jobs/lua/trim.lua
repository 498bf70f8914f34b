-- Replace the results of an ended group's jobs by shorter ones.
-- ARGV: gid nonce, then for each job: result or '' (it stays)      reply: 1 done | 0 it has not ended
write_first()
local gid, g = ARGV[1], P .. 'g:' .. ARGV[1]
local nonce, ended = unpack(call('HMGET', g, 'nonce', 'ended'))
if nonce ~= ARGV[2] or not ended then return 0 end
for i = 3, #ARGV do
  if ARGV[i] ~= '' then
    local key = P .. 'j:' .. job_id(gid, nonce, i - 2)
    call('HSET', key, 'res', ARGV[i])
    call('HDEL', key, 'progress', 'prev', 'prevok', 'prevtags')
  end
end
return 1
