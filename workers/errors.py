"""Every failure that Ferryman raises on purpose, as one tree.

Owns the reasons that `ferryman failures` lists. Knows no client library: third-party exceptions are
translated where they are met. A failure carries fields, not only text::

    FerrymanError
    ├── ConfigError                 configuration, a document, or the command line (exit code 2)
    ├── WireError                   a queue message that this version cannot read
    ├── BrokerUnavailable           Redis/Valkey does not answer
    ├── QueueFull                   a lane holds more than its bound: slow down
    └── TransferError               one object could not be moved; `reason` and `retryable`
        ├── OriginError             the origin's side
        │   ├── OriginUnreachable   connect, DNS, TLS
        │   ├── OriginTimeout       connect, first byte, idle or total deadline
        │   ├── OriginTruncated     fewer bytes than promised, or no last chunk
        │   ├── OriginStatus        a final status that is no success
        │   │   └── OriginThrottled 429, or 503 with Retry-After
        │   ├── OriginMalformed     no HTTP, a head beyond our bounds, or unreadable framing
        │   ├── CredentialMissing   the rule names one that the configuration lacks
        │   ├── OriginNoLength      neither length nor chunked (SEMANTICS.md A3)
        │   ├── OriginPartial       an unasked 206 that does not cover all (A4)
        │   ├── DigestMismatch      bytes differ from a digest that the origin gave
        │   │   └── ListingMismatch ... or from what a listing promised, which may be old
        │   ├── SoftNotFound        a look-alike of the origin's error page (F59)
        │   ├── RedirectRefused     loop, too many hops, downgrade, bad Location
        │   ├── AddressRefused      a connection the guard does not allow (B11)
        │   ├── OriginLoop          the request came back to Ferryman itself (H11)
        │   └── OriginsExhausted    every candidate failed; `attempts` tells the way taken
        ├── StoreError              the store's side
        │   ├── StoreUnavailable    connect, timeout, 5xx
        │   ├── StoreThrottled      503 SlowDown, 429
        │   ├── StoreDenied         401, 403
        │   ├── StoreRejected       any other refusal, with its S3 code
        │   ├── StoreCorrupted      the store's answer after the commit is not what was sent
        │   ├── KeyNotRepresentable the store cannot hold this key distinctly (S17)
        │   ├── TombstonesUnknown   nobody can say now whether the key was deleted (S15)
        │   └── ControlCharacter    such a key is stored by no way in, whatever the store could
        ├── ObjectTooLarge          over `max_object_bytes` (L12)
        └── BudgetExhausted         no slot in the origin's budget in time (A25)

An exception of the client's side of a tee is never in this tree (STYLE.md habit 5).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workers.answers import Attempt, OriginAnswer


class FerrymanError(Exception):
    """The root of the tree."""


class ConfigError(FerrymanError):
    """Something an operator wrote is wrong: names where, what was found, and what is allowed."""


class WireError(FerrymanError):
    """A queue message of an unknown version or shape."""


class BrokerUnavailable(FerrymanError):
    """Redis/Valkey does not answer."""


class QueueFull(FerrymanError):
    """A lane holds more messages than `broker.max_queue_depth`; ask again in `retry_after_s` seconds."""

    def __init__(self, message: str, *, retry_after_s: float = 2.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class TransferError(FerrymanError):
    """One object could not be moved.

    `reason` is the snake_case constant of the failures list, `retryable` says whether another attempt may
    succeed, `retry_after_s` (seconds) when the other side named a time.
    """

    reason: ClassVar[str] = "transfer_failed"
    retryable: ClassVar[bool] = True
    retry_after_s: float | None = None


class OriginError(TransferError):
    """The origin's side failed.

    `health_failure` counts towards ejection (B7), `switch` allows the next candidate.
    """

    reason: ClassVar[str] = "origin_failed"
    health_failure: ClassVar[bool] = False
    switch: ClassVar[bool] = True

    def __init__(self, message: str, *, origin: str = "", status: int | None = None) -> None:
        super().__init__(message)
        self.origin = origin
        self.status = status


class OriginUnreachable(OriginError):
    """No connection: refused, DNS, TLS."""

    reason = "origin_unreachable"
    health_failure = True


class OriginTimeout(OriginError):
    """A deadline passed. `phase` is connect, first_byte, idle or total."""

    reason = "origin_timeout"
    health_failure = True

    def __init__(self, message: str, *, origin: str = "", phase: str = "first_byte") -> None:
        super().__init__(message, origin=origin)
        self.phase = phase


class OriginTruncated(OriginError):
    """The body ended short: `got` of `expected` bytes (None: a chunked body without its last chunk)."""

    reason = "origin_truncated"
    health_failure = True

    def __init__(self, message: str, *, origin: str = "", got: int = 0, expected: int | None = None) -> None:
        super().__init__(message, origin=origin)
        self.got = got
        self.expected = expected


class OriginStatus(OriginError):
    """A final status that is neither success nor 404."""

    reason = "origin_status"


class OriginThrottled(OriginStatus):
    """429, or 503 with Retry-After: wait, do not count an attempt."""

    reason = "origin_throttled"
    health_failure = True

    def __init__(self, message: str, *, origin: str, status: int, retry_after_s: float | None) -> None:
        super().__init__(message, origin=origin, status=status)
        self.retry_after_s = retry_after_s


class OriginMalformed(OriginError):
    """The answer is no HTTP, its head is beyond our bounds, or its framing cannot be read."""

    reason = "origin_malformed"
    health_failure = True


class CredentialMissing(OriginError):
    """The rule names a credential that the configuration does not have."""

    reason = "credential_missing"


class OriginNoLength(OriginError):
    """Neither Content-Length nor chunked: nobody can know whether the body is whole (A3)."""

    reason = "no_length"


class OriginPartial(OriginError):
    """A 206 that was not asked for and does not cover the whole object (A4)."""

    reason = "partial_answer"


class DigestMismatch(OriginError):
    """The body differs from a digest that the origin gave; `expected` and `actual` are lower-case hex."""

    reason = "digest_mismatch"
    health_failure = True

    def __init__(self, message: str, *, origin: str, algorithm: str, expected: str, actual: str) -> None:
        super().__init__(message, origin=origin)
        self.algorithm = algorithm
        self.expected = expected
        self.actual = actual


class ListingMismatch(DigestMismatch):
    """The body differs from what a listing promised; the listing may be old, so it is no health failure."""

    reason = "listing_mismatch"
    health_failure = False


class SoftNotFound(OriginError):
    """A 200 that looks like the origin's error page (F59)."""

    reason = "soft_404"
    retryable = False
    switch = False


