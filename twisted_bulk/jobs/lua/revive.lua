-- A dead job is queued again, with all its tries. ARGV: cap id
-- reply: 1 queued | 0 it is not dead, or belongs to a group | -1 it is unknown | -2 over the cap
--        | the id of another job with its digest
local id = ARGV[2]
local key = P .. 'j:' .. id
local state, gid, digest, size, payload = unpack(
  call('HMGET', key, 'state', 'gid', 'dd', 'size', 'payload'))
if not state then return -1 end
if state ~= 'dead' or gid or not (payload or call('EXISTS', P .. 'p:' .. id) == 1) then return 0 end
local twin = digest and call('GET', P .. 'dd:' .. digest)
if twin then return twin end
if tonumber(size or 1) > room(ARGV[1]) then return -2 end
call('ZREM', P .. 'dead', id)
clear(id)
if digest then call('SET', P .. 'dd:' .. digest, id) end
push_todo_again(id)
backlog(P, size or 1)
count(P, 'enqueued', 1)
return finished(1)
