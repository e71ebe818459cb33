"""Every behaviour there is: importing a page of behaviours registers them."""

from __future__ import annotations

from typing import Final

from scheduler.chaos import answers, bodies, detours
from scheduler.chaos.behaviour import REGISTERED, Behaviour

#: The modules whose import registers what is in them.
PAGES: Final = (answers, bodies, detours)
#: Name to behaviour.
CATALOGUE: Final[dict[str, Behaviour]] = REGISTERED
