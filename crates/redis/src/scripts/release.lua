#!lua
-- release.lua   KEYS 1 meta ; ARGV 1 token
if redis.call('HGET', KEYS[1], 'own') ~= ARGV[1] then return {'FENCED'} end
redis.call('HSET', KEYS[1], 'own', '')
return {'OK'}
