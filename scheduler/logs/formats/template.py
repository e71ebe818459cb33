"""From a log template of literals and fields to one regular expression.

Owns how a field's extent is found: by what follows it. nginx and Apache templates are both turned into these
parts. PURE.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scheduler.logs.formats.regex_format import RegexFormat
from workers.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: Fields that may stretch over the text that follows them: with two of them a hostile line of 20 KB costs 20
#: seconds, with one it costs nothing. Beyond the first, the first place that fits is taken.
_BACKTRACKING_FIELDS = 1
#: Longest line that is matched when some field may backtrack, in bytes.
_AMBIGUOUS_LINE_BYTES = 32 * 1024

#: What a value of each meaning can be made of.
_SHAPES: dict[str, bytes] = {
    "status": rb"\d{3}|-|0+",
    "method": rb"[A-Za-z]+|-",
    "scheme": rb"[a-z]*|-",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A variable of the template; `meaning` is a group name of `RegexFormat`, or empty for "skip it"."""

    meaning: str = ""
    #: The value may contain spaces although it is not quoted.
    spaced: bool = False
    #: What the value is made of, where that is known better.
    shape: bytes | None = None


def _before_field(following: Field, behind: bytes | Field, *, loose: bool) -> bytes | None:
    """The extent of a field with no text between it and the next; `behind` is what comes after that one.

    `loose`: another field may stretch already, so that this one ends at the first place that fits.
    """
    if following.meaning in {"target", "path", "upath"}:
        return rb"[^/]*+"
    if following.meaning != "query":
        return None
    if not loose:
        return rb"[^?]*?"
    if isinstance(behind, Field):
        return None
    return rb"(?:(?!" + re.escape(behind) + rb")[^?])*+" if behind else rb"[^?]*+"


def compile_template(
    name: str,
    parts: Sequence[bytes | Field],
    *,
    unescape: Callable[[bytes], bytes],
    quotes_escaped: bool,
) -> RegexFormat:
    r"""A format from alternating literals and fields.

    `quotes_escaped`: inside quotes a quote is written `\"` (Apache, JSON) and not as `\x22` (nginx).

    Raises:
        ConfigError: the template has no status or no request, so that no miss could be found with it.
    """
    pattern: list[bytes] = []
    seen: set[str] = set()
    before = after = b""
    loose = 0
    for at, part in enumerate(parts):
        if isinstance(part, bytes):
            pattern.append(re.escape(part))
            continue
        previous = parts[at - 1] if at else b""
        following = parts[at + 1] if at + 1 < len(parts) else b""
        left = previous if isinstance(previous, bytes) else b""
        right = following if isinstance(following, bytes) else b""
        shape = part.shape or _SHAPES.get(part.meaning)
        if shape is None and isinstance(following, Field):
            if not part.meaning and not following.meaning:
                continue  # what is skipped twice in a row is skipped once
            behind = parts[at + 2] if at + 2 < len(parts) else b""
            shape = _before_field(following, behind, loose=loose >= _BACKTRACKING_FIELDS)
            if shape is None or following.meaning == "query":
                loose += 1
            if shape is None and loose > _BACKTRACKING_FIELDS:
                raise ConfigError(
                    f"log format {name!r}: variables without a text between them; nothing says where one ends"
                )
        if shape is None:
            quoted = left.endswith(b'"') and right.startswith(b'"')
            if quoted and quotes_escaped:
                shape = rb'(?:[^"\\]|\\.)*+'
            elif quoted:
                shape = rb'[^"]*+'
            elif right.startswith(b"]"):
                shape = rb"[^\]]*+"
            elif not right:
                shape = rb".*"
            elif part.spaced:
                loose += 1
                shape = (
                    rb".*?" if loose <= _BACKTRACKING_FIELDS else rb"(?:(?!" + re.escape(right) + rb").)*+"
                )
            else:
                shape = rb"[^" + re.escape(right[:1]) + rb"]*+"
        if part.meaning and part.meaning not in seen:
            seen.add(part.meaning)
            pattern.append(rb"(?P<" + part.meaning.encode() + rb">" + shape + rb")")
            if part.meaning == "status":
                before, after = left, right
        else:
            pattern.append(rb"(?:" + shape + rb")")
    if "status" not in seen:
        raise ConfigError(f"log format {name!r} has no status: misses cannot be told from hits")
    if not seen & {"request", "target", "path", "upath"}:
        raise ConfigError(f"log format {name!r} has no request path: nothing says what was asked for")
    return RegexFormat(
        name,
        b"".join(pattern),
        before=before,
        after=after,
        unescape=unescape,
        line_limit_bytes=_AMBIGUOUS_LINE_BYTES if loose else 1 << 20,
    )
