"""What moves one object from an origin to the store, and the processes that do it all day.

Must not know rules, events, logs or scans (`scheduler`). Read `plan`, `answers` and `errors` first:
everything else turns a plan into an outcome. Then `transfer`, the use case; the rooms it asks, `origin` and
`store`, both over `http`; the way back, `back`; the processes around them, `queue`; and what they write down,
`ledger` and `telemetry`. `settings` is what a process is told.
"""

import sys

# structlog takes rich's tracebacks for its own wherever it can import rich: a tenth of the start of every
# process, for something that is never shown, because it prints local variables, and those hold secrets.
if "structlog" not in sys.modules and "rich" not in sys.modules:
    sys.modules["rich"] = None  # type: ignore[assignment]  # as Python marks what is not to be found
    try:
        import structlog  # noqa: F401 -- for its effect
    finally:
        del sys.modules["rich"]

__all__ = [
    "answers",
    "back_routes",
    "background",
    "broker_address",
    "collector",
    "deadlines",
    "errors",
    "lifeline",
    "plan",
    "secret_values",
    "settings",
    "windows",
]
