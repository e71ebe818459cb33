"""What a form's policy permits. Pure.

Owns the policy document: its expiry, its conditions, and that every field of the form stands in one of them.
Who signed it is `scheduler.front.auth`'s.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal

from scheduler.front.http.s3_error import S3Error
from scheduler.front.s3.call import Refused

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: Fields that no condition needs to name.
_FREE: Final = frozenset({"awsaccesskeyid", "file", "policy", "signature", "x-amz-signature"})
_IGNORED: Final = "x-ignore-"
_RANGE: Final = "content-length-range"
_EXPIRES: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d{1,9})?(?:Z|\+00:?00)")
_BYTES: Final = re.compile(r"[0-9]{1,15}")
#: S3's own escape of a dollar sign, which JSON does not know.
_ESCAPED: Final = re.compile(r"(?<!\\)\\\$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One field and what its value has to be, or to begin with."""

    operator: Literal["eq", "starts-with"]
    #: Lower-case, without `$`.
    field: str
    value: str

    def holds(self, given: str | None) -> bool:
        """Whether a form's value is as wanted; a field that is not there is not."""
        if given is None:
            return False
        wanted = {self.value, self.value.replace("\\$", "$")}
        if self.operator == "eq":
            return given in wanted
        # A list of types is one field, and each of them counts.
        several = [one.strip() for one in given.split(",")] if self.field == "content-type" else [given]
        return all(one.startswith(tuple(wanted)) for one in several)

    def __str__(self) -> str:
        return json.dumps([self.operator, f"${self.field}", self.value])


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A policy that was read."""

    #: Unix seconds.
    expires_at: float
    conditions: tuple[Condition, ...]
    #: Bytes that the file may have; None when nothing is said.
    least_bytes: int | None = None
    most_bytes: int | None = None

    def require(self, fields: Mapping[str, str], *, bucket: str, now: float) -> None:
        """The form is what the policy permits; `fields` by lower-case name, with their variables filled in.

        Raises:
            Refused: 403 AccessDenied, which says what is against it.
        """
        if now >= self.expires_at:
            raise _against("Policy expired.")
        if fields.get("bucket", bucket) != bucket:
            raise _against(f"The field 'bucket' is not the bucket {bucket!r} that the form was sent to.")
        given = {**fields, "bucket": bucket}
        for condition in self.conditions:
            if not condition.holds(given.get(condition.field)):
                raise _against(f"Policy Condition failed: {condition}")
        named = _FREE | {condition.field for condition in self.conditions}
        extra = sorted(name for name in given if name not in named and not name.startswith(_IGNORED))
        if extra:
            raise _against(f"Extra input fields: {', '.join(extra)}")


def read_policy(encoded: str) -> Policy:
    """The policy of a form.

    Raises:
        Refused: 400 InvalidPolicyDocument.
    """
    try:
        text = base64.b64decode("".join(encoded.split()), validate=True).decode("utf-8")
        document: Any = json.loads(_ESCAPED.sub("$", text))
    except (binascii.Error, ValueError, RecursionError) as error:
        raise _invalid("it is not the Base64 of a JSON document.") from error
    if not isinstance(document, dict):
        raise _invalid("it is not a JSON object.")
    expires_at = _moment(document.get("expiration"))
    listed = document.get("conditions")
    if not isinstance(listed, list):
        raise _invalid("it has no list of 'conditions'.")
    conditions: list[Condition] = []
    least: int | None = None
    most: int | None = None
    for entry in listed:
        operator = str(entry[0]).lower() if isinstance(entry, list) and entry else ""
        if operator == _RANGE:
            low, high = _range(entry)
            least = low if least is None else max(least, low)
            most = high if most is None else min(most, high)
        else:
            conditions += _conditions(entry, operator)
    return Policy(expires_at=expires_at, conditions=tuple(conditions), least_bytes=least, most_bytes=most)


def _conditions(entry: Any, operator: str) -> Iterator[Condition]:
    if isinstance(entry, dict) and entry:
        for name, value in entry.items():
            yield Condition(operator="eq", field=name.lower(), value=_text(value, entry))
    elif operator in {"eq", "starts-with"} and len(entry) == 3:
        field = _text(entry[1], entry)
        if not field.startswith("$"):
            raise _invalid(f"{json.dumps(entry)}: the second part is a field's name behind a '$'.")
        yield Condition(
            operator="eq" if operator == "eq" else "starts-with",
            field=field[1:].lower(),
            value=_text(entry[2], entry),
        )
    else:
        raise _invalid(
            f"{json.dumps(entry)[:200]} is no condition; there are an object with a field and its value, "
            f"'eq', 'starts-with' and {_RANGE!r}."
        )


def _text(value: Any, entry: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise _invalid(f"{json.dumps(entry)[:200]}: a value is a text.")
    return str(value)


def _range(entry: list[Any]) -> tuple[int, int]:
    numbers = [str(part) for part in entry[1:] if not isinstance(part, bool)]
    if len(entry) != 3 or len(numbers) != 2 or not all(_BYTES.fullmatch(part) for part in numbers):
        raise _invalid(f"{json.dumps(entry)[:200]}: {_RANGE} takes the least and the most bytes.")
    low, high = map(int, numbers)
    return low, high


def _moment(text: Any) -> float:
    found = _EXPIRES.fullmatch(text) if isinstance(text, str) else None
    try:
        if found is not None:
            return datetime.fromisoformat(found[1]).replace(tzinfo=UTC).timestamp()
    except ValueError:
        found = None
    raise _invalid("its 'expiration' is no time such as 2027-01-31T12:00:00.000Z.")


def _invalid(what: str) -> Refused:
    return Refused(S3Error(status=400, code="InvalidPolicyDocument", message=f"Invalid Policy: {what}"))


def _against(what: str) -> Refused:
    return Refused(S3Error(status=403, code="AccessDenied", message=f"Invalid according to Policy: {what}"))
