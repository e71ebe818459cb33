"""The budgets that rules give to hosts (F53), as they travel through Redis.

Pure. Owns the form of one bucket's record and the merging of many; knows no rule.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from workers.errors import WireError
from workers.settings import BudgetSettings  # noqa: TC001 -- pydantic reads it at run time

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketBudgets:
    """What the rules of one bucket, in one version, give to hosts."""

    version: int
    budgets: dict[str, tuple[BudgetSettings, ...]] = field(default_factory=dict)


_RECORD: TypeAdapter[BucketBudgets] = TypeAdapter(BucketBudgets)


def encode(budgets: BucketBudgets) -> str:
    """The record as JSON."""
    return _RECORD.dump_json(budgets).decode()


def decode(text: str) -> BucketBudgets:
    """Read a record.

    Raises:
        WireError: a newer version wrote it, or it is damaged.
    """
    try:
        return _RECORD.validate_json(text)
    except ValidationError as error:
        raise WireError(f"budgets of a bucket: {error.errors()[0]['msg']}") from error


def merge(records: Iterable[BucketBudgets]) -> dict[str, tuple[BudgetSettings, ...]]:
    """All budgets of each host, over all buckets."""
    found: dict[str, list[BudgetSettings]] = {}
    for record in records:
        for host, budgets in record.budgets.items():
            known = found.setdefault(host, [])
            known.extend(budget for budget in budgets if budget not in known)
    return {host: tuple(budgets) for host, budgets in found.items()}
