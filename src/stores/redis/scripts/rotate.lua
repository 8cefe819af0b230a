-- Both keys are on one server.
-- KEYS: old, new, and the user's index if there is one.
-- ARGV: record, now, ttl, expected version, note that it has moved, ttl of the note; for the index: old id, new id,
-- deadline, gone_before, ttl.
-- Answers 0 if there is none under the old id, -1 if the new one is not free, what is there if it is another version; else
-- 1, and more by how many sessions the index has, if it has become longer.
local target = head(KEYS[2])
local present = head(KEYS[1])
local is_done = version(target) == version(ARGV[1]) or string.sub(present, 1, 26) == string.sub(ARGV[5], 1, 26)
if not is_done then
  if is_note(target, 'e') or not is_free(target, ARGV[2]) then return -1 end
  if is_free(present, ARGV[2]) then return 0 end
  if version(present) ~= ARGV[4] then return redis.call('GET', KEYS[1]) end
end
-- What fails here fails before the session has moved.
local entries = 0
if KEYS[3] then
  entries = note(KEYS[3], ARGV[8], ARGV[9], ARGV[10], ARGV[11])
  if redis.call('ZREM', KEYS[3], ARGV[7]) == 1 then entries = 0 end
end
if not is_done then
  redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[3])
  redis.call('SET', KEYS[1], ARGV[5], 'PX', ARGV[6])
end
return 1 + entries
