-- KEYS: copy. ARGV: record, expected version.
-- Answers 1 if it is put in. A ticket goes, and so does what is no record.
local present = start(KEYS[1], 24)

local function revision(value)
  return struct.unpack('>I4I4', string.sub(value, 2, 9))
end

if string.byte(present, 1) == 1 and #present == 25 then
  if version(present) == ARGV[2] then
    -- A server whose memory is full takes no record, and still deletes.
    if not redis.pcall('SET', KEYS[1], ARGV[1], 'KEEPTTL').err then return 1 end
  else
    -- In halves, for a number of Lua is exact up to 2^53; and not as text, which is compared by the locale.
    local high, low = revision(present)
    local new_high, new_low = revision(ARGV[1])
    if high > new_high or (high == new_high and low >= new_low) then return 0 end
  end
end
redis.call('DEL', KEYS[1])
return 0
