-- KEYS: session. ARGV: now, note that it has ended, ttl of the note, `pending` if it may be that, and the user if it
-- must be theirs.
-- Answers 1 if there was one, 0 if not, -1 if one is pending, -2 if one has been ended lately, and where it went if it
-- has moved.
local present = start(KEYS[1], 58 + 34 + 255)
if is_note(present, 'm') then return string.sub(present, 27, 58) end
if present == '' then return 0 end
if is_note(present, 'e') then return -2 end
local is_pending = is_note(present, 'p')
if is_pending and ARGV[4] == '' then return -1 end
if ARGV[5] then
  local record = is_pending and string.sub(present, 35) or present
  if string.sub(record, 51, 50 + (string.byte(record, 50) or 0)) ~= ARGV[5] then return 0 end
end
-- A server whose memory is full takes no note, and still deletes.
if redis.pcall('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]).err then redis.call('DEL', KEYS[1]) end
if is_free(present, ARGV[1]) or is_pending then return 0 end
return 1
