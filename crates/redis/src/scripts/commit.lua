#!lua
-- commit.lua
-- KEYS 1 meta(hash) 2 timers(zset) 3 sequences(hash) 4.. the state buckets(hash) this commit touches
-- ARGV 1 token 2 exp_off 3 new_off 4 ochain 5 clk 6 wm 7 digest 8 eng 9 defv 10 leader 11 lastrec 12 nZadd 13 nZrem 14 nSeq, then
--   nZadd*(due,entity)  nZrem*(entity)  nSeq*(field,value)  and per KEYS[4..]: nSet nDel nSet*(entity,blob) nDel*(entity)
local n = #ARGV
local cur = redis.call('HMGET', KEYS[1], 'own', 'off')
if not cur[2] then return {'UNINIT'} end
if cur[1] ~= ARGV[1] then return {'FENCED', cur[2], cur[1] or ''} end
if cur[2] ~= ARGV[2] then return {cur[2] == ARGV[3] and 'ALREADY' or 'MOVED', cur[2]} end
-- Redis never rolls a script back: everything that can be wrong is found before the first write
local function int(v) return v and #v < 16 and string.find(v, '^%d+$') and tonumber(v) end   -- tonumber alone lets 'nan' and '0x1' through
local exp, new, za, zr, ns = int(ARGV[2]), int(ARGV[3]), int(ARGV[12]), int(ARGV[13]), int(ARGV[14])
if not exp or not new or new <= exp or not za or not zr or not ns then return {'BADARG'} end
local i = 15 + 2 * za + zr + 2 * ns
for b = 4, #KEYS do
  local s, d = int(ARGV[i]), int(ARGV[i + 1])
  if not s or not d then return {'BADARG'} end
  i = i + 2 + 2 * s + d
end
if i ~= n + 1 then return {'BADARG'} end
for j = 15, 14 + 2 * za, 2 do if not int(ARGV[j]) then return {'BADARG'} end end
local function put(cmd, key, a, z)   -- 1000 at a time: unpack fails near 8000; even, so pairs stay together
  while a <= z do local e = math.min(a + 999, z); redis.call(cmd, key, unpack(ARGV, a, e)); a = e + 1 end
end
i = 15
put('ZREM', KEYS[2], i + 2 * za, i + 2 * za + zr - 1)
put('ZADD', KEYS[2], i, i + 2 * za - 1); i = i + 2 * za + zr
put('HSET', KEYS[3], i, i + 2 * ns - 1); i = i + 2 * ns
for b = 4, #KEYS do
  local s, d = tonumber(ARGV[i]), tonumber(ARGV[i + 1]); i = i + 2
  put('HSET', KEYS[b], i, i + 2 * s - 1); i = i + 2 * s
  put('HDEL', KEYS[b], i, i + d - 1); i = i + d
end
redis.call('HSET', KEYS[1], 'off', ARGV[3], 'ochain', ARGV[4], 'clk', ARGV[5], 'wm', ARGV[6], 'digest', ARGV[7],
  'eng', ARGV[8], 'defv', ARGV[9], 'leader', ARGV[10], 'lastrec', ARGV[11])
return {'OK', ARGV[3]}
