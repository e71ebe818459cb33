"""Miss events by HTTP, in the forms that senders really use, and what becomes of each.

Must not know log files. `body`, `records` and `columns` are pure parsing, `accept` hands on.
"""

__all__ = ["accept", "body", "columns", "records"]
