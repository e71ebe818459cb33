"""From an event to the queue: rule, plan, claim, message.

Must not know where events come from. `dispatcher` first; `sink` takes events in bulk, `failures` sends listed
ones once more, `dependency` counts who still needs the origin.
"""

__all__ = ["dependency", "dispatcher", "failures", "sink"]
