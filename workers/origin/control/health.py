"""Which origins are out, for how long, and who may try them again.

Pure: the clock is a parameter, in seconds, and may be any monotonic one. Owns the judgement of single
answers (SEMANTICS.md B7), ejections (B8), the half-open probe, and the pauses that a throttling origin
asks for. Knows neither Redis nor plans: `control` publishes what changes here and brings in what other
processes found.

A host is *well*, *out* until a time, or *half-open* after it: then one request at a time may try it; a
success makes it well, a failure puts it out again at once, for longer.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from workers.errors import DigestMismatch, OriginThrottled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from workers.errors import OriginError

#: Consecutive failures that eject a host (B8).
FAILURES_TO_EJECT = 5
#: An ejection lasts this times the number of ejections in a row, at most the cap; in seconds.
EJECTION_BASE_S = 30.0
EJECTION_CAP_S = 300.0
#: A half-open probe whose result never came is forgotten after this; in seconds.
PROBE_LOST_S = 15.0
#: Pause after a 429 that names no time: doubled each time in a row, at most the cap; in seconds.
THROTTLE_BASE_S = 0.5
THROTTLE_CAP_S = 30.0


class Cause(StrEnum):
    """Why a host is out."""

    FAILURES = "failures"
    DIGEST = "digest"
    THROTTLED = "throttled"


class State(StrEnum):
    """How a host stands."""

    WELL = "well"
    OUT = "out"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ejection:
    """A host is out: for how many more seconds (0 or less: half-open), how often in a row, and why."""

    host: str
    remaining_s: float
    count: int
    cause: Cause


@dataclass(slots=True)
class _Host:
    failures: int = 0
    throttles: int = 0
    paused_until: float = 0.0
    #: Ejections in a row; `cause` None means not ejected.
    count: int = 0
    cause: Cause | None = None
    until: float = 0.0
    #: The half-open probe that is on its way ends, or is lost, by then.
    probing_until: float = 0.0
    #: The fleet's permission to probe, and that somebody here waits for it.
    permit_until: float = 0.0
    wanted: bool = False
    #: Other processes know of this ejection.
    shared: bool = False


def is_health_failure(error: OriginError) -> bool:
    """Whether the answer counts against the host (B7): never a 404, 403 or other 4xx but 429."""
    if error.health_failure:
        return True
    status = error.status
    return status is not None and (status >= 500 or status == 429)


def asked_pause_s(error: OriginError) -> float | None:
    """Seconds that a 429 or 503 asked us to stay away, at most the cap; None when it named no time."""
    if not isinstance(error, OriginThrottled) or error.retry_after_s is None or error.retry_after_s <= 0:
        return None
    return min(error.retry_after_s, EJECTION_CAP_S)


class Health:
    """The standing of every host, as this process knows it."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._hosts: dict[str, _Host] = {}
        #: Hosts out or half-open, so that asking costs nothing while all are well.
        self.sick: set[str] = set()
        #: Half-open probes are granted here (True), or by the fleet through `grant` (False).
        self.local_permits = True

    # ------------------------------------------------------------ questions

    def state(self, host: str) -> State:
        """How the host stands now."""
        known = self._hosts.get(host)
        if known is None or known.cause is None:
            return State.WELL
        return State.OUT if self._clock() < known.until else State.HALF_OPEN

    def usable(self, host: str) -> bool:
        """Whether a request may be sent there; a half-open host is usable for one request at a time."""
        if host not in self.sick:
            return True
        known = self._hosts[host]
        now = self._clock()
        if now < known.until or now < known.probing_until:
            return False
        if self.local_permits or now < known.permit_until:
            return True
        known.wanted = True
        return False

    def back_at(self, host: str) -> float:
        """Clock time at which the host's ejection ends; 0 when it is well. For failing open (B9)."""
        return self._hosts[host].until if host in self.sick else 0.0

    def pause_s(self, host: str) -> float:
        """Seconds for which the origin asked to be left alone (429, or 503 with Retry-After); 0 for none."""
        known = self._hosts.get(host)
        return max(0.0, known.paused_until - self._clock()) if known is not None else 0.0

    def ejections(self) -> list[Ejection]:
        """Every host that is out or half-open."""
        now = self._clock()
        found = []
        for host in sorted(self.sick):
            known = self._hosts[host]
            if known.cause is not None:
                found.append(
                    Ejection(host=host, remaining_s=known.until - now, count=known.count, cause=known.cause)
                )
        return found

    # ------------------------------------------------------------ what happened here

    def begin(self, host: str) -> None:
        """A request is on its way to the host; uses up the half-open probe."""
        if host in self.sick:
            known = self._hosts[host]
            now = self._clock()
            if now >= known.until:
                known.probing_until = now + PROBE_LOST_S
                known.permit_until = 0.0

    def succeeded(self, host: str) -> bool:
        """A good answer came; True when this ended an ejection.

        It does not end one for a digest difference or a Retry-After before its time: those speak of the host,
        and requests that were on their way prove nothing against them.
        """
        known = self._hosts.get(host)
        if known is None:
            return False
        known.failures = known.throttles = 0
        if known.cause is None:
            return False
        if known.cause is not Cause.FAILURES and self._clock() < known.until:
            return False
        self._reset(host, known)
        return True

    def failed(self, host: str, error: OriginError) -> Ejection | None:
        """A bad answer came; the ejection that follows from it, or None (B7, B8)."""
        known = self._hosts.setdefault(host, _Host())
        now = self._clock()
        if not is_health_failure(error):
            # The host answers: good enough to end a half-open probe, no proof of success otherwise.
            if known.cause is not None and now >= known.until:
                self._reset(host, known)
            return None
        asked_s = asked_pause_s(error)
        if asked_s is not None:
            known.throttles += 1
            known.paused_until = max(known.paused_until, now + asked_s)
            if now + asked_s <= known.until:
                return None
            return self._eject(host, known, now, Cause.THROTTLED, asked_s)
        if error.status == 429:
            known.throttles += 1
            wait_s = min(THROTTLE_CAP_S, THROTTLE_BASE_S * 2 ** min(known.throttles - 1, 10))
            known.paused_until = max(known.paused_until, now + wait_s)
        if isinstance(error, DigestMismatch):
            if known.cause is Cause.DIGEST and now < known.until:
                return None
            known.count += 1
            return self._eject(host, known, now, Cause.DIGEST, self._duration_s(known))
        if known.cause is not None:
            if now < known.until:
                return None
        else:
            known.failures += 1
            if known.failures < FAILURES_TO_EJECT:
                return None
        known.count += 1
        return self._eject(host, known, now, Cause.FAILURES, self._duration_s(known))

    # ------------------------------------------------------------ what happened elsewhere

    def published(self, host: str) -> None:
        """Other processes know of the host's ejection now."""
        if host in self.sick:
            self._hosts[host].shared = True

    def unshared(self) -> list[Ejection]:
        """Ejections that other processes have not heard of."""
        return [known for known in self.ejections() if not self._hosts[known.host].shared]

    def forget_shared(self) -> None:
        """Redis may have lost what was published: publish what is still out again."""
        for host in self.sick:
            self._hosts[host].shared = False

    def adopt(self, published: Mapping[str, Ejection]) -> list[str]:
        """Take over what the fleet published; the hosts that are newly out here.

        A host that was published before and is gone from `published` was found well by somebody.
        """
        now = self._clock()
        fresh = []
        for host, ejection in published.items():
            known = self._hosts.setdefault(host, _Host())
            until = now + ejection.remaining_s
            if known.cause is None:
                fresh.append(host)
            if known.cause is None or until > known.until:
                known.until = until
                known.cause = ejection.cause
                known.count = max(known.count, ejection.count)
                if ejection.cause is Cause.THROTTLED:
                    known.paused_until = max(known.paused_until, until)
            known.shared = True
            self.sick.add(host)
        for host in [host for host in self.sick if host not in published and self._hosts[host].shared]:
            self._reset(host, self._hosts[host])
        return fresh

    def wanted_permits(self) -> Iterable[str]:
        """Half-open hosts that somebody here would like to try."""
        return [host for host in self.sick if self._hosts[host].wanted]

    def grant(self, host: str, for_s: float) -> None:
        """The fleet lets this process make the half-open probe within `for_s` seconds."""
        if host in self.sick:
            known = self._hosts[host]
            known.permit_until = self._clock() + for_s
            known.wanted = False

    # ------------------------------------------------------------ inside

    @staticmethod
    def _duration_s(known: _Host) -> float:
        return min(EJECTION_CAP_S, EJECTION_BASE_S * known.count)

    def _eject(self, host: str, known: _Host, now: float, cause: Cause, duration_s: float) -> Ejection:
        known.failures = 0
        known.cause = cause
        known.until = max(known.until, now + duration_s)
        known.probing_until = known.permit_until = 0.0
        known.wanted = known.shared = False
        self.sick.add(host)
        return Ejection(host=host, remaining_s=known.until - now, count=known.count, cause=cause)

    def _reset(self, host: str, known: _Host) -> None:
        known.failures = known.count = 0
        known.cause = None
        known.until = known.probing_until = known.permit_until = 0.0
        known.wanted = known.shared = False
        self.sick.discard(host)
