-- KEYS: session, and its user's index if it has one.
-- ARGV: record, now, ttl; for the index: id, deadline, gone_before, ttl.
-- Answers 0 if the id is taken, or a session has ended there or has moved on: the note of that may be what keeps it alive
-- where it is. Else 1, and more by how many sessions the index has, if it has become longer.
local present = head(KEYS[1])
local is_done = version(present) == version(ARGV[1])
local was_there = is_note(present, 'e') or is_note(present, 'm')
if not is_done and (was_there or not is_free(present, ARGV[2])) then return 0 end
local entries = 0
if KEYS[2] then entries = note(KEYS[2], ARGV[4], ARGV[5], ARGV[6], ARGV[7]) end
if not is_done then redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[3]) end
return 1 + entries
