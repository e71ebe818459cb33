"""What moves one object from an origin to the store, and the processes that do it all day.

Must not know rules, events, logs or scans (`scheduler`). Read `plan`, `answers` and `errors` first:
everything else turns a plan into an outcome. Then `transfer`, the use case; the rooms it asks, `origin` and
`store`, both over `http`; the way back, `back`; the processes around them, `queue`; and what they write down,
`ledger` and `telemetry`. `settings` is what a process is told.
"""

__all__ = [
    "answers",
    "back_routes",
    "background",
    "broker_address",
    "collector",
    "errors",
    "lifeline",
    "plan",
    "secret_values",
    "settings",
    "windows",
]
