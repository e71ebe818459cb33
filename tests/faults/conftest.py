"""Fixtures of the fault tests: the misbehaving origin."""

from support.origin.chaos import chaos, chaos_thread

__all__ = ["chaos", "chaos_thread"]