class RedirectRefused(OriginError):
    """A redirect that is not followed: loop, too many hops, downgrade, or an unusable Location."""

    reason = "redirect_refused"
    switch = False


class AddressRefused(OriginError):
    """The resolved address may not be connected to (B11)."""

    reason = "address_refused"


class OriginLoop(OriginError):
    """The origin leads back to Ferryman itself (H11)."""

    reason = "origin_loop"
    retryable = False
    switch = False


class OriginsExhausted(OriginError):
    """Every candidate failed. `attempts` are in the order taken; `last` is the last one's error.

    `answer` is what the last candidate said, with its body when the session was asked to keep it.
    """

    reason = "origins_exhausted"
    switch = False

    def __init__(
        self,
        message: str,
        *,
        attempts: Sequence[Attempt],
        last: OriginError,
        answer: OriginAnswer | None = None,
    ) -> None:
        super().__init__(message, origin=last.origin, status=last.status)
        self.attempts = tuple(attempts)
        self.last = last
        self.answer = answer
        self.retry_after_s = last.retry_after_s


class StoreError(TransferError):
    """The store's side failed. `status` is HTTP, `code` the S3 error code, both None when no answer came."""

    reason: ClassVar[str] = "store_failed"

    def __init__(self, message: str, *, status: int | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class StoreUnavailable(StoreError):
    """No connection, no answer in time, or a 5xx."""

    reason = "store_unavailable"


class StoreThrottled(StoreError):
    """503 SlowDown or 429: back off, the object is not lost."""

    reason = "store_throttled"


class StoreDenied(StoreError):
    """401 or 403: credentials or permissions."""

    reason = "store_denied"


class StoreRejected(StoreError):
    """Another refusal of the store."""

    reason = "store_rejected"
    retryable = False


class StoreCorrupted(StoreError):
    """What the store says it has is not what was sent."""

    reason = "store_corrupted"


class KeyNotRepresentable(StoreError):
    """This store cannot hold the key distinctly from another one (S17)."""

    reason = "key_not_representable"
    retryable = False


class TombstonesUnknown(StoreError):
    """The ledger does not answer, and the bucket has keys that were deleted: this may be one (S15)."""

    reason = "tombstones_unknown"


class ControlCharacter(StoreError):
    """The key has a control character: no list, log or manifest could name it."""

    reason = "control_character"
    retryable = False


class ObjectTooLarge(TransferError):
    """Over `max_object_bytes`; becomes the outcome Skipped(too_large)."""

    reason = "too_large"
    retryable = False


class BudgetExhausted(TransferError):
    """No slot in the origin's budget came free in time."""

    reason = "budget_exhausted"


def described(error: BaseException) -> str:
    """A foreign exception for a message: its type, and its text where it has one."""
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
