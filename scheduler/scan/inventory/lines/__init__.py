"""What the lines of a manifest say, in every form that is read. PURE.

Must not know where they come from. `detection` tells the form, `rows` reads a line of each, `columns` the two
most frequent forms a few thousand lines at a time, `find_records` what find(1) prints.
"""

__all__ = ["columns", "detection", "find_records", "rows"]
