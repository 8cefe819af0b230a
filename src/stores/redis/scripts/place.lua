-- KEYS: new. ARGV: pending record, now, ttl.
-- Answers 1 if it is there, 0 if the id is taken, -1 if a session has ended there or has moved on.
local present = head(KEYS[1])
if is_note(present, 'e') or is_note(present, 'm') then return -1 end
local own = string.sub(ARGV[1], 36, 59)
if string.sub(present, 36, 59) == own or version(present) == own then return 1 end
if not is_free(present, ARGV[2]) then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[3])
return 1
