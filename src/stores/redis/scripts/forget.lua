-- KEYS: old. ARGV: note that it has moved, ttl.
-- Shortens the life of that note.
local present = head(KEYS[1])
if string.sub(present, 1, 26) == string.sub(ARGV[1], 1, 26) then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 1
