-- KEYS: new. ARGV: version. Removes what is pending.
local present = head(KEYS[1])
if is_note(present, 'p') and string.sub(present, 36, 59) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 1
