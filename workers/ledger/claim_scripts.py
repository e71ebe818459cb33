"""The decisions of `workers.ledger.claims`, in Lua: each is one step on the server.

Owns nothing but the scripts; states, key schema and durations are told in `workers.ledger.claims`.
"""

from __future__ import annotations

#: Whether a key is known to be absent to this rule; a mark without a rule is one to all, and so is no rule.
_ABSENT = """
local function absent(name, rule)
  local mark = redis.call('get', name)
  return mark and (mark == '1' or rule == '' or mark == rule)
end
"""

CLAIM = (
    _ABSENT
    + """
-- KEYS: claim, absent, tomb of each key; ARGV: lane, value, pending ms, ignore absent (1/0), FRONT, then of
-- each key: the rule that would ask, or nothing
local out = {}
for i = 1, #KEYS, 3 do
  local state = 'claimed'
  if redis.call('exists', KEYS[i + 2]) == 1 then
    state = 'tombstone'
  elseif ARGV[4] == '0' and absent(KEYS[i + 1], ARGV[6 + (i - 1) / 3]) then
    state = 'absent'
  else
    local held = redis.call('get', KEYS[i])
    local kind, lane, owner, mark = nil, nil, nil, ''
    if held then
      kind, lane, owner = string.match(held, '^(%a+)|(%a*)|(.*)$')
      if kind == 'stored' or string.sub(held, -5) == '|look' then mark = '|look' end
    end
    if kind == 'running' then
      local front = string.sub(owner, 1, #ARGV[5]) == ARGV[5]
      if not front or redis.call('exists', KEYS[i] .. '\\0after') == 1 then
        state = 'duplicate'
      end
    elseif kind == 'queued' and (lane == 'hot' or ARGV[1] == 'cold') then
      state = 'duplicate'
    else
      redis.call('set', KEYS[i], ARGV[2] .. mark, 'px', ARGV[3])
    end
  end
  out[#out + 1] = state
end
return out
"""
)

SWAP = """
-- KEYS: claims; ARGV: new value, ms (0 deletes), expected values. A claim that moved on is left alone.
local n = 0
for i = 1, #KEYS do
  local held = redis.call('get', KEYS[i])
  for v = 3, #ARGV do
    if held == ARGV[v] then
      if ARGV[2] == '0' then
        redis.call('del', KEYS[i])
      else
        redis.call('set', KEYS[i], ARGV[1], 'px', ARGV[2])
      end
      n = n + 1
    end
  end
end
return n
"""

QUEUED = """
-- KEYS: claims; ARGV: expected value, new value, ms, after ms, beginning of a front's claim. As SWAP, and a
-- mark stays. A pull of a front is followed by a message only now that the queue has it.
local n = 0
for i = 1, #KEYS do
  local held = redis.call('get', KEYS[i])
  if held and string.sub(held, 1, #ARGV[5]) == ARGV[5] then
    redis.call('set', KEYS[i] .. '\\0after', '1', 'px', ARGV[4])
  end
  for _, mark in ipairs({'', '|look'}) do
    if held == ARGV[1] .. mark then
      redis.call('set', KEYS[i], ARGV[2] .. mark, 'px', ARGV[3])
      n = n + 1
    end
  end
end
return n
"""

START = """
-- KEYS: claim, tomb of each key; ARGV: value, lease ms, then the claims that nobody else has touched since:
-- pending and queued of the message's dispatcher, or nothing when it took none.
local out = {}
for i = 1, #KEYS, 2 do
  local held = redis.call('get', KEYS[i])
  if redis.call('exists', KEYS[i + 1]) == 1 then
    out[#out + 1] = 'tombstone'
  elseif held and held ~= ARGV[1] and string.sub(held, 1, 8) == 'running|' then
    out[#out + 1] = 'busy'
  else
    redis.call('set', KEYS[i], ARGV[1], 'px', ARGV[2])
    local state = 'started'
    if held and string.sub(held, 1, 7) == 'stored|' then
      state = 'stored'
    elseif ARGV[3] and held ~= ARGV[3] and held ~= ARGV[4] then
      state = 'look'
    end
    out[#out + 1] = state
  end
end
return out
"""

FORGET = """
-- KEYS: claims; ARGV: values that may go
local n = 0
for i = 1, #KEYS do
  local held = redis.call('get', KEYS[i])
  for _, value in ipairs(ARGV) do
    if held == value then n = n + redis.call('del', KEYS[i]) end
  end
end
return n
"""

START_WANTED = (
    _ABSENT
    + """
-- KEYS: claim, tomb, absent of each key; ARGV: value, lease ms, then for each key: heed a stored mark (1/0),
-- and the rule that would ask, or nothing
local out = {}
for i = 1, #KEYS, 3 do
  local held = redis.call('get', KEYS[i])
  local heed = ARGV[3 + 2 * (i - 1) / 3] == '1'
  if redis.call('exists', KEYS[i + 1]) == 1 then
    out[#out + 1] = 'tombstone'
  elseif absent(KEYS[i + 2], ARGV[4 + 2 * (i - 1) / 3]) then
    out[#out + 1] = 'absent'
  elseif held and held ~= ARGV[1] and string.sub(held, 1, 8) == 'running|' then
    out[#out + 1] = 'busy'
  elseif held and heed and string.sub(held, 1, 7) == 'stored|' then
    out[#out + 1] = 'stored'
  else
    redis.call('set', KEYS[i], ARGV[1], 'px', ARGV[2])
    out[#out + 1] = 'started'
  end
end
return out
"""
)

UNBURY = """
-- KEYS: tomb, claim of each key; ARGV: expected value, ms, mark for the claim, its ms, then for each key its
-- new value ('' deletes: then whoever saw the store before that looks again)
for i = 1, #KEYS, 2 do
  if redis.call('get', KEYS[i]) == ARGV[1] then
    local new = ARGV[5 + (i - 1) / 2]
    if new == '' then
      redis.call('del', KEYS[i])
      redis.call('set', KEYS[i + 1], ARGV[3], 'px', ARGV[4], 'nx')
    else
      redis.call('set', KEYS[i], new, 'px', ARGV[2])
    end
  end
end
return #KEYS / 2
"""

RENEW = """
-- KEYS: claims; ARGV: value, lease ms
local n = 0
for i = 1, #KEYS do
  if redis.call('get', KEYS[i]) == ARGV[1] then
    redis.call('pexpire', KEYS[i], ARGV[2])
    n = n + 1
  end
end
return n
"""

FORGET_NOTE = """
-- KEYS: buckets with tombstones; ARGV: bucket, the score that it is to have
local held = redis.call('zscore', KEYS[1], ARGV[1])
if held and tonumber(held) == tonumber(ARGV[2]) then return redis.call('zrem', KEYS[1], ARGV[1]) end
return 0
"""
