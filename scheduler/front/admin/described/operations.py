"""The tables: each `/v1` route under its method and path, as `Route` has them. PURE.

Owns the words. One table a group of routes; `OPERATIONS` is all of them, with those of `rooms`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import Field

from scheduler.front.admin.described import shapes
from scheduler.front.admin.described.operation import Answer, Body, Operation, Parameter
from scheduler.front.admin.described.rooms import FLAG, GATE, ORIGINS, TRIALS
from scheduler.front.admin.failures import Chosen, Waive
from scheduler.scan.names import FINDINGS, TERMS
from workers.ledger.failures import Failure

if TYPE_CHECKING:
    from collections.abc import Mapping

_YAML, _XML = "application/yaml", "application/xml"
_IF_MATCH = Parameter(
    name="If-Match",
    where="header",
    type=Annotated[str, Field(pattern=r'^(\*|(W/)?"?[0-9]{1,15}"?)$')],
    about='`"<version>"`: refuse the change with 412 when another one came between',
)
_OWNED = "the bucket's rules stand in the configuration file"
_NO_BUCKET = "the bucket is not in the configuration"
_AWAY = "Redis does not answer; see Retry-After"
_RULES: Final = {
    "rules": [{"name": "all", "type": "mirror", "origin": {"hosts": ["https://old.example.com"]}}]
}
_SUMMARY: Final = {"bucket": "site", "version": 3, "owner": "api", "source": "yaml", "count": 1}

RULES: Final[Mapping[tuple[str, str], Operation]] = {
    ("GET", "/v1/rules"): Operation(
        summary="Every configured bucket, with or without rules",
        answers={
            200: Answer(
                about="the buckets",
                type=shapes.RuleSets,
                example={"buckets": [_SUMMARY, {"bucket": "b", "owner": "file", "count": 0}], "synced": True},
            )
        },
    ),
    ("GET", "/v1/rules/{bucket}"): Operation(
        summary="The rules of a bucket: as JSON, or as a document of a vendor",
        parameters=(
            Parameter(name="as", about="`json` unless said", type=Literal["json", "yaml", "cos", "oss"]),
            Parameter(name="version", about="an earlier version of the history", type=int),
        ),
        answers={
            200: Answer(
                about="the rules; the ETag is their version",
                type=shapes.RuleDocument,
                example={**_SUMMARY, **_RULES},
                others=(_YAML, _XML),
            )
        },
        refusals={
            400: "`as` is none of these",
            404: "no such bucket, no rules, or no such version",
            409: "the vendor's format cannot express them",
        },
    ),
    ("PUT", "/v1/rules/{bucket}"): Operation(
        summary="Replace the rules of a bucket by a JSON, YAML, COS or OSS document",
        parameters=(
            Parameter(name="dry_run", about="`true`: only say what would change", type=FLAG),
            _IF_MATCH,
        ),
        body=Body(
            about="the document; what it begins with says which one it is",
            type=dict[str, Any] | list[dict[str, Any]],
            example={"rules": [{"origins": ["https://old.example.com"]}]},
            others=(_YAML, _XML),
        ),
        answers={
            200: Answer(
                about="what changed; of a dry run, what would be in force",
                type=shapes.RulesReplaced | shapes.RulesTried,
                example={"bucket": "site", "version": 4, "changed": True, "warnings": []},
            )
        },
        refusals={
            400: "the document is wrong: `problems` has each place",
            404: _NO_BUCKET,
            409: _OWNED,
            412: "another change came between",
            413: "the document is too large",
        },
    ),
    ("DELETE", "/v1/rules/{bucket}"): Operation(
        summary="Withdraw all rules of a bucket",
        parameters=(_IF_MATCH,),
        answers={
            200: Answer(
                about="whether there were some",
                type=shapes.RulesDeleted,
                example={"bucket": "site", "deleted": True},
            )
        },
        refusals={
            400: "If-Match is no version",
            404: _NO_BUCKET,
            409: _OWNED,
            412: "another change came between",
        },
    ),
    ("GET", "/v1/rules/{bucket}/history"): Operation(
        summary="The last 20 versions of a bucket's rules, newest first",
        answers={
            200: Answer(
                about="the versions",
                type=shapes.RulesHistory,
                example={
                    "bucket": "site",
                    "versions": [
                        {
                            "version": 3, "at": 1795238532.0, "who": "token", "how": "PUT /v1/rules",
                            "owner": "api", "count": 1, "names": ["all"],
                        }
                    ],
                },
            )
        },
        refusals={404: _NO_BUCKET},
    ),
    ("POST", "/v1/rules/{bucket}/rollback"): Operation(
        summary="Put a version of the history in force again, as a new one",
        body=Body(about="which one", type=shapes.RollbackWanted, example={"version": 2}),
        answers={
            200: Answer(
                about="the new version",
                type=shapes.RulesRolledBack,
                example={"bucket": "site", "version": 4, "changed": True, "from": 2},
            )
        },
        refusals={
            400: "the body names no version",
            404: "no such bucket or version",
            409: _OWNED,
            413: "the order is too large",
        },
    ),
}  # fmt: skip

_SCANS_SHOWN = Annotated[int, Field(ge=1, le=1000)]
_LIMIT_OF_KEYS = Annotated[int, Field(ge=1, le=10_000)]
_SCAN: Final = {
    "name": "archive", "run": "5f1c", "bucket": "site", "phase": "move", "paused": False, "error": "",
    "begins_anew": False, "waiting": "", "coordinator": "host:71", "dry_run": False, "read": 10,
    "duplicates": 0, "extra": 0, "pages": 1, "unread": 0, "outside": 0, "would_fetch": 4,
    "started_at": 1795238532.0, "finished_at": 0.0,
    "progress": {"settled": 8, "expected": 10, "duration_s": 2.5, "objects_per_s": 3.2, "bytes_per_s": 900.0,
                 "eta_s": 0.6},
    "shards": {"total": 1, "done": 0, "running": 1, "waiting": 0, "joined": True, "flaw": "",
               "one_because": "", "slowest": None, "keys_left": 0,
               "ranges": [{"number": 0, "begin": "", "end": None, "state": "running", "generation": 0,
                           "found": 10, "expected": 10, "active_s": 2.5, "worker": "host:71"}]},
    "total": {"found": 10, "present": 6, "stored": 2, "absent": 0, "differs": 0, "excluded": 0, "failed": 0,
              "skipped": 0, "pending": 2, "bytes": 2250},
    "prefixes": {},
}  # fmt: skip

SCANS: Final[Mapping[tuple[str, str], Operation]] = {
    ("GET", "/v1/scans"): Operation(
        summary="Scans: those under way, then those that were requested last",
        parameters=(
            Parameter(name="limit", about="scans of the answer, 200 unless said", type=_SCANS_SHOWN),
            Parameter(
                name="cursor",
                about='where to go on: as `Link: </v1/scans?…>; rel="next"` of the answer before says',
            ),
        ),
        answers={
            200: Answer(
                about="their reports; `X-Total-Count`: how many scans there are, `Link`: the next ones",
                type=list[shapes.ScanReport],
                example=[_SCAN],
            )
        },
        refusals={400: "the limit or the cursor is wrong"},
    ),
    ("POST", "/v1/scans"): Operation(
        summary="Start a scan; the same name and options again mean the same run",
        body=Body(
            about="`name`, and what `ferryman scan start` takes, over `scans.<name>` of config.yaml",
            type=shapes.ScanWanted,
            example={"name": "archive", "bucket": "site", "inventory": {"manifest": "/data/urls.csv"}},
        ),
        answers={202: Answer(about="its report", type=shapes.ScanReport, example=_SCAN)},
        refusals={
            400: "the name, the bucket or an option is wrong, or the name means another run",
            413: "the order is too large",
        },
    ),
    ("GET", "/v1/scans/{name}"): Operation(
        summary="One scan",
        answers={200: Answer(about="its report", type=shapes.ScanReport, example=_SCAN)},
        refusals={404: "there is no scan of that name"},
    ),
    ("GET", "/v1/scans/{name}/keys"): Operation(
        summary="The keys behind the counts of a scan, and what its last verification found",
        parameters=(
            Parameter(
                name="term",
                about="up to `unread` of a scan, the others of its verification; none: all of a scan's",
                type=Literal[*TERMS, *FINDINGS],
                repeated=True,
            ),
            Parameter(name="limit", about="keys of the answer, 100 unless said", type=_LIMIT_OF_KEYS),
        ),
        answers={
            200: Answer(
                about="the keys",
                type=shapes.ScanKeys,
                example={
                    "name": "archive",
                    "keys": [{"term": "absent", "key": "img/gone.png", "reason": "404"}],
                    "more": False,
                },
            )
        },
        refusals={400: "a term or the limit is none of these", 404: "there is no scan of that name"},
    ),
    ("POST", "/v1/scans/{name}/{order}"): Operation(
        summary="Order a scan to `pause`, `resume` or `cancel`",
        parameters=(
            Parameter(
                name="order",
                about="what it is to do",
                where="path",
                type=Literal["pause", "resume", "cancel"],
                required=True,
            ),
        ),
        answers={
            202: Answer(
                about="the order was taken down",
                type=shapes.ScanOrdered,
                example={"name": "archive", "ordered": "pause"},
            )
        },
        refusals={
            400: "the order is none of the three",
            404: "there is no scan of that name",
            409: "the scan is in no phase for that",
        },
    ),
}

_SECONDS = Annotated[float, Field(ge=0)]
_ROWS = Annotated[int, Field(ge=0, lt=10**15)]
_FILTERS: Final = (
    Parameter(name="bucket", about="of these buckets; none: of all", repeated=True),
    Parameter(name="reason", about="of these reasons, see docs/operations.md", repeated=True),
    Parameter(name="key", about="these keys", repeated=True),
    Parameter(name="rule", about="of this rule"),
    Parameter(name="prefix", about="whose key begins with this"),
    Parameter(name="scan", about="of this scan run"),
    Parameter(name="older_than_s", about="that failed last longer ago than so many seconds", type=_SECONDS),
    Parameter(name="newer_than_s", about="that failed last within so many seconds", type=_SECONDS),
    Parameter(name="limit", about="rows of the answer, 1000 unless said, 10000 at most", type=_ROWS),
)
_FAILURE: Final = {
    "bucket": "site", "key": "img/a.png", "reason": "origin_timeout", "message": "no byte within 10 s",
    "rule": "all", "attempts": [], "tries": 3, "first_at": 1795238000.0, "last_at": 1795238532.0,
    "lane": "cold", "scan": "", "batch": -1, "item": None,
}  # fmt: skip

FAILURES: Final[Mapping[tuple[str, str], Operation]] = {
    ("GET", "/v1/failures"): Operation(
        summary="What could not be moved, filtered",
        parameters=_FILTERS,
        answers={
            200: Answer(
                about="the failures",
                type=shapes.FailureList,
                example={"count": 1, "reasons": {"origin_timeout": 1}, "failures": [_FAILURE]},
            )
        },
        refusals={400: "a parameter is wrong", 404: _NO_BUCKET},
    ),
    ("GET", "/v1/failures/{bucket}/{key}"): Operation(
        summary="One failure with its attempts; the key may hold slashes",
        answers={200: Answer(about="the failure", type=Failure, example=_FAILURE)},
        refusals={404: "no such bucket, or the key is not listed"},
    ),
    ("POST", "/v1/failures/retry"): Operation(
        summary="Send failures again",
        body=Body(
            about="a bucket and at least one filter, or `all`",
            type=Chosen,
            example={"bucket": "site", "reasons": ["origin_timeout"]},
        ),
        answers={
            202: Answer(
                about="how many were sent, and which were kept",
                type=shapes.Retried,
                example={"retried": 1, "kept": []},
            )
        },
        refusals={400: "nothing is chosen, or a value is wrong", 404: _NO_BUCKET, 413: "more than 8 MiB"},
    ),
    ("POST", "/v1/failures/waive"): Operation(
        summary="Accept failures for good, with the words that the report will carry",
        body=Body(
            about="as of a retry, and why",
            type=Waive,
            example={"bucket": "site", "keys": ["img/a.png"], "because": "was never public"},
        ),
        answers={200: Answer(about="how many", type=shapes.Waived, example={"waived": 1})},
        refusals={400: "nothing is chosen, or a value is wrong", 404: _NO_BUCKET, 413: "more than 8 MiB"},
    ),
}

_TAKEN: Final = {
    "received": 2, "accepted": 1, "duplicate": 0, "unmatched": 0, "absent": 0, "tombstoned": 0, "refused": 1,
    "ignored": 0, "tombstones": 0, "lines": [{"line": 2, "state": "refused", "reason": "no_key"}],
}  # fmt: skip

OTHERS: Final[Mapping[tuple[str, str], Operation]] = {
    ("POST", "/v1/miss-events"): Operation(
        summary="Misses and deletions, one or many; accepted are those that the queue has",
        parameters=(
            Parameter(name="bucket", about="the bucket of records that name none"),
            Parameter(name="format", about="the log format of raw lines; `auto` unless said"),
            Parameter(
                name="Content-Encoding",
                where="header",
                about="plain unless said",
                type=Literal["identity", "gzip", "x-gzip", "deflate", ""],
            ),
        ),
        body=Body(
            about="one event, a list of them, or a line each; also the records of other programs",
            type=shapes.MissEvent | list[shapes.MissEvent],
            example=[{"bucket": "site", "key": "img/a.png"}],
            others=("application/x-ndjson", "text/plain"),
        ),
        answers={
            202: Answer(about="what became of the records", type=shapes.EventsTaken, example=_TAKEN),
        },
        refusals={
            400: "the body cannot be read, is empty, or every record was refused",
            413: "a record is too large",
            415: "the type or encoding is not known",
            429: "the queue is full: `taken_up_to_line` says from where to send again, Retry-After when",
        },
    ),
    ("GET", "/v1/back"): Operation(
        summary="How far origins are behind what clients wrote",
        answers={
            200: Answer(
                about="each bucket whose rules write back",
                type=shapes.Back,
                example={
                    "could_go_back": True,
                    "buckets": [
                        {
                            "bucket": "site", "could_go_back": True, "rules": {"all": "async"}, "pending": 0,
                            "failed": 0, "lag_s": 0.0, "sentence": "site: could go back now",
                        }
                    ],
                },
            )
        },
    ),
    ("GET", "/v1/openapi.json"): Operation(
        summary="This document",
        answers={200: Answer(about="OpenAPI 3.1", type=dict[str, Any], example={"openapi": "3.1.0"})},
    ),
}  # fmt: skip

OPERATIONS: Final[Mapping[tuple[str, str], Operation]] = {
    **RULES,
    **TRIALS,
    **SCANS,
    **FAILURES,
    **GATE,
    **ORIGINS,
    **OTHERS,
}
#: What every route may answer besides, as status -> when.
EVERYWHERE: Final = {
    401: "no token, or a wrong one",
    403: "the viewer's token changes nothing; or a change from a browser lacks its CSRF token",
    503: _AWAY,
}
