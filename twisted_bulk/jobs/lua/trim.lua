-- Shorter results of a group that has ended. ARGV: gid run_nonce, then per job: result or ''
write_first()
local gid, g = ARGV[1], P .. 'g:' .. ARGV[1]
local f = call('HMGET', g, 'nonce', 'ended')
if f[1] ~= ARGV[2] or not f[2] then return 0 end
for i = 3, #ARGV do
  if ARGV[i] ~= '' then
    local key = P .. 'j:' .. job_id(gid, f[1], i - 2)
    call('HSET', key, 'res', ARGV[i])
    call('HDEL', key, 'progress', 'prev', 'prevok')
  end
end
return 1
