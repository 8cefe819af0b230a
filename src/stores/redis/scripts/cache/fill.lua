-- KEYS: copy. ARGV: ticket, record, ttl of a copy.
-- Answers 1 if it is put in. Its time runs since the ticket was made.
local present = start(KEYS[1], #ARGV[1])
if present ~= ARGV[1] then return 0 end
local now = redis.call('TIME')
local seconds, micros = struct.unpack('>I4I4', string.sub(ARGV[1], 19))
local age = (now[1] - seconds) * 1000 + math.ceil((now[2] - micros) / 1000)
-- The clock may have been put back. A key is still found in its last millisecond.
local left = tonumber(ARGV[3]) - math.max(age, 0) - 1
if left < 1 then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', string.format('%.0f', left))
return 1
