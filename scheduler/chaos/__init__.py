"""The misbehaving origin: a product tool for rehearsals, and the counterpart of the fault tests.

Read `server`, `exchange`, `behaviour` (one way to answer, and the list), then the pages of behaviours:
`answers`, `bodies`, `detours`. `catalogue` joins them.
"""

__all__ = ["catalogue", "server"]
