-- A job that failed is queued again, with all its tries. ARGV: cap id
-- reply: 1 queued | 0 it did not fail, or belongs to a group | -1 unknown | -2 over the cap
--        | the id of a job that has its parameters by now
local id = ARGV[2]
local key = P .. 'j:' .. id
local j = call('HMGET', key, 'state', 'gid', 'dd', 'size', 'payload')
if not j[1] then return -1 end
if j[1] ~= 'dead' or j[2] or not (j[5] or call('EXISTS', P .. 'p:' .. id) == 1) then return 0 end
local twin = j[3] and call('GET', P .. 'dd:' .. j[3])
if twin then return twin end
if tonumber(j[4] or 1) > room(ARGV[1]) then return -2 end
call('ZREM', P .. 'dead', id)
clear(id)
if j[3] then call('SET', P .. 'dd:' .. j[3], id) end
push_todo_again(id)
backlog(P, j[4] or 1)
count(P, 'enqueued', 1)
return finished(1)
