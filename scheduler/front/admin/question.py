"""A request that somebody asks about: from the fields of a form or the parameters of `/v1/rules/…/explain`.

Owns how such fields are read. PURE.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from scheduler.rules.keys import KeyRefused, client_path
from scheduler.rules.matching import RequestFacts

if TYPE_CHECKING:
    from starlette.datastructures import QueryParams

    from scheduler.rules.planning import PlanKind

_METHOD = re.compile(r"[A-Z]{1,16}")
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


#: How a yes or no of the query may be written, in small or large letters.
YES = ("true", "1", "yes", "on")
NO = ("false", "0", "no", "off", "")


class WrongQuestion(ValueError):
    """A field cannot be read: `field` is its name."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked about: GET of a key that the store answers with 404, unless said otherwise."""

    key: str
    method: str = "GET"
    status: int = 404
    #: `Name: value`, one each.
    headers: tuple[tuple[str, str], ...] = ()
    host: str = ""
    query: str = ""
    kind: PlanKind = "request"

    @classmethod
    def of(cls, params: QueryParams) -> Question:
        """The question of `key`, `method`, `status`, `header` (or several), `host`, `query`, `queued`.

        Raises:
            WrongQuestion: a field is not what it should be.
        """
        method = params.get("method", "").strip().upper() or "GET"
        if not _METHOD.fullmatch(method):
            raise WrongQuestion("method", f"{method!r} is no method, such as GET or HEAD")
        status = params.get("status", "").strip() or "404"
        if not (status.isascii() and status.isdecimal() and len(status) == 3 and 100 <= int(status) <= 599):
            raise WrongQuestion("status", f"{status!r} is no status from 100 to 599")
        if not params.get("key", ""):
            raise WrongQuestion("key", "a key is needed, such as img/a.png")
        lines = [line for text in params.getlist("header") for line in text.splitlines() if line.strip()]
        return cls(
            key=params["key"],
            method=method,
            status=int(status),
            headers=tuple(_header(line) for line in lines),
            host=params.get("host", "").strip(),
            query=params.get("query", "").strip().removeprefix("?"),
            kind="event" if flag(params, "queued") else "request",
        )

    def facts(self) -> RequestFacts:
        """What rules look at.

        Raises:
            WrongQuestion: no object can have this key.
        """
        try:
            named = client_path(quote(f"/{self.key}", safe="/").encode())
        except (KeyRefused, UnicodeEncodeError) as error:
            raise WrongQuestion("key", str(error)) from error
        return RequestFacts(
            key=named.key,
            method=self.method,
            status=self.status,
            headers=self.headers,
            host=next((value for name, value in self.headers if name.lower() == "host"), self.host).partition(
                ":"
            )[0],
            query=self.query,
            leading_slashes=named.leading_slashes,
        )


def flag(params: QueryParams, name: str) -> bool:
    """A yes or no; no, where it is not given.

    Raises:
        WrongQuestion: it is neither: what was meant must not be guessed.
    """
    given = params.get(name, "").strip().lower()
    if given not in YES and given not in NO:
        raise WrongQuestion(name, f"{name}={given[:50]!r}: true or false is expected")
    return given in YES


def _header(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon or not _NAME.fullmatch(name.strip()):
        raise WrongQuestion("header", f"{line!r}: `Name: value` is expected")
    return name.strip(), value.strip()
