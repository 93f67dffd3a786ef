#!lua
-- init.lua   KEYS 1 meta 2 timers 3 sequences 4..19 state buckets ; ARGV 1 inst 2 lay 3 fmt      (administration only)
if redis.call('EXISTS', KEYS[1]) == 1 then return {'EXISTS'} end
for i = 2, #KEYS do   -- state without its meta is a loss, not a new partition
  if redis.call('EXISTS', KEYS[i]) == 1 then return {'REMAINS', KEYS[i]} end
end
redis.call('HSET', KEYS[1], 'inst', ARGV[1], 'lay', ARGV[2], 'fmt', ARGV[3], 'off', '0', 'clk', '0', 'wm', '0', 'ochain', '0',
  'digest', '', 'eng', '0', 'defv', '', 'leader', '0', 'lastrec', '', 'own', '')
return {'OK'}
