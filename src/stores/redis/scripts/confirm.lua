-- KEYS: new. ARGV: version. Makes a record of a pending one, and answers what there is.
local present = redis.call('GET', KEYS[1]) or ''
if not is_note(present, 'p') or string.sub(present, 36, 59) ~= ARGV[1] then return present end
local record = string.sub(present, 35)
local ttl = math.max(redis.call('PTTL', KEYS[1]), 1)
redis.call('SET', KEYS[1], record, 'PX', string.format('%.0f', ttl))
return record
