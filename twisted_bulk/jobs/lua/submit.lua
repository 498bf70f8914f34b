-- Queue a group of jobs, whole or not at all.
-- ARGV: gid nonce digest spec total need cap prio expires_in_ms max maxlost
--       after_queue after_payload after_max owner, then for each job: size attachment data payload
--       (attachment: the key where its data was stored before; or data: the data, to be stored now)
-- reply: {1, place in line} queued | {0, digest} this id is known, with that digest | {-2, ''} over
--        the cap | {-3, ''} an attachment is gone
local gid, nonce, total = ARGV[1], ARGV[2], tonumber(ARGV[5])
local g = P .. 'g:' .. gid
local known = call('HMGET', g, 'digest', 'state')
if known[1] and known[2] ~= 'deleted' then return {0, known[1]} end
if total > room(ARGV[7]) then return {-2, ''} end
local jobs = (#ARGV - 15) / 4
for i = 1, jobs do
  -- An attachment may have expired: it was stored long ago, or the server's clock was put forward.
  local att = ARGV[15 + (i - 1) * 4 + 2]
  if att ~= '' and call('EXISTS', P .. 'a:' .. att) == 0 then return {-3, ''} end
end
local serial = call('HINCRBY', P .. 'meta', 'gseq', 1)
if known[2] then call('DEL', g) end
call('HSET', g, 'state', 'queued', 'digest', ARGV[3], 'spec', ARGV[4], 'nonce', nonce, 'serial', serial,
  'jobs', jobs, 'left', jobs, 'total', total, 'need', ARGV[6], 'ok', 0, 'bad', 0, 'expired', 0,
  'units', 0, 'seq', 0, 'created', whole(now), 'after_queue', ARGV[12], 'after', ARGV[13],
  'after_max', ARGV[14])
index_group(gid, serial, 'queued', ARGV[15])
call('ZREM', P .. 'gone', gid)
note_change(P, gid)
if ARGV[15] ~= '' then call('HSET', g, 'owner', ARGV[15]) end
local expires = tonumber(ARGV[9]) > 0 and whole(now + tonumber(ARGV[9])) or '0'
for i = 1, jobs do
  local b, id = 15 + (i - 1) * 4, job_id(gid, nonce, i)
  local att, data = ARGV[b + 2], ARGV[b + 3]
  if data ~= '' then
    att = id
    call('SET', P .. 'a:' .. id, data)
  elseif att ~= '' then
    call('PERSIST', P .. 'a:' .. att)
  end
  add(P, id, {prio = ARGV[8], exp = expires, max = ARGV[10], maxlost = ARGV[11],
    size = ARGV[b + 1], few = total <= SMALL_GROUP and '1' or '0', gid = gid, att = att, payload = ARGV[b + 4]})
end
return finished({1, place_of(job_id(gid, nonce, 1))})
