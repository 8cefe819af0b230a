-- KEYS: session. ARGV: deadline, now, ttl, expected version.
-- Answers 1 if there is one of that version, 0 if not, -1 if one is pending.
local present = head(KEYS[1])
if is_note(present, 'p') then return -1 end
if is_free(present, ARGV[2]) or version(present) ~= ARGV[4] then return 0 end
if time(ARGV[1]) > time(string.sub(present, 26, 33)) then
  redis.call('SETRANGE', KEYS[1], 25, ARGV[1])
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
return 1
