"""The decisions of `workers.ledger.back`, in Lua: each is one step on the server, on the server's clock.

Owns nothing but the scripts; the record of a key and the key schema are told in `workers.ledger.back`.
"""

from __future__ import annotations

from workers.broker.server_clock import NOW

_COMMON = (
    NOW
    + """
local function read(keys, key)
  local held = redis.call('hget', keys, key)
  if not held then return nil end
  local seq, seen, tries, how, owner = string.match(held, '^(%d+)|(%d+)|(%d+)|(%a*)|(.*)$')
  return {seq = seq, seen = seen, tries = tries, how = how, owner = owner}
end
local function write(keys, key, r)
  redis.call('hset', keys, key, r.seq .. '|' .. r.seen .. '|' .. r.tries .. '|' .. r.how .. '|' .. r.owner)
end
local function join(how, more)
  for i = 1, #more do
    local flag = string.sub(more, i, i)
    if not string.find(how, flag, 1, true) then how = how .. flag end
  end
  return how
end
local function forget(keys, due, since, key)
  redis.call('hdel', keys, key)
  redis.call('zrem', due, key)
  redis.call('zrem', since, key)
end
"""
)

BEGIN = (
    _COMMON
    + """
-- KEYS: sequence, buckets, sign of life; ARGV: prefix, front, sign ms, open ms, wait ms, then of each key:
-- bucket, token, name
redis.call('set', KEYS[3], '1', 'px', ARGV[3])
for i = 6, #ARGV, 3 do
  local bucket, key = ARGV[i], ARGV[i + 2]
  local keys, open = ARGV[1] .. ':keys:' .. bucket, ARGV[1] .. ':open:' .. bucket .. '\\0' .. key
  redis.call('sadd', KEYS[2], bucket)
  if redis.call('hexists', keys, key) == 0 then
    write(keys, key, {seq = redis.call('incr', KEYS[1]), seen = 0, tries = 0, how = '', owner = ''})
  end
  redis.call('sadd', open, ARGV[2] .. '/' .. ARGV[i + 1])
  redis.call('pexpire', open, ARGV[4])
  redis.call('zadd', ARGV[1] .. ':due:' .. bucket, 'nx', now + ARGV[5], key)
end
return 1
"""
)

END = (
    _COMMON
    + """
-- KEYS: sequence, buckets; ARGV: prefix, front, late ms, open ms, then of each key: bucket, token ('' for
-- none), name, and what came of it ('' for nothing, '?' where nobody knows: it stays open, see `LATE_MS`)
for i = 5, #ARGV, 4 do
  local bucket, token, key, what = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local keys, due = ARGV[1] .. ':keys:' .. bucket, ARGV[1] .. ':due:' .. bucket
  local since, open = ARGV[1] .. ':since:' .. bucket, ARGV[1] .. ':open:' .. bucket .. '\\0' .. key
  if what == '?' then
    local late = ARGV[2] .. '-' .. token
    redis.call('set', ARGV[1] .. ':front:' .. late, '1', 'px', ARGV[3])
    redis.call('sadd', open, late .. '/')
    redis.call('pexpire', open, ARGV[4])
    what = 'w'
  end
  if token ~= '' then redis.call('srem', open, ARGV[2] .. '/' .. token) end
  local r = read(keys, key)
  if what ~= '' then
    r = r or {seen = 0, how = '', owner = ''}
    r.seq, r.tries, r.how = redis.call('incr', KEYS[1]), 0, join(r.how, what)
    redis.call('sadd', KEYS[2], bucket)
    write(keys, key, r)
    redis.call('zadd', since, 'nx', now, key)
    if r.owner == '' then redis.call('zadd', due, now, key) end
  elseif r and r.how == '' and r.owner == '' and not redis.call('zscore', since, key)
      and redis.call('scard', open) == 0 then
    forget(keys, due, since, key)
    if redis.call('hlen', keys) == 0 then redis.call('srem', KEYS[2], bucket) end
  end
end
return 1
"""
)

