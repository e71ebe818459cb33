"""The clock that all processes share, for scripts: the server's, whatever the machines believe.

Pure text.
"""

from __future__ import annotations

#: Lua: the local `now` is the server's unix time in milliseconds.
NOW = "local t = redis.call('TIME') local now = t[1] * 1000 + math.floor(t[2] / 1000) "
