"""One fetch: candidates in their order, failing over, continuing a broken body.

Must not know the store. Read `fetcher` (the door), `session` (one fetch), `way` and `failover` (the
decisions; pure), `stream` and `resume` (the body), `fetched` (what the caller sees), `error_pages` (learning
soft 404s), `sharing` (whether others may have it; pure), `held_slot` (its place in the budget), `shared`
(what all fetches of a process use), `inspect` (a look without a body, for verify and doctor).
"""

__all__ = ["fetcher", "inspect", "listing", "sharing"]
