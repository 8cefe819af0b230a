-- KEYS: copy. ARGV: ticket without its time, ttl of the ticket.
-- Answers what is there; if there is nothing, the ticket that is then, or nil if there is no room for one. Its time makes each one that is set another: were
-- this sent twice, and the first one came late, a ticket that has been made void would come back.
local present = redis.call('GET', KEYS[1])
if present then return present end
local now = redis.call('TIME')
local ticket = ARGV[1] .. struct.pack('>I4I4', now[1], now[2])
local set = redis.pcall('SET', KEYS[1], ticket, 'PX', ARGV[2])
if not set.err then return ticket end
-- There is no room for a ticket, which is no reason to leave the copies alone.
if string.find(set.err, 'OOM', 1, true) == 1 then return false end
return set
