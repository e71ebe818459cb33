"""Whether a body is what the origin, or a listing, promised. PURE.

Must not know connections. `promise` joins what was promised; `digest` compares; `soft404` tells a look-alike
of an error page.
"""

__all__ = ["digest", "promise", "soft404"]
