"""Bytes in, then exactly one commit or one abort.

Must not know origins. Read `upload`, then `single_put` or `assembly` (parts), `settling` (whose object holds
the key), `intent`; `part`, `parts`, `spool` and `body` are where bytes lie meanwhile; `journal` and `sweep`
end what a killed process left open.
"""

__all__ = ["journal", "parts", "sweep", "upload"]
