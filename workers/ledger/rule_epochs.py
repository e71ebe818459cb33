"""Which rules are still in force: the little that a worker must know of rules, in the ledger database.

Owns the key, its reading and the decision "withdrawn". The control plane writes it with every change of a
bucket's rules; a worker never learns what a rule says.

Key schema (ledger database)::

    ns:rule-epochs:<bucket>   hash   ""          the version of the bucket's rule set in force (also of a
    deleted one)
                                     <rule>      `<epoch> <fingerprint>`: the version since which this rule
                                     asks the
                                                 same of the same origins; a rule that is not here is
                                                 withdrawn

A job carries its rule's name and the version of the set it was planned with (`FetchPlan.epoch`). It is
withdrawn when the rule is gone, or asks something else since a later version (SEMANTICS.md section 2.7). A
job that is newer than what was read here is in force: the reader is merely up to a second behind.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import structlog
from redis.exceptions import RedisError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from redis.asyncio import Redis

#: Field of the hash that holds the version in force.
IN_FORCE = ""
#: Seconds that a bucket's epochs are believed.
CACHED_S = 1.0

log = structlog.get_logger(__name__)


def rule_epochs_key(namespace: str, bucket: str) -> str:
    """Name of the hash of one bucket."""
    return f"{namespace}:rule-epochs:{bucket}"


def is_withdrawn(epochs: Mapping[str, str], rule: str, epoch: int) -> bool:
    """Whether a job planned by `rule` at `epoch` is withdrawn, by the fields of the hash.

    An empty hash (never published, or Redis lost it) withdraws nothing. Epoch 0 is a set that was in force
    while Redis was away: such a job is withdrawn only when its rule is gone.
    """
    in_force = epochs.get(IN_FORCE)
    if in_force is None or epoch > int(in_force):
        return False
    since = epochs.get(rule)
    return since is None or 0 < epoch < int(since.partition(" ")[0])


@dataclass(slots=True)
class _Known:
    read_at: float = float("-inf")
    epochs: dict[str, str] = field(default_factory=dict)


class RuleEpochs:
    """The reader of a worker process: one small hash a bucket, cached for a second.

    `redis` decodes answers to str. While Redis does not answer, what was read last goes on being true.
    """

    def __init__(
        self,
        redis: Redis,
        *,
        namespace: str = "ferryman",
        cached_s: float = CACHED_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._redis = redis
        self._namespace = namespace
        self._cached_s = cached_s
        self._clock = clock
        self._known: dict[str, _Known] = {}

    async def is_live(self, bucket: str, rule: str, epoch: int) -> bool:
        """Whether a job of that rule and epoch may run; False means Skipped(rule_withdrawn) (section 2.7)."""
        known = self._known.setdefault(bucket, _Known())
        now = self._clock()
        if now - known.read_at >= self._cached_s:
            known.read_at = now  # before the await: others of this moment use what is known
            try:
                found = await self._redis.hgetall(rule_epochs_key(self._namespace, bucket))
                known.epochs = cast("dict[str, str]", found)
            except (RedisError, OSError) as error:
                log.warning("rule_epochs_not_read", bucket=bucket, error=str(error))
        return not is_withdrawn(known.epochs, rule, epoch)
