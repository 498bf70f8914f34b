-- The keys, the fields and the ids of a queue. The files of shared/ stand before every script, in
-- the order keys, clock, lines, indexes, ending, leases, actions, bulk; see jobs/scripts.py.
--
-- KEYS[1] is the prefix of one queue's keys. Payloads and results are opaque bytes. Times are
-- milliseconds of the queue's time (clock.lua) unless a line says otherwise.
--
--   todo            ZSET    waiting job -> its place in line (see `scored`)
--   later           ZSET    job that is not yet due -> when it is due
--   doing           ZSET    job that a worker has -> when the lease ends
--   done, dead      ZSET    ended job -> when it ended
--   suspect         ZSET    as todo, and instead of it: jobs that are to be run alone
--   small           ZSET    as todo, and beside it: jobs of a group of few units
--   exp             ZSET    job -> when it is too late to start
--   doubt           ZSET    job whose due or exp was computed while the clock was unsure -> `skew` then
--   j:<job>         HASH    one job, see below
--   p:<job>         STRING  its payload, if that is too long for the hash
--   a:<key>         STRING  an attachment
--   dd:<digest>     STRING  the job that has these parameters
--   w:<worker>      SET     the jobs that one worker process has
--   wk              ZSET    worker -> when it was heard last
--   waits           HASH    worker -> why it takes no job now
--   fn              HASH    function -> what its consumers declare of it (JSON)
--   cron            HASH    call at fixed times -> the last time at which it was queued (ms), its line
--   cfg             HASH    live settings: stop, paused, max_doing, qps, cap
--   meta            HASH    seq, lseq, gseq: serial numbers; backlog: units that have not ended;
--                           cseq: number of the last change; cgone: of the last one that is in
--                           `changes` no more; empty_since; index, indexed: see
--                           maintain.lua; alive, hold: see leases.lua
--   rl              STRING  when the next start is due under qps (microseconds)
--   m:<minute>      HASH    event -> how often it happened in that minute
--   wake            channel: a job can be taken
--   g:<group>       HASH    one group, see below
--   groups          ZSET    group -> serial number
--   gs:<state>      ZSET    the same, by state
--   go:<owner>      ZSET    the same, by owner
--   gt:<tag>        ZSET    the same, by tag: a word that an ended job of the group has
--   names           ZSET    entries of all groups at score 0, see `name_entry` in indexes.lua
--   gend            ZSET    ended group -> when its retention begins
--   kept            ZSET    ended group of which some units failed -> when it ended: its members stay
--   s:<group>       STRING  who reports on it, see claim_report.lua
--   n:<group>       HASH    the names that its units have, see claim_names.lua
--   bulks, bk:, bi:         see bulk.lua
--   changes         ZSET    group -> number of its last change that its users see
--   gone            ZSET    forgotten group that is still in `changes` -> when it was forgotten
--   bw:{bulkwav}:clock  HASH  the queue's time, one for all queues, see clock.lua
--
-- Fields of a job. One that has its default is absent.
--   state           todo, later, doing, done, dead
--   score           its place in line
--   payload, att    its payload if that is short; the key of its attachment
--   size            units of work in it (1)
--   few             1: its group has few units (0)
--   gid             its group
--   of              the prefix of the queue whose group this job follows
--   max, maxlost    tries, and losses in a row while it ran alone, before it is dead
--   enq, at, end    when it was queued, was begun, ended
--   exp             when it is too late to start
--   tries           attempts so far; `free` of them do not count, as their worker was lost
--   wid             the worker that has it, or had it
--   lost            losses in a row without getting further; `solo` of them while it ran alone
--   sunits, skept   units at the last loss: reported by heartbeats, found on the worker's disk
--   alone           how it runs alone: 1 each loss counts, 2 a loss counts only where `blamed`
--   units           thousandths of its units that have ended
--   progress, res   bytes of the last heartbeat; of the acknowledgement
--   ok              units that succeeded
--   tags            words by which its group is found, with commas between them
--   why, err        why it is dead; the last error in words
--   fails           a line for each of the last tries that failed: when, and how
--   dd, win         its digest, and for how long that holds after it was done
--   prev, prevok, prevtags  its result, its `ok` and its `tags` in the run before
--
-- Fields of a group.
--   state           queued, running, done, partial, failed, cancelled, expired, deleted
--   digest, spec, owner   as submitted
--   nonce, runs     the name of its first run; how many runs were before the present one
--   serial, created, queued, started, ended   queued: when it was queued again
--   jobs, left      how many jobs it has, and how many have not ended
--   total, need     units of all jobs; units that must succeed
--   ok, bad, units  units that succeeded; that failed; thousandths that have ended
--   expired         jobs that expired
--   cancelled, hopeless   1: it was cancelled; 1: it cannot succeed any more
--   before          its state before the present run
--   only            opaque bytes: which of the units that failed are wanted in this run; absent: all
--   seq             the number of the last report
--   after_queue, after, after_max   the prefix, payload and tries of the job that follows
local P = KEYS[1]
local call = redis.call

local MAX_TRIES, MAX_LOSSES = 3, 3  -- of a job that has no `max` and no `maxlost`
local SUSPECT_LOSSES = 2            -- losses in a row from which a job is a suspect: it runs alone
local INLINE_BYTES = 64             -- of a payload in its hash; a longer value costs its compact form
local SMALL_GROUP = 100             -- units of a group up to which its jobs are also in `small`

-- A number as an integer in decimal digits; Lua would write 1e+15.
local function whole(x) return string.format('%.0f', x) end

-- The id of job `number` of a group; `nonce` is the name of the group's first run.
local function job_id(gid, nonce, number) return gid .. '@' .. nonce .. '/' .. number end

-- The id of the job that follows a group's run. Its part behind '@' is the run's name.
local function after_id(gid, nonce, runs) return gid .. '@' .. nonce .. (runs and '+' .. runs or '') end

-- Redis that is over maxmemory refuses a growing command only until a script's first write. Scripts
-- that shrink the queue begin with this write, so that they work in a full server. Scripts that add
-- jobs must not.
local function write_first() call('DEL', P .. '_') end

-- Events by queue, and queues with a new job; `finished` writes them.
local tally, wakes = {}, {}
local function count(Q, what, n)
  tally[Q] = tally[Q] or {}
  tally[Q][what] = (tally[Q][what] or 0) + n
end

-- Groups that changed, by queue; `finished` numbers the changes.
local changed = {}
local function note_change(Q, gid)
  changed[Q] = changed[Q] or {}
  changed[Q][gid] = true
end

-- The state of a job changed, and with it the group of the job, or the one that the job follows.
-- gid, of: fields of the job
local function note_change_of(id, gid, of)
  if gid then return note_change(P, gid) end
  if not of then return end
  local followed = string.match(id, '^(.*)@')
  local state = call('HGET', of .. 'g:' .. followed, 'state')
  -- The group may have been forgotten since.
  if state and state ~= 'deleted' then note_change(of, followed) end
end
