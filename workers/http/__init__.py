"""HTTP below both sides: one exchange over aiohttp's connections, and strangers' dates.

Must not know origins or the store.
"""

__all__ = ["dates", "exchange"]
