"""Could one go back now? What origins lack of what was written, in numbers, in words, and byte by byte.

Must not know how a key is brought (`workers.back`). `state` says how far origins are behind, `verify`
compares both sides.
"""

__all__ = ["state", "verify"]
