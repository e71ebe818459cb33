"""May the rule go? Conditions with evidence, the report, retiring and taking it back.

`gate` judges, `quiet` asks who still needed the origin (`period` reads for how long), `finalize` acts,
`report_page` shows.
"""

__all__ = ["finalize", "gate", "period", "quiet"]
