"""Bugs that the simulation must find: those of the random faults that lie in the core, and some more."""

from __future__ import annotations

from typing import Final

from torture.plants import PLANTS as OF_TORTURE
from torture.plants import Edit

_SHARED: Final = (
    "tombstone check of a miss",
    "tombstone check without Redis",
    "claim of a pull",
    "record of an outcome",
)

_IF_RUNNING: Final = "  elseif held and held ~= ARGV[1] and string.sub(held, 1, 8) == 'running|'"
#: What follows in the script by which a worker begins.
_AND_START: Final = f"""    out[#out + 1] = 'tombstone'
{_IF_RUNNING} then
    out[#out + 1] = 'busy'
  else
    redis.call('set', KEYS[i], ARGV[1], 'px', ARGV[2])
    local state"""

#: Those that only a migration shows, see `gate`.
OF_THE_GATE: Final[dict[str, tuple[Edit, ...]]] = {
    "misses of fronts in the quiet period": (
        Edit("scheduler/scan/gate/quiet.py", "ok=served + pulled == 0,", "ok=pulled == 0,"),
    ),
    "pulls for events in the quiet period": (
        Edit("scheduler/scan/gate/quiet.py", "ok=served + pulled == 0,", "ok=served == 0,"),
    ),
    "failures in the gate": (Edit("scheduler/scan/gate/gate.py", "ok=failures == 0,", "ok=True,"),),
}

#: Those that only a budget over several processes shows, see `budgets`.
OF_BUDGETS: Final[dict[str, tuple[Edit, ...]]] = {
    "requests in flight stay on the books": (
        Edit(
            "workers/origin/control/fleet_scripts.py",
            "  got_hot, got_cold = math.max(use_hot, may_hot), math.max(use_cold, may_cold)",
            "  got_hot, got_cold = may_hot, may_cold",
        ),
    ),
    "nobody grows before all have told what they hold": (
        Edit(
            "workers/origin/control/share.py",
            "        if self.away or (self._reached and not",
            "        if (False and not",
        ),
    ),
    "what cold still uses is not kept twice": (
        Edit(
            "workers/origin/control/share.py",
            "min(self.hot, wanted[0], self.total - needed.cold)",
            "min(self.hot, wanted[0])",
        ),
    ),
    "one lost call is not Redis away": (
        Edit(
            "workers/origin/control/rates.py",
            "self._shared = self._shared and not self._doubted",
            "self._shared = False",
        ),
    ),
    "what others hold": (
        Edit("workers/origin/control/fleet_scripts.py", "    hot, cold = hot + h, cold + c\n", ""),
    ),
}

_NEVER_OVER: Final = Edit("workers/back/settle.py", "if time.monotonic() > self.until:", "if False:")

#: Those that only the way back shows, see `back`.
OF_THE_WAY_BACK: Final[dict[str, tuple[Edit, ...]]] = {
    "last write on the way back": OF_TORTURE["last write on the way back"],
    "what the store never answered": (
        Edit("workers/ledger/back_scripts.py", "if what == '?' then", "if false then"),
        Edit(
            "workers/ledger/back_scripts.py",
            "if what ~= '' then",
            "if what == '?' then what = 'w' end if what ~= '' then",
        ),
    ),
    "a write is noted before the store has it": (
        Edit(
            "scheduler/front/s3/write_back.py",
            "            await self._owner.begun(self._beginning)\n",
            "            break\n",
        ),
    ),
    "a write under way stays on record": (
        Edit(
            "workers/ledger/back_scripts.py",
            "  elseif redis.call('scard', KEYS[i]) == 0 then",
            "  elseif true then",
        ),
    ),
    "whoever stood still asks whether he still may": (_NEVER_OVER,),
    # He asks before he writes, so that hardly anybody has to say so.
    "who wrote without his lease says so": (
        _NEVER_OVER,
        Edit("workers/back/settle.py", "if state is Finished.LOST and", "if False and"),
    ),
    "only what was deleted is deleted": (
        Edit("workers/back/bring.py", "if not (taken.was_deleted or await deleted()):", "if False:"),
    ),
}

PLANTS: Final[dict[str, tuple[Edit, ...]]] = {
    **{name: OF_TORTURE[name] for name in _SHARED},
    "what the store never answered keeps out deletes": (
        Edit("workers/ledger/claims.py", "return late is not None or (", "return late is False or ("),
    ),
    "claim check of a miss": (
        Edit(
            "workers/ledger/claim_scripts.py",
            """    out[#out + 1] = 'absent'
  elseif held and held ~= ARGV[1] and string.sub(held, 1, 8) == 'running|' then""",
            """    out[#out + 1] = 'absent'
  elseif false then""",
        ),
    ),
    "claim check of a message": (
        Edit(
            "workers/ledger/claim_scripts.py", _AND_START, _AND_START.replace(_IF_RUNNING, "  elseif false")
        ),
    ),
    "tombstone check of a message": (
        Edit(
            "workers/ledger/claim_scripts.py",
            "  if redis.call('exists', KEYS[i + 1]) == 1 then\n" + _AND_START,
            "  if false then\n" + _AND_START,
        ),
    ),
    "what goes back is in the queue before its message is acknowledged": (
        Edit(
            "workers/queue/recording.py",
            "        await self._queue.enqueue_each(\n",
            "        await self._queue.enqueue_each([] and\n",
        ),
    ),
    "promotion of delayed messages": (
        Edit(
            "workers/queue/queue.py",
            "    redis.call('rpush', KEYS[2], id)\n    redis.call('hdel', KEYS[1] .. '.msgs', id)",
            "    redis.call('hdel', KEYS[1] .. '.msgs', id)",
        ),
    ),
    **OF_THE_GATE,
    **OF_BUDGETS,
    **OF_THE_WAY_BACK,
}
