-- A dead job is queued again, see `revive_job`. ARGV: cap id
return finished(revive_job(ARGV[2], ARGV[1]))
