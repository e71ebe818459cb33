"""`/v1/rules` on the admin side: list, read, replace, delete, history and rollback of rule sets, in JSON.

Owns the routes and how refusals look. What a document means is the codecs', what is in force is the
repository's.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import orjson
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from scheduler.front.admin.bounded import body_of
from scheduler.front.admin.guard import note_change
from scheduler.front.admin.question import Question, WrongQuestion, flag
from scheduler.front.admin.refused import Refused, answering
from scheduler.front.rules_api.vendor_xml import off_the_loop
from scheduler.rules.cos import xml as cos_xml
from scheduler.rules.in_force.apply import read_options, require_api_owned
from scheduler.rules.in_force.repository import OwnedByFile, UnknownVersion, VersionConflict
from scheduler.rules.oss import xml as oss_xml
from scheduler.rules.problems import DocumentError, NotExpressible
from scheduler.rules.trying.difference import difference
from scheduler.rules.trying.explain import explain
from scheduler.rules.xml_tree import MAX_DOCUMENT_BYTES, BadXml
from scheduler.rules.xml_tree import parse as parse_xml
from scheduler.rules.yaml import document
from workers.errors import BrokerUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from scheduler.config.settings import Settings
    from scheduler.rules.in_force.repository import RulesRepository
    from scheduler.rules.in_force.stored import Change
    from scheduler.rules.model import RuleSet
    from scheduler.rules.problems import Problem, ReadOptions

#: `?as=`: how a rule set is written, and the type of the answer.
_WRITERS: Final[dict[str, tuple[Callable[[RuleSet], str], str]]] = {
    "yaml": (document.render, "application/yaml"),
    "cos": (cos_xml.render, "application/xml"),
    "oss": (oss_xml.render, "application/xml"),
}
_MAX_ACTOR_CHARS: Final = 64
_NOT_STORED: Final = {"cache-control": "no-store"}


class RuleServices(Protocol):
    """What of `scheduler.runtime.Services` is needed here."""

    @property
    def settings(self) -> Settings: ...

    @property
    def rules(self) -> RulesRepository: ...


def routes(services: RuleServices) -> list[Route]:
    """The routes; the token is asked for by the application."""
    api = _RulesApi(services=services)
    return [
        Route("/v1/rules", _answering(api.list_all), methods=["GET"]),
        Route("/v1/rules/{bucket}", _answering(api.get), methods=["GET"]),
        Route("/v1/rules/{bucket}", _answering(api.put), methods=["PUT"]),
        Route("/v1/rules/{bucket}", _answering(api.delete), methods=["DELETE"]),
        Route("/v1/rules/{bucket}/history", _answering(api.history), methods=["GET"]),
        Route("/v1/rules/{bucket}/rollback", _answering(api.rollback), methods=["POST"]),
        Route("/v1/rules/{bucket}/difference", _answering(api.difference), methods=["GET"]),
        Route("/v1/rules/{bucket}/explain", _answering(api.explain), methods=["GET"]),
    ]


def _answering(
    handler: Callable[[Request], Awaitable[Response]],
) -> Callable[[Request], Awaitable[Response]]:
    return answering(handler, _as_refused, headers=_NOT_STORED)


def _as_refused(error: Exception) -> Refused | None:
    match error:
        case DocumentError():
            problems = [problem.to_json() for problem in error.problems]
            return Refused(error.http_status, error.code, str(error), problems=problems, more=error.more)
        case WrongQuestion():
            return Refused(400, "bad_parameter", str(error), field=error.field)
        case NotExpressible():
            return Refused(409, "not_expressible", str(error), fields=list(error.fields))
        case OwnedByFile():
            return Refused(409, "owned_by_file", str(error))
        case UnknownVersion():
            return Refused(404, "unknown_version", str(error))
        case VersionConflict():
            return Refused(412, "version_conflict", str(error), version=error.version)
        case _:
            return None


@dataclass(frozen=True, slots=True, kw_only=True)
class _RulesApi:
    services: RuleServices

    async def list_all(self, _: Request) -> Response:
        """Every configured bucket, with or without rules."""
        found = []
        for bucket, section in self.services.settings.buckets.items():
            ruleset = self.services.rules.snapshot(bucket)
            owner = "file" if section.rules is not None else "api"
            found.append(_summary(ruleset) if ruleset else {"bucket": bucket, "owner": owner, "count": 0})
        return JSONResponse({"buckets": found, "synced": self.services.rules.synced})

    async def get(self, request: Request) -> Response:
        """One set: as JSON, or with `?as=yaml|cos|oss` as a document; `?version=` for an earlier one."""
        bucket = self._bucket(request)
        ruleset = await self._asked_for(bucket, request.query_params.get("version"))
        form = request.query_params.get("as", "json")
        if form == "json":
            return JSONResponse(
                {**_summary(ruleset), **document.to_data(ruleset)}, headers=_tag(ruleset.version)
            )
        if form not in _WRITERS:
            raise Refused(400, "invalid", f"as={form}: json, {', '.join(_WRITERS)} are known")
        write, media_type = _WRITERS[form]
        return Response(write(ruleset), media_type=media_type, headers=_tag(ruleset.version))

    async def put(self, request: Request) -> Response:
        """Replace a set by a JSON, YAML, COS or OSS document; `?dry_run=true` only says what would change.

        `If-Match: "<version>"` refuses the change when another one came between; a dry run tells the version.
        """
        bucket = self._bucket(request)
        expected = _if_match(request)
        dry_run = flag(request.query_params, "dry_run")
        options = read_options(self.services.settings, bucket, owner="api")
        ruleset, warnings = await off_the_loop(
            _read, await body_of(request, most_bytes=MAX_DOCUMENT_BYTES), options
        )
        told: dict[str, Any] = {"warnings": [warning.to_json() for warning in warnings]}
        if dry_run:
            version, before = await self._in_force(bucket)
            changes = difference_data(before, ruleset)
            told |= {"valid": True, "version": version, "difference": changes}
            return JSONResponse({"bucket": bucket, **document.to_data(ruleset), **told})
        require_api_owned(self.services.settings, bucket)
        replaced = await self.services.rules.replace(
            bucket,
            ruleset.rules,
            owner="api",
            who=_who(request),
            how="PUT /v1/rules",
            source=ruleset.source,
            website=ruleset.website,
            expected_version=expected,
        )
        note_change(request, bucket=bucket, version=replaced.version, changed=replaced.changed)
        body = {"bucket": bucket, "version": replaced.version, "changed": replaced.changed, **told}
        return JSONResponse(body, headers=_tag(replaced.version))

    async def delete(self, request: Request) -> Response:
        """Withdraw all rules of a bucket; `deleted` is false when it had none."""
        bucket = self._bucket(request)
        require_api_owned(self.services.settings, bucket)
        deleted = await self.services.rules.delete(
            bucket,
            owner="api",
            who=_who(request),
            how="DELETE /v1/rules",
            expected_version=_if_match(request),
        )
        note_change(request, bucket=bucket, deleted=deleted)
        return JSONResponse({"bucket": bucket, "deleted": deleted})

    async def history(self, request: Request) -> Response:
        """The last 20 versions, newest first: who, how, when (Unix seconds)."""
        bucket = self._bucket(request)
        changes = await self.services.rules.history(bucket)
        return JSONResponse({"bucket": bucket, "versions": [change_data(change) for change in changes]})

    async def rollback(self, request: Request) -> Response:
        """`{"version": N}`: put that version in force again, as a new one."""
        bucket = self._bucket(request)
        require_api_owned(self.services.settings, bucket)
        version = await _version(request)
        replaced = await self.services.rules.rollback(bucket, version, who=_who(request))
        note_change(request, bucket=bucket, version=replaced.version, back_to=version)
        return JSONResponse(
            {"bucket": bucket, "version": replaced.version, "changed": replaced.changed, "from": version}
        )

    async def difference(self, request: Request) -> Response:
        """`?from=N&to=M`: what version M says otherwise than N; what is left out is the set in force."""
        bucket = self._bucket(request)
        old = await self._version_of(bucket, request.query_params.get("from", ""))
        new = await self._version_of(bucket, request.query_params.get("to", ""))
        told = {"bucket": bucket, "from": old[0], "to": new[0], **difference_data(old[1], new[1])}
        return JSONResponse(told, headers=_NOT_STORED)

    async def explain(self, request: Request) -> Response:
        """`?key=&method=&status=&header=Name: value`: which rule answers, and why not the others."""
        bucket = self._bucket(request)
        ruleset = await self._asked_for(bucket, None)
        asked = Question.of(request.query_params)
        found = explain(ruleset, bucket, asked.facts(), kind=asked.kind)
        return JSONResponse(asdict(found), headers=_NOT_STORED)

    async def _in_force(self, bucket: str) -> tuple[int, RuleSet | None]:
        """Version and set that a change would replace, 0 when there never was one.

        Without Redis it is what this process has in memory.
        """
        try:
            changes = await self.services.rules.history(bucket)
        except BrokerUnavailable:
            ruleset = self.services.rules.snapshot(bucket)
            return (0, None) if ruleset is None else (ruleset.version, ruleset)
        return (changes[0].version, changes[0].ruleset) if changes else (0, None)

    async def _version_of(self, bucket: str, version: str) -> tuple[int, RuleSet | None]:
        if not version:
            return await self._in_force(bucket)
        for change in await self.services.rules.history(bucket):
            if str(change.version) == version:
                return change.version, change.ruleset
        raise UnknownVersion(f"bucket {bucket}: no version {version} in the history")

    def _bucket(self, request: Request) -> str:
        bucket: str = request.path_params["bucket"]
        if bucket not in self.services.settings.buckets:
            raise Refused(404, "no_such_bucket", f"bucket {bucket!r} is not in the configuration")
        return bucket

    async def _asked_for(self, bucket: str, version: str | None) -> RuleSet:
        if version is None:
            ruleset = await self.services.rules.read(bucket)
        else:
            changes = await self.services.rules.history(bucket)
            past = next((change for change in changes if str(change.version) == version), None)
            if past is None:
                raise UnknownVersion(f"bucket {bucket}: no version {version} in the history")
            ruleset = past.ruleset
        if ruleset is None:
            raise Refused(404, "no_rules", f"bucket {bucket} has no rules")
        return ruleset


def _read(body: bytes, options: ReadOptions) -> tuple[RuleSet, tuple[Problem, ...]]:
    # Byte order marks and the other half of UTF-16 before the first character: the codec says what it is.
    if not body.lstrip(b"\xef\xbb\xbf\xff\xfe\0 \t\r\n").startswith(b"<"):
        return document.parse(body, options)
    try:
        root = parse_xml(body).tag
    except BadXml:
        root = ""  # the codec tells what is wrong with it, and where
    if root == "WebsiteConfiguration":
        return oss_xml.parse(body, options)
    return cos_xml.parse(body, options)


def change_data(change: Change) -> dict[str, Any]:
    """One version of the history as plain values; `count` is None when it deleted them."""
    return {
        "version": change.version,
        "at": change.at,
        "who": change.who,
        "how": change.how,
        "owner": change.owner,
        "count": None if change.ruleset is None else len(change.ruleset.rules),
        "names": [] if change.ruleset is None else [rule.name for rule in change.ruleset.rules],
    }


def _summary(ruleset: RuleSet) -> dict[str, Any]:
    return {
        "bucket": ruleset.bucket,
        "version": ruleset.version,
        "owner": ruleset.owner,
        "source": ruleset.source.value,
        "count": len(ruleset.rules),
    }


def _tag(version: int) -> dict[str, str]:
    return {"etag": f'"{version}"', **_NOT_STORED}


def _if_match(request: Request) -> int | None:
    given = request.headers.get("if-match")
    if given is None or given.strip() == "*":
        return None
    text = given.strip().removeprefix("W/").strip('"')
    if not (text.isascii() and text.isdecimal() and len(text) < 16):
        raise Refused(400, "invalid", f"If-Match: {given!r} is not the version of a rule set")
    return int(text)


async def _version(request: Request) -> int:
    try:
        wire = orjson.loads(await body_of(request, most_bytes=MAX_DOCUMENT_BYTES))
    except orjson.JSONDecodeError as error:
        raise Refused(400, "invalid", f"not JSON: {error}") from error
    version = wire.get("version") if isinstance(wire, dict) else None
    if not isinstance(version, int) or isinstance(version, bool):
        raise Refused(400, "invalid", '`{"version": N}` is expected, N a version of the history')
    return version


def difference_data(before: RuleSet | None, after: RuleSet | None) -> dict[str, Any]:
    """What changes, as plain values."""
    return asdict(difference(before, after))


def _who(request: Request) -> str:
    """`admin, in a browser`; or `token`, with the name that the operator's command gives of itself."""
    visitor = request.scope.get("ferryman.visitor")
    if visitor is not None and visitor.csrf:
        return f"{visitor.name}, in a browser"
    actor = request.headers.get("x-ferryman-actor", "")[:_MAX_ACTOR_CHARS]
    shown = "".join(char for char in actor if char.isprintable() and char.isascii())
    return f"token ({shown})" if shown else "token"
