-- A group of jobs, whole or not at all.
-- ARGV: gid nonce digest spec total need cap prio expires_in_ms max maxlost
--       after_queue after_payload after_max, then per job: size attachment payload
-- reply: {1, ''} queued | {0, digest} this id is known, with that digest | {-2, ''} over the cap
local gid, nonce, total = ARGV[1], ARGV[2], tonumber(ARGV[5])
local g = P .. 'g:' .. gid
local known = call('HMGET', g, 'digest', 'state')
if known[1] and known[2] ~= 'deleted' then return {0, known[1]} end
if total > room(ARGV[7]) then return {-2, ''} end
local jobs = (#ARGV - 14) / 3
local serial = call('HINCRBY', P .. 'meta', 'gseq', 1)
call('DEL', g)
call('HSET', g, 'state', 'queued', 'digest', ARGV[3], 'spec', ARGV[4], 'nonce', nonce, 'serial', serial,
  'jobs', jobs, 'left', jobs, 'total', total, 'need', ARGV[6], 'ok', 0, 'bad', 0, 'expired', 0,
  'units', 0, 'seq', 0, 'created', whole(now), 'after_queue', ARGV[12], 'after', ARGV[13],
  'after_max', ARGV[14])
call('ZADD', P .. 'groups', serial, gid)
call('ZADD', P .. 'gs:queued', serial, gid)
local expires = tonumber(ARGV[9]) > 0 and whole(now + tonumber(ARGV[9])) or '0'
for i = 1, jobs do
  local b = 14 + (i - 1) * 3
  add(P, gid .. '@' .. nonce .. '/' .. i, {prio = ARGV[8], exp = expires, max = ARGV[10],
    maxlost = ARGV[11], size = ARGV[b + 1], gid = gid, att = ARGV[b + 2], payload = ARGV[b + 3]})
end
return finished({1, ''})
