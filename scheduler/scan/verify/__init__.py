"""Is what was moved right? By listing, by sample with a stated bound, in full.

Read `verify` first: in `one_range` here, or on the fleet. There `cut_verify` coordinates the steps, `shard`
looks at a range, `drawn` keeps the sample. Both look by `listed` (pure) and `one_key` (which asks
`at_origin`), at `its_inventory`; `judging` says what it proves, `bound` is the arithmetic (pure), `report`
what is kept.
"""

__all__ = ["cut_verify", "report", "verify"]
