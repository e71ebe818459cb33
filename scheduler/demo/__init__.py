"""`ferryman demo`: the whole way of an object on a sample origin, on real parts, checked byte for byte."""

__all__ = ["run"]
