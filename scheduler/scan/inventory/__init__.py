"""What the origin is said to hold: one file a kind of source.

Must not know the store. `opening` has the table of sources, `entry` the record, `lines` what manifests say,
`walk` what could not be read, `ticking` waits for slow ones, `asking` how origins are asked; `index_page` and
`locations` are the crawl's.
"""

__all__ = ["bucket", "entry", "opening", "ticking", "walk"]
