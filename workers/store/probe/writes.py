"""What a store does with conditional and checked PUTs, found out by trying (SEMANTICS.md S11, S12).

Owns the judgement: a header that does nothing, or the opposite of what it says, is told from one that is
obeyed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from workers.store.guarantees import CreateOnly
from workers.store.probe.trial import FIRST, SECOND
from workers.store.wire.checksums import crc32c_base64

if TYPE_CHECKING:
    from workers.store.probe.trial import Trial

#: No checksum of any body that is sent here.
WRONG_CRC32C: Final = "AAAAAA=="
WRONG_MD5: Final = "AAAAAAAAAAAAAAAAAAAAAA=="
WRONG_SHA256: Final = "0" * 64

_STRONG: Final = (CreateOnly.IF_NONE_MATCH, CreateOnly.OSS, CreateOnly.COS)

#: Whether a conditional write was obeyed, did nothing, or hit the wrong one of the two cases.
_Verdict = Literal["obeyed", "ignored", "inverted"]


async def create_only(trial: Trial) -> tuple[CreateOnly, bool]:
    """The strongest create-only header that works, and whether one is answered the wrong way round."""
    inverted = False
    for mode in _STRONG:
        verdict = await _conditional(trial, mode)
        inverted = inverted or verdict == "inverted"
        if verdict == "obeyed":
            return mode, inverted
    return CreateOnly.CHECK_THEN_WRITE, inverted


async def _conditional(trial: Trial, mode: CreateOnly) -> _Verdict:
    header = mode.header
    assert header is not None
    name = f"create-{mode}"
    fresh = await trial.put(name, FIRST, [header])
    if fresh >= 300:
        # Refused on a free key. Does it write on a taken one? Then it is the wrong way round.
        await trial.put(name, FIRST)
        taken = await trial.put(name, SECOND, [header])
        return "inverted" if taken < 300 else "ignored"
    taken = await trial.put(name, SECOND, [header])
    kept = await trial.body(name) == FIRST
    return "obeyed" if taken in {409, 412} and kept else "ignored"


async def if_match(trial: Trial) -> bool:
    """Whether If-Match on PUT protects another version and lets the named one be replaced."""
    await trial.put("match", FIRST)
    if await trial.put("match", SECOND, [("if-match", '"0123456789abcdef0123456789abcdef"')]) < 300:
        return False
    info = await trial.store.head(trial.bucket, trial.prefix + "match")
    if info is None:
        return False
    done = await trial.put("match", SECOND, [("if-match", f'"{info.etag}"')])
    return done < 300 and await trial.body("match") == SECOND


async def checksums(trial: Trial) -> tuple[str, ...]:
    """Which checksums of a PUT are compared: a wrong one must be refused, a right one taken."""
    found: list[str] = []
    right = [("x-amz-checksum-crc32c", crc32c_base64([FIRST]))]
    if (
        await trial.put("crc", FIRST, [("x-amz-checksum-crc32c", WRONG_CRC32C)]) >= 300
        and await trial.put("crc", FIRST, right) < 300
    ):
        found.append("crc32c")
    if await trial.put("sha", FIRST, payload_sha256=WRONG_SHA256) >= 300:
        found.append("sha256")
    if await trial.put("md5", FIRST, [("content-md5", WRONG_MD5)]) >= 300:
        found.append("md5")
    return tuple(found)


async def object_tags(trial: Trial) -> bool:
    """Whether tags may be sent with a PUT."""
    return await trial.put("tags", FIRST, [("x-amz-tagging", "probe=1")]) < 300
