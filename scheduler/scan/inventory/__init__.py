"""What the origin is said to hold: one file a kind of source.

Must not know the store. `opening` has the table of sources, `entry` the record, `rows` what texts have in
common, `walk` what could not be read; `index_page` and `locations` are the crawl's.
"""

__all__ = ["bucket", "entry", "opening", "walk"]
