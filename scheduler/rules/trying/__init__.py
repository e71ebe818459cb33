"""What would happen: one request explained, a log replayed against two rule sets, a change shown. PURE."""

__all__ = ["difference", "explain", "replay"]
