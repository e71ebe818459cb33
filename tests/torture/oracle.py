"""What each key may be, at any moment: the judge of what clients and the store show.

Owns the possible contents of a key over time. Knows no server. A key that nobody wrote is what the origins
have had of it; one that clients write has one writer at a time, and is what that one was last told, or what a
write without an answer may have made of it since.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from torture.content import at_origin, body_of

if TYPE_CHECKING:
    from collections.abc import Callable

#: No object.
ABSENT: Final = "absent"
#: Seconds within which a consumer that was held up hands a line of its log on.
_HANDED_ON_S: Final = 30.0
#: Seconds for which a lease on the way back keeps others off, so that bytes of a key may be under way.
LEASED_S: Final = 60.0


def value_of(body: bytes) -> str:
    """How contents are compared."""
    return sha256(body).hexdigest()


@dataclass(slots=True)
class _Key:
    #: Time from which on it may be one of these, the newest last.
    history: list[tuple[float, frozenset[str]]]
    #: Contents of writes that were never answered: they may still land, whatever was answered since.
    loose: set[str] = field(default_factory=set)
    #: Writes that are under way, when one was last given up, and when since the last answer.
    open: int = 0
    gave_up_at: float = -LEASED_S
    unanswered: list[float] = field(default_factory=list)

    def now(self, may_be: set[str]) -> None:
        self.history.append((time.monotonic(), frozenset(may_be | self.loose)))

    @property
    def present(self) -> set[str]:
        return set(self.history[-1][1])


class Oracle:
    """The contents that are possible. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._keys: dict[str, _Key] = {}
        self._versions: defaultdict[str, int] = defaultdict(int)
        #: Keys that somebody was promised, by an event or a log line, and when; and those of them that Redis
        #: was made to forget, which only a scan finds.
        self.wanted: dict[str, float] = {}
        self.lost: set[str] = set()
        #: When Redis was made to forget: from, and until when (of the last one perhaps not yet over).
        self._forgettings: list[tuple[float, float]] = []
        #: What the origins have had of a key from a time on, as contents are compared.
        self.behind: Callable[[str, float], set[str]] = _never_changes
        self.violations: list[str] = []

    def violated(self, text: str) -> None:
        """Write down what must not be."""
        with self._lock:
            self.violations.append(text)

    def version(self, key: str) -> int:
        """Which content the origins have now."""
        return self._versions[key]

    def changed(self, key: str) -> None:
        """The origins have its next content from now on; the one before stays possible: it may be stored."""
        with self._lock:
            known = self._key(key)
            self._versions[key] += 1
            known.now(known.present | {value_of(body_of(key, self._versions[key]))})

    def begins(self, key: str, value: str) -> None:
        """A client sends a write (or with ABSENT a delete)."""
        with self._lock:
            known = self._key(key)
            known.open += 1
            known.now(known.present | {value})

    def ended(self, key: str, value: str) -> None:
        """It was answered with success."""
        with self._lock:
            known = self._key(key)
            known.open -= 1
            known.unanswered.clear()
            came = {value}
            if value == ABSENT:
                for since in self._lately():
                    came |= self.behind(key, since)
            known.now(came)

    def _lately(self) -> list[float]:
        """Since when Redis forgot, where a pull may still be under way whose claim it lost.

        A delete waits for pulls that have a claim: not for that one, which may commit after it.
        """
        now = time.monotonic()
        return [since for since, until in self._forgettings if now - until < LEASED_S]

    def unknown(self, key: str, value: str) -> None:
        """It was answered with a failure, or not at all: done or not, now or later."""
        with self._lock:
            known = self._key(key)
            known.open -= 1
            known.gave_up_at = time.monotonic()
            known.unanswered.append(known.gave_up_at)
            known.loose.add(value)
            known.now(known.present)

    def is_settled(self, key: str) -> bool:
        """Whether no write of it is under way: none is unanswered, nor was given up lately."""
        with self._lock:
            known = self._key(key)
            return not known.open and time.monotonic() - known.gave_up_at > LEASED_S

    def forgets(self) -> float:
        """Redis is going to lose what it is told from now on, until `forgotten`; the time of it."""
        with self._lock:
            now = time.monotonic()
            self._forgettings.append((now, float("inf")))
            return now

    @property
    def ever_forgot(self) -> bool:
        """Whether Redis has lost anything that it was told."""
        return bool(self._forgettings)

    def forgotten(self, since: float) -> None:
        """Redis lost what it was told from `since` on: deletes may be undone, and promises are not kept."""
        with self._lock:
            self._forgettings = [
                (at, time.monotonic() if at == since else until) for at, until in self._forgettings
            ]
            # A line of a log is handed on some time after it was written.
            late = {key for key, at in self.wanted.items() if at >= since - _HANDED_ON_S}
            self.lost |= late
            for key in late:
                del self.wanted[key]
            for key, known in self._keys.items():
                if known.history[-1][0] >= since and ABSENT in known.history[-1][1]:
                    known.loose |= self.behind(key, since)
                    known.now(known.present)

    def is_certain(self, at: float) -> bool:
        """Whether Redis knows for sure what it was told then, and leases of that time held."""
        with self._lock:
            return all(at < since - LEASED_S or at > until + LEASED_S for since, until in self._forgettings)

    def is_known(self, key: str) -> bool:
        """Whether Redis knows for sure of every write that may have made the key what it is.

        Of those that were never answered any may be the last that came about, and the first to be told of.
        """
        with self._lock:
            return all(self.is_certain(at) for at in (self.told(key), *self._key(key).unanswered))

    def told(self, key: str) -> float:
        """When a client last sent something of this key, or was answered."""
        with self._lock:
            return self._key(key).history[-1][0]

    def want(self, key: str) -> None:
        """Somebody was told that this key is going to be moved."""
        with self._lock:
            self.wanted[key] = time.monotonic()

    def possible(self, key: str, since: float) -> set[str]:
        """All that the key may have been at any time from `since` until now."""
        with self._lock:
            found: set[str] = set()
            for at, may_be in reversed(self._key(key).history):
                found |= may_be
                if at < since:
                    break
            return found

    def story(self, key: str) -> str:
        """How often the key changed, and since when it may be what it may be now; for a message."""
        with self._lock:
            known = self._key(key)
            now = time.monotonic()
            last = [
                f"{now - at:.1f} s ago {'/'.join(sorted(value[:8] for value in may_be))}"
                for at, may_be in known.history[-6:]
            ]
            return f"; may be, since: {', '.join(last)}; loose: {sorted(value[:8] for value in known.loose)}"

    def written(self) -> list[str]:
        """Keys that were written, deleted or changed."""
        with self._lock:
            return list(self._keys)

    def _key(self, key: str) -> _Key:
        known = self._keys.get(key)
        if known is None:
            first = value_of(body_of(key, self._versions[key])) if at_origin(key) else ABSENT
            known = _Key([(0.0, frozenset({first}))])
            if not key.startswith("pub/"):
                self._keys[key] = known
        return known


def _never_changes(key: str, _since: float) -> set[str]:
    return {value_of(body_of(key))} if at_origin(key) else set()
