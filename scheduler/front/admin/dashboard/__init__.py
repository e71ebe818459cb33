"""The operations page: how the migration stands, at a glance and room by room.

Must not know how anything is done: what it changes, it asks of `/v1/…` like everybody else. Read `glance`
(what the first screen says; pure), `chart` (pictures; pure), `board` (what is read, once for all who look),
`pages` (routes and templates), `live` (a page that stays open).
"""

__all__ = ["board", "pages"]
