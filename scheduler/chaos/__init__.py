"""The misbehaving origin: a product tool for rehearsals, and the counterpart of the fault tests.

Read `server`, `exchange`, `behaviour` (one way to answer, and the list), then the pages of behaviours:
`answers`, `bodies`, `detours`. `catalogue` joins them; `content` is what they serve.
"""

__all__ = ["catalogue", "server"]
