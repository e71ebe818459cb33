"""An inventory beside a listing: both sorted, joined, judged.

`merge` and `compare` are pure; `sorting` sorts outside memory into a `sorted_file`, `listing` reads the
store (`bounded` to a range), `reading` the inventory, `wanted` turns what is missing into items. `ranges`
opens a part of a sorted inventory by its `index`, from the file or from the objects that `published` puts
into the store.
"""

__all__ = [
    "bounded",
    "compare",
    "listing",
    "merge",
    "published",
    "ranges",
    "reading",
    "sorted_file",
    "sorting",
    "wanted",
]
