"""`ferryman doctor`: one file a subject, each a list of findings; `examine` runs them all."""

__all__ = ["examine", "model"]
