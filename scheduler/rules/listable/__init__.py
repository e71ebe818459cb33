"""Which rules have an origin that can be listed, and the way back from its keys.

Owns what `list: union` asks of a bucket's rules. Must not know who lists. Read `routes`; `access` is a
record.
"""

__all__ = ["access", "routes"]
