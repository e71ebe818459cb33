"""What the gateway knows about one request before it looks at any bucket.

Owns the record of a request and its reading from an ASGI scope. Whose forwarded headers are believed is
`access`'s. Knows no bucket, no rule and no store.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from scheduler.front.http.access import client_facts
from scheduler.front.http.s3_error import new_request_id

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scheduler.front.http.access import ClientFacts, TrustedProxies


#: An `X-Request-Id` that may stand in a log line and travel with a job.
_TRACE_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")


class Connection(Protocol):
    """The client's connection, as far as an answer has to know it."""

    @property
    def gone(self) -> bool:
        """Whether nothing that is sent can still arrive."""

    @property
    def write_paused(self) -> bool:
        """Whether the client reads slower than it is sent to."""

    def abort(self) -> None:
        """Cut the connection with a reset."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request, as it came over the wire and through the proxies that are trusted."""

    id: str
    #: The client's `X-Request-Id`, where it sent one that can be one, else `id`: for logs and jobs.
    trace_id: str
    method: str
    #: Path as sent, without the query.
    raw_path: bytes
    #: Query as sent, without `?`.
    query: str
    #: Names lower-case, values as Latin-1 text, in order.
    headers: tuple[tuple[str, str], ...]
    #: The same by name; several values of one name joined by `, `.
    by_name: Mapping[str, str]
    #: Scheme, address and host of the client, beyond trusted proxies.
    client: ClientFacts
    #: What the store answered to a trusted gateway (`X-Ferryman-Status`), or None.
    store_status: int | None
    connection: Connection

    def log_ids(self) -> dict[str, str]:
        """For a log line: the client's own id, and where that is another one, ours."""
        ids = {"request_id": self.trace_id}
        return ids if self.trace_id == self.id else ids | {"answer_id": self.id}


def read_request(scope: Mapping[str, Any], trusted: TrustedProxies) -> Request:
    """The request of an HTTP scope that `protocol.StrictProtocol` made."""
    headers = tuple([(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]])
    by_name: dict[str, str] = {}
    for name, value in headers:
        by_name[name] = f"{by_name[name]}, {value}" if name in by_name else value
    client = client_facts(scope, trusted)
    mine = new_request_id()
    theirs = by_name.get("x-request-id")
    status = by_name.get("x-ferryman-status", "") if client.trusted else ""
    return Request(
        id=mine,
        trace_id=theirs if theirs is not None and _TRACE_ID.fullmatch(theirs) else mine,
        method=scope["method"],
        raw_path=scope["raw_path"],
        query=scope["query_string"].decode("latin-1"),
        headers=headers,
        by_name=by_name,
        client=client,
        store_status=int(status) if len(status) == 3 and status.isdecimal() else None,
        connection=scope["extensions"]["ferryman.connection"],
    )
