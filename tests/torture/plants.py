"""Bugs to put into a copy of the code, to see that the suite finds each of them.

Owns the places; a test holds that each is still there, so that none becomes a bug that plants nothing.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

_HOUSE: Final = Path(__file__).parents[2]


class Edit(NamedTuple):
    """In `file`, `right` becomes `wrong`."""

    file: str
    right: str
    wrong: str


#: Each bug and its edits: more than one where a second check stands behind the first.
PLANTS: Final[dict[str, tuple[Edit, ...]]] = {
    "create-only header": (
        Edit(
            "workers/store/guarantees.py",
            'CreateOnly.IF_NONE_MATCH: ("if-none-match", "*"),',
            'CreateOnly.IF_NONE_MATCH: ("x-nothing", "*"),',
        ),
    ),
    "tombstone check of a miss": (
        Edit(
            "workers/ledger/claim_scripts.py",
            """  local heed = ARGV[3 + 2 * (i - 1) / 3] == '1'
  if redis.call('exists', KEYS[i + 1]) == 1 then""",
            """  local heed = ARGV[3 + 2 * (i - 1) / 3] == '1'
  if false then""",
        ),
    ),
    "tombstone check without Redis": (
        Edit(
            "scheduler/front/pull/claim.py",
            "return Claimed.UNSURE if self._claims.may_have_tombstones(bucket) else Claimed.UNKNOWN",
            "return Claimed.UNKNOWN",
        ),
    ),
    # The client library says so, our count says so, and so does that of the upload.
    "length of a body": (
        Edit(
            "workers/origin/fetch/stream.py",
            "            chunk = await self.answer.read()\n        except BODY_ERRORS as error:\n"
            "            chunk = await self._mend(error)\n",
            "            chunk = await self.answer.read()\n        except BODY_ERRORS:\n"
            '            chunk = b""\n',
        ),
        Edit("workers/origin/fetch/stream.py", "if self.got != self.length:", "if self.got > self.length:"),
        Edit(
            "workers/store/write/upload.py",
            "if self._size is not None and self._taken != self._size:",
            "if self._size is not None and self._taken > self._size:",
        ),
    ),
    "digest of a body": (
        Edit("workers/origin/integrity/digest.py", "        if not wrong:\n", "        if True:\n"),
    ),
    "claim of a pull": (
        Edit(
            "scheduler/front/s3/tombstones.py",
            "if running and not await self._ended",
            "if False and not await self._ended",
        ),
    ),
    "last write on the way back": (
        Edit("workers/ledger/back_scripts.py", "elseif r.seq ~= seq then", "elseif false then"),
    ),
    "fsync of a checkpoint": (
        Edit(
            "scheduler/logs/checkpoint.py",
            "        file.flush()\n        os.fsync(file.fileno())\n",
            "        file.flush()\n",
        ),
    ),
    "rate of an origin": (
        Edit(
            "workers/origin/control/rates.py",
            'while self._stock[lane] <= 0 or (self._kind == "requests" and self._stock[lane] < amount):',
            "while False:",
        ),
    ),
    "master of a worker": (Edit("scheduler/machine/worker_master.py", "    tie_forks()\n", ""),),
    "record of an outcome": (
        Edit("workers/queue/recording.py", "await self._ledger.failures.add(failures)", "failures.clear()"),
    ),
}


#: What makes the code one of the version before: its workers read messages of another number.
OLDER: Final = {"a version before": (Edit("workers/plan.py", "WIRE_VERSION = 1\n", "WIRE_VERSION = 0\n"),)}


def planted(name: str | None, tree: Path, plants: Mapping[str, tuple[Edit, ...]] = PLANTS) -> Path:
    """A copy of the code below `tree`, with that bug of `plants`; the folder to run it from.

    Raises:
        LookupError: the place is not there exactly once.
    """
    for room in ("scheduler", "workers"):
        shutil.copytree(_HOUSE / room, tree / room, ignore=shutil.ignore_patterns("__pycache__"))
    for edit in plants[name] if name is not None else ():
        file = tree / edit.file
        text = file.read_text()
        if text.count(edit.right) != 1:
            raise LookupError(f"{name}: {edit.right!r} stands {text.count(edit.right)} times in {edit.file}")
        file.write_text(text.replace(edit.right, edit.wrong))
    return tree
