"""Which keys a store can hold, and how it lists them, found out by trying (SEMANTICS.md S17).

Owns the judgement of names, order and versions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from workers.errors import StoreDenied
from workers.store.listing import list_objects

if TYPE_CHECKING:
    from workers.store.guarantees import KeyKind
    from workers.store.probe.trial import Trial


@dataclass(frozen=True, slots=True, kw_only=True)
class ListingOrder:
    """How listings come; the fields are those of `StoreGuarantees`."""

    collation: Literal["bytes", "path", "none"]
    start_after: bool
    plus_is_space: bool


async def missing_key_status(trial: Trial) -> int:
    """404, or 403 where we may not list."""
    try:
        found = await trial.store.head(trial.bucket, trial.prefix + "never-written")
    except StoreDenied:
        return 403
    return 404 if found is None else 200


async def versioned(trial: Trial) -> bool:
    """Whether the bucket keeps versions; no when it cannot be asked."""
    answer = await trial.ask("GET", "", query=[("versioning", "")])
    return answer.status == 200 and b"<Status>Enabled<" in answer.body


async def unrepresentable(trial: Trial) -> frozenset[KeyKind]:
    """Kinds of keys that this store cannot hold beside their neighbours (S17)."""
    found: set[KeyKind] = set()
    await trial.put("n/a/b", b"plain")
    if await trial.put_odd("n/a//b", b"double") >= 300 or await _bodies(trial, "n/a/b", "n/a//b") != [
        b"plain",
        b"double",
    ]:
        found.add("double_slash")
    if await trial.put_odd("n/a", b"above") >= 300 or await _bodies(trial, "n/a", "n/a/b") != [
        b"above",
        b"plain",
    ]:
        found.add("below_object")
    await trial.put("m", b"plain")
    if await trial.put_odd("m/", b"slash") >= 300 or await _bodies(trial, "m", "m/") != [b"plain", b"slash"]:
        found.add("trailing_slash")
    if await trial.put_odd("e/f/", b"") >= 300 or await _bodies(trial, "e/f/", "e/f") != [b"", None]:
        found.add("directory_marker")
    await trial.put("b/a/b", b"plain")
    if await trial.put_odd("b/a\\b", b"back") >= 300 or await _bodies(trial, "b/a/b", "b/a\\b") != [
        b"plain",
        b"back",
    ]:
        found.add("backslash")
    if not await _listed(trial, "u/.uploads/x"):
        found.add("uploads_segment")
    if not await _listed(trial, "v/n.versions") or not await _listed(trial, "w/n.versions/x"):
        found.add("versions_segment")
    if await trial.put_odd("d/./x", b"dot") >= 300 or await trial.body("d/./x") != b"dot":
        found.add("dot_segment")
    return frozenset(found)


async def _listed(trial: Trial, name: str) -> bool:
    """Whether an object can be written under a name, and is then listed; what may not be listed passes."""
    if await trial.put_odd(name, b"reserved") >= 300 or await trial.body(name) != b"reserved":
        return False
    prefix = trial.prefix + name.partition("/")[0] + "/"
    try:
        return await _keys(trial, prefix, plus=False, strict=True) == [trial.prefix + name]
    except StoreDenied:
        return True


async def _bodies(trial: Trial, *names: str) -> list[bytes | None]:
    return [await trial.body(name) for name in names]


async def listing(trial: Trial) -> ListingOrder:
    """Order of a listing, `start-after`, and the spelling of a space."""
    # `-` and `.` come before `/`, `0` behind it: names that decide. `k/a` itself is left out, since trying it
    # beside `k/a/1` makes some stores lose what lies below (S17).
    names = ("k/a-1", "k/a.b", "k/a/1", "k/a/2", "k/a0", "k/b c", "k/b+c")
    for name in names:
        await trial.put(name, b"")
    base = f"{trial.prefix}k/"
    by_bytes = [trial.prefix + name for name in names]
    by_path = [trial.prefix + name for name in ("k/a/1", "k/a/2", "k/a-1", "k/a.b", "k/a0", "k/b c", "k/b+c")]
    seen: list[str] = []
    plus = True
    for plus in (True, False):
        seen = await _keys(trial, base, plus=plus)
        if sorted(seen) == sorted(by_bytes):
            break
    collation: Literal["bytes", "path", "none"] = "none"
    if seen == by_bytes:
        collation = "bytes"
    elif seen == by_path:
        collation = "path"
    middle = len(seen) // 2
    works = bool(seen) and await _keys(trial, base, plus=plus, after=seen[middle]) == seen[middle + 1 :]
    return ListingOrder(collation=collation, start_after=works, plus_is_space=plus)


async def _keys(
    trial: Trial, prefix: str, *, plus: bool, after: str | None = None, strict: bool = False
) -> list[str]:
    found: list[str] = []
    try:
        async for page in list_objects(
            trial.store.transport,
            trial.bucket,
            prefix,
            continuation=None,
            start_after=after,
            headers=trial.store.common_headers,
            plus_is_space=plus,
        ):
            found.extend(listed.key for listed in page.objects)
    except StoreDenied:
        if strict:
            raise
        return []
    return found
