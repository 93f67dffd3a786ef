#!lua
-- claim.lua   KEYS 1 meta 2 timers 3 sequences 4..19 state buckets ; ARGV 1 token 2 inst 3 lay 4 fmt
local m = redis.call('HMGET', KEYS[1], 'inst', 'lay', 'fmt', 'off', 'clk', 'wm', 'ochain', 'digest', 'eng', 'defv', 'leader', 'lastrec', 'own')
if not m[4] then return {'UNINIT'} end
if m[1] ~= ARGV[2] or m[2] ~= ARGV[3] or m[3] ~= ARGV[4] then return {'MISMATCH', m[1] or '', m[2] or '', m[3] or ''} end
if string.sub(m[13] or '', 1, 7) == 'frozen:' then return {'FROZEN', m[13]} end
local want = {'hash', 'zset', 'hash'}
for i = 1, #KEYS do
  local t = redis.call('TYPE', KEYS[i]).ok
  if t ~= 'none' and t ~= (want[i] or 'hash') then return {'CORRUPT', KEYS[i], t} end
end
redis.call('HSET', KEYS[1], 'own', ARGV[1])
return {'OK', m[4], m[5], m[6], m[7], m[8], m[9], m[10], m[11], m[12], m[13] or '', redis.call('HGETALL', KEYS[3])}
