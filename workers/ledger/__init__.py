"""What is remembered in Redis beside the queue: one key schema a file, written at its top.

Must not know how anything is moved, nor dramatiq. Read `ledger` (the client and its parts), then `claims`
(who moves a key now; its Lua is in `claim_scripts`, `tombstones` looks through all of them), `outcomes`,
`failures`; `names` are the keys behind a scan's counts, `back` is what origins lack of the store (by
`back_scripts`); `history` is what charts draw, with `first_bytes` of all fronts; `minutes` and `needed` are
what the finalize gate reads, and `rule_epochs` is what tells a worker that a rule was withdrawn.
"""

__all__ = ["back", "claims", "failures", "history", "ledger", "names", "needed", "outcomes", "rule_epochs"]
