-- KEYS: a user's index. ARGV: id, deadline, gone_before, ttl.
-- Answers how many sessions it has, if it has become longer, else 0.
return note(KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4])
