"""The operations page: how the migration stands, at a glance and room by room.

Must not know how anything is done: what it changes, it asks of `/v1/…` like everybody else. Read `glance`
(what the first screen says; pure), `curves` (rows of numbers, for the page and for a terminal; pure), `chart`
and `pictures` (how they are drawn; pure), `samples` (what was read of the past), `board` (what is read, once
for all who look), `pages` (routes and templates), `rooms` (what each page reads), `live` (a page that stays
open).
"""

__all__ = ["board", "chart", "curves", "glance", "pages"]
