-- Jobs that failed, the latest first. ARGV: how many to leave out, limit      reply: ids
return call('ZREVRANGEBYSCORE', P .. 'dead', '+inf', '-inf', 'LIMIT', ARGV[1], ARGV[2])