TAKE = (
    _COMMON
    + """
-- KEYS: keys, due, since, buckets; ARGV: bucket, owner, lease ms, again ms, limit, prefix of open writes,
-- prefix of signs of life, then keys that are wanted now, due or not
local out = {}
local wanted = {}
for i = 8, #ARGV do wanted[#wanted + 1] = ARGV[i] end
if #wanted == 0 then
  wanted = redis.call('zrangebyscore', KEYS[2], '-inf', now, 'limit', 0, ARGV[5])
end
for _, key in ipairs(wanted) do
  local r = read(KEYS[1], key)
  if not r then
    forget(KEYS[1], KEYS[2], KEYS[3], key)
  elseif #ARGV >= 8 and r.owner ~= '' and tonumber(redis.call('zscore', KEYS[2], key) or 0) > now then
    out[#out + 1] = {key, '', '', '', ''}
  else
    local open, dead, alive = ARGV[6] .. key, false, 0
    for _, token in ipairs(redis.call('smembers', open)) do
      if redis.call('exists', ARGV[7] .. string.match(token, '^[^/]*')) == 1 then
        alive = alive + 1
      else
        redis.call('srem', open, token)
        dead = true
      end
    end
    if dead then r.seen = 0 end
    if alive > 0 and #ARGV < 8 and (r.how == '' or r.seen == r.seq) then
      redis.call('zadd', KEYS[2], now + ARGV[4], key)
      if dead then write(KEYS[1], key, r) end
    else
      r.owner = ARGV[2]
      write(KEYS[1], key, r)
      redis.call('zadd', KEYS[2], now + ARGV[3], key)
      out[#out + 1] = {key, tostring(r.seq), tostring(r.tries), r.how, tostring(now)}
    end
  end
end
if redis.call('hlen', KEYS[1]) == 0 then redis.call('srem', KEYS[4], ARGV[1]) end
return out
"""
)

FINISH = (
    _COMMON
    + """
-- KEYS: keys, due, since, buckets, then open writes of each key; ARGV: bucket, owner, again ms, then of each
-- key: its name, the sequence that was taken, ms at which it was taken
local out = {}
for i = 5, #KEYS do
  local key, seq, at = ARGV[3 * i - 11], ARGV[3 * i - 10], ARGV[3 * i - 9]
  local r = read(KEYS[1], key)
  if not r or r.owner ~= ARGV[2] then
    out[#out + 1] = 'lost'
  elseif r.seq ~= seq then
    r.owner, r.tries = '', 0
    write(KEYS[1], key, r)
    redis.call('zadd', KEYS[2], now, key)
    redis.call('zadd', KEYS[3], 'xx', at, key)
    out[#out + 1] = 'again'
  elseif redis.call('scard', KEYS[i]) == 0 then
    forget(KEYS[1], KEYS[2], KEYS[3], key)
    out[#out + 1] = 'done'
  else
    write(KEYS[1], key, {seq = r.seq, seen = r.seq, tries = 0, how = '', owner = ''})
    redis.call('zrem', KEYS[3], key)
    redis.call('zadd', KEYS[2], now + ARGV[3], key)
    out[#out + 1] = 'done'
  end
end
if redis.call('hlen', KEYS[1]) == 0 then redis.call('srem', KEYS[4], ARGV[1]) end
return out
"""
)

PUT_OFF = (
    _COMMON
    + """
-- KEYS: keys, due; ARGV: owner, key, sequence that was taken, delay ms (-1: until somebody asks), tries
local r = read(KEYS[1], ARGV[2])
if not r or r.owner ~= ARGV[1] then return 0 end
r.owner = ''
if r.seq ~= ARGV[3] then
  r.tries = 0
  redis.call('zadd', KEYS[2], now, ARGV[2])
else
  r.tries = ARGV[5]
  if tonumber(ARGV[4]) < 0 then
    redis.call('zrem', KEYS[2], ARGV[2])
    r.how = join(r.how, 'f')
  else
    redis.call('zadd', KEYS[2], now + ARGV[4], ARGV[2])
  end
end
write(KEYS[1], ARGV[2], r)
return 1
"""
)

RENEW = (
    _COMMON
    + """
-- KEYS: keys, due; ARGV: owner, lease ms, key
local r = read(KEYS[1], ARGV[3])
if not r or r.owner ~= ARGV[1] then return 0 end
redis.call('zadd', KEYS[2], now + ARGV[2], ARGV[3])
return 1
"""
)

FORGET = (
    _COMMON
    + """
-- KEYS: keys, due, since, buckets; ARGV: bucket, then the keys
local n = 0
for i = 2, #ARGV do
  n = n + redis.call('hexists', KEYS[1], ARGV[i])
  forget(KEYS[1], KEYS[2], KEYS[3], ARGV[i])
end
if redis.call('hlen', KEYS[1]) == 0 then redis.call('srem', KEYS[4], ARGV[1]) end
return n
"""
)
