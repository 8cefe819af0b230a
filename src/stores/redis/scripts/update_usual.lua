-- KEYS: session. ARGV: record, now, ttl, and how a record of the expected version begins. With the deadline of the new
-- record, if what has this one may be written over without a closer look: nearly always. Else without, and never found.
-- Does that, and answers 1. All else falls through to `update.lua`. The functions between the two cost as much to make as
-- all of this, so they come after it.
if redis.call('GETRANGE', KEYS[1], 0, 32) == ARGV[4] then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[3])
  return 1
end

