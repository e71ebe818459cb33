"""Bugs to put into a copy of the code, to see that the suite finds each of them.

Owns the places; a test holds that each is still there, so that none becomes a bug that plants nothing.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final, NamedTuple

_HOUSE: Final = Path(__file__).parents[2]


class Plant(NamedTuple):
    """One bug: in `file`, `right` becomes `wrong`."""

    file: str
    right: str
    wrong: str


PLANTS: Final[dict[str, Plant]] = {
    "create-only header": Plant(
        "workers/store/guarantees.py",
        'CreateOnly.IF_NONE_MATCH: ("if-none-match", "*"),',
        'CreateOnly.IF_NONE_MATCH: ("x-nothing", "*"),',
    ),
    "tombstone check of a miss": Plant(
        "workers/ledger/claim_scripts.py",
        """  local heed = ARGV[3 + 2 * (i - 1) / 3] == '1'
  if redis.call('exists', KEYS[i + 1]) == 1 then""",
        """  local heed = ARGV[3 + 2 * (i - 1) / 3] == '1'
  if false then""",
    ),
    "tombstone check without Redis": Plant(
        "scheduler/front/pull/claim.py",
        "return Claimed.UNSURE if self._claims.may_have_tombstones(bucket) else Claimed.UNKNOWN",
        "return Claimed.UNKNOWN",
    ),
    "length of a body": Plant(
        "workers/origin/fetch/stream.py", "if self.got != self.length:", "if self.got > self.length:"
    ),
    "digest of a body": Plant(
        "workers/origin/integrity/digest.py", "        if not wrong:\n", "        if True:\n"
    ),
    "claim of a pull": Plant(
        "scheduler/front/s3/tombstones.py",
        "if running and not await self._ended",
        "if False and not await self._ended",
    ),
    "fsync of a checkpoint": Plant(
        "scheduler/logs/checkpoint.py",
        "        file.flush()\n        os.fsync(file.fileno())\n",
        "        file.flush()\n",
    ),
    "record of an outcome": Plant(
        "workers/queue/recording.py", "await self._ledger.failures.add(failures)", "failures.clear()"
    ),
}


def planted(name: str, tree: Path) -> Path:
    """A copy of the code with that bug below `tree`; the folder to run it from.

    Raises:
        LookupError: the place is not there exactly once.
    """
    plant = PLANTS[name]
    for room in ("scheduler", "workers"):
        shutil.copytree(_HOUSE / room, tree / room, ignore=shutil.ignore_patterns("__pycache__"))
    file = tree / plant.file
    text = file.read_text()
    if text.count(plant.right) != 1:
        raise LookupError(f"{name}: {plant.right!r} stands {text.count(plant.right)} times in {plant.file}")
    file.write_text(text.replace(plant.right, plant.wrong))
    return tree
