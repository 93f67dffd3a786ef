#!lua
-- freeze.lua   KEYS 1 meta ; ARGV 1 frozen:<operation>      (administration only)
local own = redis.call('HGET', KEYS[1], 'own') or ''
if string.sub(own, 1, 7) == 'frozen:' and own ~= ARGV[1] then return {'HELD', own} end
redis.call('HSET', KEYS[1], 'own', ARGV[1])
return {'OK'}
