"""The start-up self-test: what this store really honours, found out by trying.

Must not know how findings are used. `probe` has the order of the trials; `writes`, `parts` and `keys` judge;
`trial` sends and cleans up.
"""

__all__ = ["probe"]
