"""The tables of what the page's rooms do besides: explaining, comparing, the gate, reports. PURE."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import Field

from scheduler.front.admin.described import shapes
from scheduler.front.admin.described.operation import Answer, Body, Operation, Parameter
from scheduler.front.admin.gate import BackOrder, PassOrder
from scheduler.front.admin.question import NO, YES
from scheduler.rules.trying.explain import Explanation
from scheduler.scan.gate.period import PERIOD
from workers.origin.fetch.inspect import OriginReport

if TYPE_CHECKING:
    from collections.abc import Mapping

_KEY = Annotated[str, Field(min_length=1, max_length=1024)]
_VERSION = Annotated[str, Field(pattern="^[0-9]*$")]
FLAG: Any = Literal[*YES, *NO]
_METHOD = Annotated[str, Field(pattern="^[A-Za-z]{1,16}$")]
_STATUS = Annotated[int, Field(ge=100, le=599)]
_QUIET = Annotated[str, Field(pattern=f"^({PERIOD})?$")]
_NO_SCAN = "there is no scan of that name"
_DIFFERENCE: Final = {
    "bucket": "site", "from": 2, "to": 3, "added": ["all"], "removed": [], "changed": [], "reordered": False,
    "lines": [{"sign": "+", "text": "- name: all"}],
}  # fmt: skip
_EXPLAINED: Final = {
    "bucket": "site", "key": "img/a.png", "method": "GET", "status": 404,
    "rules": [{"name": "all", "priority": None, "type": "mirror", "verdict": "matched", "reasons": []}],
    "rule": "all", "action": "mirror", "url": "https://old.example.com/img/a.png",
}  # fmt: skip
_SEEN: Final = {
    "open": False,
    "shut": 1,
    "conditions": [
        {
            "name": "verify_clean",
            "ok": False,
            "evidence": "this scan was not verified",
            "remedy": "ferryman verify archive --sample 1000",
            "warning": False,
        }
    ],
    "rules": ["all"],
    "version": 3,
}
_REPORT: Final = "archive-20261128T070000Z"

TRIALS: Final[Mapping[tuple[str, str], Operation]] = {
    ("GET", "/v1/rules/{bucket}/difference"): Operation(
        summary="What one version of a bucket's rules says otherwise than another",
        parameters=(
            Parameter(name="from", about="a version of the history; none: what is in force", type=_VERSION),
            Parameter(name="to", about="the same", type=_VERSION),
        ),
        answers={200: Answer(about="the difference", type=shapes.RulesDiffer, example=_DIFFERENCE)},
        refusals={404: "no such bucket or version"},
    ),
    ("GET", "/v1/rules/{bucket}/explain"): Operation(
        summary="Which rule answers for a request, why the others do not, and what is done",
        parameters=(
            Parameter(name="key", about="the object's key, decoded", type=_KEY, required=True),
            Parameter(name="method", about="GET unless said", type=_METHOD),
            Parameter(name="status", about="what the store answers, 404 unless said", type=_STATUS),
            Parameter(name="header", about="a header of the client, `Name: value`", repeated=True),
            Parameter(name="host", about="the client's Host"),
            Parameter(name="query", about="the client's query"),
            Parameter(name="queued", about="`true`: as a queued pull, not as a request", type=FLAG),
        ),
        answers={200: Answer(about="the account of it", type=Explanation, example=_EXPLAINED)},
        refusals={400: "a parameter is wrong: `field` names it", 404: "no such bucket, or it has no rules"},
    ),
}

_OVERVIEW: Final = {
    "host": "old.example.com", "state": "well", "out_s": None, "ejections": 0, "cause": None, "pause_s": 0.0,
    "processes": 2, "in_flight": 1, "adaptive_limit": None, "concurrency": 20, "requests_per_s": None,
    "bytes_per_s": None, "closed": False, "answers": 12, "p50_s": 0.02, "p90_s": 0.05, "p99_s": 0.2,
}  # fmt: skip

ORIGINS: Final[Mapping[tuple[str, str], Operation]] = {
    ("GET", "/v1/origins"): Operation(
        summary="How every origin stands over the fleet",
        answers={200: Answer(about="by host", type=shapes.Origins, example={"origins": [_OVERVIEW]})},
    ),
    ("POST", "/v1/origins/probe"): Operation(
        summary="Ask one URL of an origin in several ways; nothing is stored",
        body=Body(
            about="a private host is only asked when a rule of a configuration file names it",
            type=shapes.ProbeWanted,
            example={"url": "https://old.example.com/img/a.png"},
        ),
        answers={
            200: Answer(
                about="what it offers",
                type=OriginReport,
                example={"url": "https://old.example.com/img/a.png", "reachable": False},
            )
        },
        refusals={
            400: "no URL, or no such credential: `field` names it",
            413: "the order is too large",
            429: "no slot in the origin's budget came free",
            502: "the origin cannot be asked",
        },
    ),
}

GATE: Final[Mapping[tuple[str, str], Operation]] = {
    ("GET", "/v1/gate/{scan}"): Operation(
        summary="Each condition of the gate for a scan, with its evidence",
        parameters=(Parameter(name="quiet", about="such as 90s, 30m, 24h (unless said) or 7d", type=_QUIET),),
        answers={
            200: Answer(
                about="the conditions",
                type=shapes.GateLooked,
                example={**_SEEN, "scan": "archive", "bucket": "site", "quiet_s": 86400.0},
            )
        },
        refusals={400: "the quiet period is none", 404: _NO_SCAN},
    ),
    ("POST", "/v1/gate/{scan}/finalize"): Operation(
        summary="Retire the rules when the gate is open, and write the report",
        body=Body(
            about="`confirm` is the scan's name; `override` is the reason for passing a gate that is shut",
            type=PassOrder,
            example={"confirm": "archive", "quiet": "24h"},
        ),
        answers={
            200: Answer(
                about="what was done",
                type=shapes.GatePassed,
                example={
                    **_SEEN,
                    "open": True,
                    "shut": 0,
                    "conditions": [],
                    "retired": ["all"],
                    "report": _REPORT,
                    "reports": [f"s3://site/.ferryman/reports/{_REPORT}.json"],
                },
            )
        },
        refusals={
            400: "it is not confirmed, or a value is wrong: `field` names it",
            404: _NO_SCAN,
            409: "the gate is shut (with its conditions), or there is nothing to finalize",
            413: "the order is too large",
        },
    ),
    ("POST", "/v1/gate/{scan}/rollback"): Operation(
        summary="Bring back the rules that were retired",
        body=Body(about="`confirm` is the scan's name", type=BackOrder, example={"confirm": "archive"}),
        answers={
            200: Answer(
                about="the rules that are in force again",
                type=shapes.RolledBack,
                example={"rolled_back": ["all"]},
            )
        },
        refusals={
            400: "it is not confirmed",
            404: _NO_SCAN,
            409: "no rule of the bucket was retired",
            413: "the order is too large",
        },
    ),
    ("GET", "/v1/reports"): Operation(
        summary="The reports of finalizing, newest first",
        answers={200: Answer(about="their names", type=shapes.Reports, example={"reports": [_REPORT]})},
    ),
    ("GET", "/v1/reports/{file}"): Operation(
        summary="One report, as NAME.json or NAME.html",
        answers={
            200: Answer(
                about="the report",
                type=dict[str, Any],
                example={"bucket": "site", "decision": "rules retired"},
                others=("text/html",),
            )
        },
        refusals={404: "there is no such report"},
    ),
}
