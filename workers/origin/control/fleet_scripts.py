"""The Lua of `fleet`, one script a step; each touches the one key it is given and reads the server's clock.

Pure text. The key schema is in `fleet`.
"""

from __future__ import annotations

from workers.broker.server_clock import NOW

# ARGV: process, ttl ms, slots of the fleet (-1: unbounded), of them for cold, in use hot, in use cold,
#       wanted hot, wanted cold (both with those in use).
# A process that holds more than an even share gives back while others lack; where there are more processes
# than slots, it gives back after a second. What is in use stays on the books until it has ended, whatever the
# answer (slots it may use: hot, cold; processes; slots that others lack; whether it was known; those of the
# processes that have not renewed for two calls) says.
LEASE = (
    NOW
    + """
local me, ttl = ARGV[1], tonumber(ARGV[2])
local slots, cold_slots = tonumber(ARGV[3]), tonumber(ARGV[4])
local use_hot, use_cold = tonumber(ARGV[5]), tonumber(ARGV[6])
local want_hot, want_cold = tonumber(ARGV[7]), tonumber(ARGV[8])
local hot, cold, members, wanting, wanting_cold, unmet_hot, unmet_cold = 0, 0, 1, 1, 1, 0, 0
local since, known, silent = 0, 0, 0
local heard_until = now + ttl - math.min(3000, ttl / 2)
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local e, h, c, uh, uc, s = string.match(all[i + 1], '(%d+) (%d+) (%d+) (%d+) (%d+) (%d+)')
  if not e or tonumber(e) <= now then
    redis.call('HDEL', KEYS[1], all[i])
  elseif all[i] == me then
    since, known = tonumber(s), 1
  else
    members = members + 1
    if tonumber(e) < heard_until then silent = silent + 1 end
    hot, cold = hot + h, cold + c
    unmet_hot, unmet_cold = unmet_hot + uh, unmet_cold + uc
    if h + c + uh + uc > 0 then wanting = wanting + 1 end
    if c + uc > 0 then wanting_cold = wanting_cold + 1 end
  end
end
local may_hot, may_cold, got_hot, got_cold = 0, 0, 0, 0
if slots >= 0 then
  local free = math.max(0, slots - hot - cold)
  local fair = math.max(1, math.floor(slots / wanting))
  may_hot = math.min(want_hot, free)
  if unmet_hot > 0 then may_hot = math.min(may_hot, fair) end
  got_hot = math.max(use_hot, may_hot)
  may_cold = math.min(want_cold, cold_slots - cold, free - got_hot)
  if unmet_cold > 0 then may_cold = math.min(may_cold, math.max(1, math.floor(cold_slots / wanting_cold))) end
  if unmet_hot > 0 then may_cold = math.min(may_cold, fair - got_hot) end
  may_cold = math.max(0, may_cold)
  if unmet_hot + unmet_cold > 0 and wanting > slots and since > 0 and now - since > 1000 then
    may_hot, may_cold = 0, 0
  end
  got_hot, got_cold = math.max(use_hot, may_hot), math.max(use_cold, may_cold)
end
if got_hot + got_cold == 0 then since = 0 elseif since == 0 then since = now end
redis.call('HSET', KEYS[1], me, string.format('%d %d %d %d %d %d', now + ttl, got_hot, got_cold,
  math.max(0, want_hot - got_hot), math.max(0, want_cold - got_cold), since))
redis.call('PEXPIRE', KEYS[1], ttl * 2)
return {may_hot, may_cold, members, unmet_hot + unmet_cold, known, silent}
"""
)

# ARGV: kind, rate a second, burst, floor kept for hot, wanted, least that helps.
# What helps but is more than can ever lie above the floor is lent from a full bucket, and earned back before
# the next grant: the rate holds whatever the size of a request.
TAKE = (
    NOW
    + """
local kind, rate, burst = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local floor, want, least = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local kept = redis.call('HMGET', KEYS[1], kind, kind .. ':at')
local tokens, at = tonumber(kept[1]) or burst, tonumber(kept[2]) or now
tokens = math.min(burst, tokens + math.max(0, now - at) * rate / 1000)
local need = math.min(floor + least, burst)
local got, wait = 0, 0
if tokens >= need then
  got = math.max(least, math.min(want, math.floor(tokens - floor)))
  tokens = tokens - got
else
  wait = math.ceil((need - tokens) * 1000 / rate)
end
redis.call('HSET', KEYS[1], kind, string.format('%.3f', tokens), kind .. ':at', now)
redis.call('PEXPIRE', KEYS[1], math.ceil(math.max(60000, (burst - tokens) * 1000 / rate + 1000)))
return {string.format('%.3f', got), wait}
"""
)

# ARGV: host, ms, count, cause. An ejection that is known and ends later stays.
EJECT = (
    NOW
    + """
local until_ms = now + tonumber(ARGV[2])
local known = redis.call('HGET', KEYS[1], ARGV[1])
if known and tonumber(string.match(known, '^(%d+)')) >= until_ms then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], string.format('%d %d %s', until_ms, ARGV[3], ARGV[4]))
return 1
"""
)

# ARGV: ms that an entry is kept after its end. Answers host, ms left (negative: half-open), count, cause, …
OUT = (
    NOW
    + """
local found = {}
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local u, n, cause = string.match(all[i + 1], '(%d+) (%d+) (%a+)')
  if not u or tonumber(u) + tonumber(ARGV[1]) < now then
    redis.call('HDEL', KEYS[1], all[i])
  else
    found[#found + 1] = all[i]
    found[#found + 1] = string.format('%d', tonumber(u) - now)
    found[#found + 1] = n
    found[#found + 1] = cause
  end
end
return found
"""
)

# ARGV: field, process, ttl ms. One holder of a field at a time; the holder renews.
HOLD = (
    NOW
    + """
local known = redis.call('HGET', KEYS[1], ARGV[1])
if known then
  local e, who = string.match(known, '(%d+) (.+)')
  if e and tonumber(e) > now and who ~= ARGV[2] then return 0 end
end
redis.call('HSET', KEYS[1], ARGV[1], string.format('%d %s', now + tonumber(ARGV[3]), ARGV[2]))
redis.call('PEXPIRE', KEYS[1], tonumber(ARGV[3]) * 4)
return 1
"""
)

# ARGV: process, ms for which its report counts, for housekeeping.
MEMBER = (
    NOW
    + """
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('ZADD', KEYS[1], now + tonumber(ARGV[2]), ARGV[1])
return 1
"""
)
