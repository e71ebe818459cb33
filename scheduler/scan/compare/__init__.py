"""An inventory beside a listing: both sorted, joined, judged.

`merge` and `compare` are pure; `sorting` sorts outside memory, `listing` reads the store, `reading` the
inventory, `wanted` turns what is missing into items.
"""

__all__ = ["compare", "listing", "merge", "reading", "sorting", "wanted"]
