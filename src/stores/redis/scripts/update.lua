-- Behind `update_usual.lua`, with the same KEYS and ARGV: a closer look.
-- Answers 0 if there is none, 1 if it is done, and else what is there.
local present = head(KEYS[1])
if is_free(present, ARGV[2]) then return 0 end
if version(present) == version(ARGV[1]) then return 1 end
if version(present) ~= version(ARGV[4]) then return redis.call('GET', KEYS[1]) end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[3])
return 1
