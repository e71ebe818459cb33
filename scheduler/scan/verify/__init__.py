"""Is what was moved right? By listing, by sample with a stated bound, in full.

`verify` first, which looks `in_ranges` (one of them: `listed`, pure); `report` is what it says, `at_origin`
asks, `bound` is the arithmetic, pure.
"""

__all__ = ["report", "verify"]
