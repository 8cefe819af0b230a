-- What a key can hold, see `stores/keyed/value.rs`: a record, whose first byte is 1; or a note, whose first byte is 0
-- and whose second byte tells which.

-- A deadline or a clock: eight bytes, big-endian.
local function time(bytes)
  local high, low = struct.unpack('>i4I4', bytes)
  return high * 4294967296 + low
end

local function is_note(value, letter)
  return string.byte(value, 1) == 0 and string.sub(value, 2, 2) == letter
end

-- Whether no session lives under a key whose value begins like that. What can not be read lives.
local function is_free(value, now)
  if value == '' or is_note(value, 'm') or is_note(value, 'e') then return true end
  return string.byte(value, 1) == 1 and #value >= 50 and time(string.sub(value, 26, 33)) <= time(now)
end

-- Revision and write token of a record.
local function version(value)
  return string.sub(value, 2, 25)
end

local function head(key)
  return redis.call('GETRANGE', key, 0, 58)
end

-- How a value begins; one of another type, which nobody of ours has put there, like a string that is no record.
local function start(key, last)
  local present = redis.pcall('GETRANGE', key, 0, last)
  if type(present) == 'string' then return present end
  if string.find(present.err, 'WRONGTYPE', 1, true) then return string.char(0) end
  return redis.call('GETRANGE', key, 0, last)
end

-- Notes a session among those of its user, and answers how many there are if it is one more. `ttl` is what the session
-- has at most.
local function note(index, id, deadline, gone_before, ttl)
  -- First what a server whose memory is full refuses: it refuses nothing any more to a script that has written.
  local more = redis.call('ZADD', index, deadline, id)
  redis.call('ZREMRANGEBYSCORE', index, '-inf', '(' .. gone_before)
  if redis.call('PTTL', index) < tonumber(ttl) then redis.call('PEXPIRE', index, ttl) end
  return more * redis.call('ZCARD', index)
end

