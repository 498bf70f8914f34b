-- Change live settings of a queue, for all workers. ARGV: name value ...; an empty value removes one
write_first()
for b = 1, #ARGV, 2 do
  if ARGV[b + 1] == '' then call('HDEL', P .. 'cfg', ARGV[b])
  else call('HSET', P .. 'cfg', ARGV[b], ARGV[b + 1]) end
end
call('PUBLISH', P .. 'wake', '')
return #ARGV / 2
