"""dramatiq on Redis, and what a worker process does with a message.

Must not know rules. Read `entry` (what dramatiq imports), `actors`, `process` (what a process holds),
`runner` (one batch: claim, move, record), `hands` (so many items at once), `retry` (whether and when again;
pure), `recording`, `leases`. `queue` has the structures in Redis, `broker` dramatiq's set-up, `waiting` how
an idle worker waits, `strays` messages that got lost between both.
"""

__all__ = ["broker", "leases", "queue", "waiting"]
