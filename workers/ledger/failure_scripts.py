"""The Lua of the failures list: each script changes the list and its counts by reason in one step.

Owns the text only; `failures` calls it. KEYS are the list and the counts. A record is JSON as `failures`
writes it: bucket, key and reason come first, and no string in it can hold an unescaped quote, so that the
first match is the reason.
"""

_DROP = """
local function drop(key, held)
  local reason = string.match(held, '"reason":"([^"]*)"') or ''
  if redis.call('HINCRBY', KEYS[2], reason, -1) <= 0 then redis.call('HDEL', KEYS[2], reason) end
  return redis.call('HDEL', KEYS[1], key)
end
"""

#: ARGV are triples of key, reason and record.
PUT = (
    _DROP
    + """
for i = 1, #ARGV, 3 do
  local held = redis.call('HGET', KEYS[1], ARGV[i])
  if held then drop(ARGV[i], held) end
  redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 2])
  redis.call('HINCRBY', KEYS[2], ARGV[i + 1], 1)
end
return #ARGV / 3
"""
)

#: ARGV are keys. Answers how many were removed.
REMOVE = (
    _DROP
    + """
local done = 0
for _, key in ipairs(ARGV) do
  local held = redis.call('HGET', KEYS[1], key)
  if held then done = done + drop(key, held) end
end
return done
"""
)

#: The same, but what the way back listed stays: that the store has a key says nothing of its origin.
REMOVE_BUT_BACK = (
    _DROP
    + """
local done = 0
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
for _, key in ipairs(ARGV) do
  local held = redis.call('HGET', KEYS[1], key)
  if held and not string.find(held, '"lane":"back"', 1, true) then done = done + drop(key, held) end
end
return done
"""
)

#: ARGV are pairs of key and expected record. Answers how many were removed.
REMOVE_UNCHANGED = (
    _DROP
    + """
local done = 0
for i = 1, #ARGV, 2 do
  if redis.call('HGET', KEYS[1], ARGV[i]) == ARGV[i + 1] then done = done + drop(ARGV[i], ARGV[i + 1]) end
end
return done
"""
)
