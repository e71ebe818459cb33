"""What would happen: one request explained, a log replayed against two rule sets. PURE."""

__all__ = ["explain", "replay"]
