-- Remove a bulk action. ARGV: id      reply: 1
drop_bulk(ARGV[1])
return 1
