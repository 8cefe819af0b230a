-- KEYS: copy. ARGV: deadline, expected version.
-- Answers 1 if it is of that version. How long the key lives stays as it is.
local present = start(KEYS[1], 49)
if string.byte(present, 1) ~= 1 or #present < 50 then return 0 end
if version(present) ~= ARGV[2] then return 0 end
if time(ARGV[1]) <= time(string.sub(present, 26, 33)) then return 1 end
local set = redis.pcall('SETRANGE', KEYS[1], 25, ARGV[1])
-- A server whose memory is full takes no deadline either. One that is too early is looked up in the store again.
if type(set) == 'table' and string.find(set.err, 'OOM', 1, true) ~= 1 then return set end
return 1
