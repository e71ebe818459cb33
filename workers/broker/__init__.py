"""Connections to Redis or Valkey: every client that the house opens is made here.

`clients` makes them, for asyncio and for threads; `following` leaves a server that is no longer the one that
is written to; `sentinels` asks which one is; `replicas` waits until what was written is held twice;
`server_clock` is its time, in scripts. Owns TLS, credentials and deadlines. Knows nothing of what is kept.
"""

__all__ = ["clients", "following", "replicas", "server_clock"]
