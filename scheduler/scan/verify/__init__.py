"""Is what was moved right? By listing, by sample with a stated bound, in full.

`verify` first; `bound` is the arithmetic, pure.
"""

__all__ = ["verify"]
