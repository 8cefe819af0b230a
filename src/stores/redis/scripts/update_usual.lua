-- KEYS: session. ARGV: record, now, ttl, and how a record of the expected version begins: with the deadline that the new
-- one has, if that is to come.
-- Does the usual and answers 1. The functions that come after this cost as much again to make.
if redis.call('GETRANGE', KEYS[1], 0, 32) == ARGV[4] then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[3])
  return 1
end

