#!lua
-- thaw.lua   KEYS 1 meta ; ARGV 1 frozen:<operation>, then field, value … of a new meta, or nothing      (administration only)
local own = redis.call('HGET', KEYS[1], 'own') or ''
if own ~= ARGV[1] then return {'HELD', string.sub(own, 1, 7) == 'frozen:' and own or ''} end
if #ARGV > 1 then
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[1], unpack(ARGV, 2))
elseif redis.call('HEXISTS', KEYS[1], 'off') == 0 then
  redis.call('DEL', KEYS[1])   -- there was no state, and there is none
else
  redis.call('HSET', KEYS[1], 'own', '')
end
return {'OK'}
