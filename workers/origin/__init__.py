"""Origins: where objects still live. Choosing one, asking it, and not being fooled by it.

Must not know the store or the queue. The records are `workers.answers`; a fetch is in `fetch`, which asks
`control` (may I, and whom), speaks by `wire` and judges by `integrity`.
"""
