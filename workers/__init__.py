"""What moves one object from an origin to the store, and the processes that do it all day.

Must not know rules, events, logs or scans (`scheduler`). Read `plan` and `errors` first: everything else
turns a plan into an outcome. Then `transfer`, the use case; the rooms it asks, `origin` and `store`; the
processes around it, `queue`; and what they write down, `ledger` and `telemetry`.
"""

__all__ = [
    "answers",
    "back_routes",
    "background",
    "errors",
    "lifeline",
    "plan",
    "secret_values",
    "settings",
    "windows",
]
