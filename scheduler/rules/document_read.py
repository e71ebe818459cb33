"""A rule of the YAML or JSON document, long form or short, as the canonical rule.

Owns the names and types of the long form (SEMANTICS.md section 1) and the short form of config.yaml:
`{prefix: "img/", origins: ["https://old.example.com"]}`. Limits are checked by `scheduler.rules.validate`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, cast

from pydantic import ValidationError

from scheduler.rules.document_tree import Value, from_data, report_unknown, wrong_type
from scheduler.rules.hosts import HostError, normalise_host, split_origin_url
from scheduler.rules.model import (
    Answer,
    Header,
    HeaderTest,
    HeaderTestKind,
    HostGroup,
    OriginHost,
    OriginPart,
    Path,
    Replacement,
    Request,
    Rule,
    RuleType,
    StorePart,
    When,
)
from scheduler.rules.problems import Place, ProblemKind
from workers.plan import Timeouts
from workers.settings import BudgetSettings

if TYPE_CHECKING:
    from scheduler.rules.model import Scheme, StatusTest
    from scheduler.rules.problems import ReadOptions
    from scheduler.rules.written import WrittenRule

Kind = Literal["bool", "int", "float", "text", "texts", "codes"]

#: Plain fields: section → (key of the document, attribute, kind or allowed words).
PLAIN: dict[str, tuple[tuple[str, str, Kind | tuple[str, ...]], ...]] = {
    "when": (
        ("prefix", "prefix", "text"),
        ("suffix", "suffix", "text"),
        ("hosts_allow", "hosts_allow", "texts"),
        ("hosts_deny", "hosts_deny", "texts"),
    ),
    "request": (
        ("protocol", "protocol", ("http", "https", "follow")),
        ("follow_query", "follow_query", "bool"),
        ("pass_all", "pass_all", "bool"),
        ("pass", "pass_", "texts"),
        ("forbid", "forbid", "texts"),
        ("follow_redirects", "follow_redirects", "bool"),
        ("redirect_headers", "redirect_headers", "bool"),
        ("redirect_decode", "redirect_decode", "bool"),
        ("allow_downgrade", "allow_downgrade", "bool"),
        ("sni", "sni", "bool"),
        ("probe_url", "probe_url", "text"),
        ("follow_fallback", "follow_fallback", ("http", "https")),
    ),
    "path": (
        ("fixed", "fixed", "text"),
        ("add_prefix", "add_prefix", "text"),
        ("add_suffix", "add_suffix", "text"),
        ("template", "template", "text"),
        ("pass_original_slashes", "pass_original_slashes", "bool"),
    ),
    "origin": (
        ("switch_codes", "switch_codes", "codes"),
        ("switch_all", "switch_all", "bool"),
        ("async_status", "async_status", "int"),
        ("across_groups", "across_groups", "bool"),
        ("max_attempts", "max_attempts", "int"),
        ("trust_etag_md5", "trust_etag_md5", "bool"),
    ),
    "answer": (
        ("redirect_code", "redirect_code", "int"),
        ("proxy_reply", "proxy_reply", ("redirect", "not_found", "retry")),
        ("allow_head", "allow_head", "bool"),
        ("absent_ttl_s", "absent_ttl_s", "float"),
    ),
    "store": (
        ("save", "save", "bool"),
        ("check_md5", "check_md5", ("off", "stream", "spool")),
        ("user_meta", "user_meta", "bool"),
        ("last_modified", "last_modified", "bool"),
        ("tag", "tag", ("encoded", "decoded", "plain", "off")),
        ("accept_close_delimited", "accept_close_delimited", "bool"),
        ("max_object_bytes", "max_object_bytes", "int"),
        ("soft_404", "soft_404", ("off", "learn")),
    ),
}
#: F52: key of the document → attribute.
TIMEOUTS = {"connect": "connect_s", "first_byte": "first_byte_s", "idle": "idle_s", "total": "total_s"}
_SUGAR = ("prefix", "suffix", "status")


class RuleReader:
    """Reads one rule; every problem is recorded, none raised."""

    def __init__(self, value: Value, where: WrittenRule, options: ReadOptions) -> None:
        self.value = value
        self.where = where
        self.options = options
        self.short = value.get("origins") is not None

    def read(self) -> Rule | None:
        """The rule; None when it has no shape at all."""
        value = self.value
        if value.entries is None:
            wrong_type(value, dict, self.where.findings)
            return None
        name = self._get(value, "name", "name", "text") or f"rule-{self.where.index + 1}"
        priority = self._get(value, "priority", "priority", "int")
        kind = self._get(value, "type", "type", tuple(RuleType))
        if kind is None and not self.where.has("type") and not self.short:
            message = "mirror, proxy or redirect is needed"
            self.where.refuse("type", ProblemKind.MISSING_FIELD, message)
        when = self._when()
        request = self._request()
        path = self._path()
        origin, protocol = self._origin(given=self.where.has("request.protocol"))
        if protocol is not None:
            request = replace(request, protocol=protocol)
        rule = Rule(
            name=name,
            priority=priority,
            type=RuleType(kind or "mirror"),
            when=when,
            request=request,
            path=path,
            origin=_without_same_scheme(origin, request.protocol),
            answer=self._answer(),
            store=self._store(),
        )
        report_unknown(value, self.where.findings, strict=self.options.strict)
        return rule

    # ---------------------------------------------------------------- parts

    def _when(self) -> When:
        section = self._section("when")
        fields = self._plain("when", section)
        for key in _SUGAR:
            sugar = self.value.get(key)
            if sugar is None:
                continue
            if section.get(key) is not None:
                self.where.findings.add(sugar.place, ProblemKind.CONFLICT, f"when.{key} is given as well")
            elif key != "status":
                text = self._get(self.value, key, f"when.{key}", "text")
                if text is not None:
                    fields[key] = text
        status = section.get("status") or self.value.get("status")
        if status is not None:
            fields["status"] = self._status(status)
        fields["headers"] = tuple(
            test
            for index, item in enumerate(self._list(section, "headers", "when.headers"))
            if (test := self._header_test(item, f"when.headers[{index}]")) is not None
        )
        for key in ("hosts_allow", "hosts_deny"):
            if key in fields:
                fields[key] = tuple(_plain_host(host) for host in fields[key])
        self._finish(section)
        return When(**fields)

    def _status(self, value: Value) -> tuple[StatusTest, ...]:
        self.where.note("when.status", value.place)
        found: list[StatusTest] = []
        for item in value.items if value.items is not None else [value]:
            test = item.scalar
            if (isinstance(test, int) and not isinstance(test, bool)) or test in {"4xx", "5xx", "any"}:
                found.append(cast("StatusTest", test))
            else:
                message = f"a status, 4xx, 5xx or any is needed, found {item.describe()}"
                self.where.refuse("when.status", ProblemKind.BAD_VALUE, message)
        return tuple(found) or (404,)

    def _header_test(self, value: Value, field: str) -> HeaderTest | None:
        self.where.note(field, value.place)
        if value.entries is None:
            wrong_type(value, dict, self.where.findings)
            return None
        name = self._get(value, "name", f"{field}.name", "text") or ""
        tests = [
            (kind, text)
            for kind in HeaderTestKind
            if (text := self._get(value, kind.value, f"{field}.{kind.value}", "text")) is not None
        ]
        self._finish(value)
        if len(tests) != 1:
            self.where.refuse(
                field, ProblemKind.CONFLICT, "exactly one of equals, starts_with and ends_with is needed"
            )
            return None
        return HeaderTest(name=name, kind=tests[0][0], value=tests[0][1])

    def _request(self) -> Request:
        section = self._section("request")
        fields = self._plain("request", section)
        fields["new"] = self._headers(section, "new", "request.new")
        self._finish(section)
        return Request(**fields)

    def _headers(self, section: Value, key: str, field: str) -> tuple[Header, ...]:
        found = section.get(key)
        if found is not None and found.entries is not None:
            self.where.note(field, found.place)
            names = list(found.entries)
            pairs = [(name, self._get(found, name, f"{field}[{i}]", "text")) for i, name in enumerate(names)]
            return tuple(Header(name=name, value=text or "") for name, text in pairs)
        headers = []
        for index, item in enumerate(self._list(section, key, field)):
            place = f"{field}[{index}]"
            self.where.note(place, item.place)
            if item.entries is None:
                wrong_type(item, dict, self.where.findings)
                continue
            name = self._get(item, "name", f"{place}.name", "text") or ""
            headers.append(Header(name=name, value=self._get(item, "value", f"{place}.value", "text") or ""))
            self._finish(item)
        return tuple(headers)

    def _path(self) -> Path:
        section = self._section("path")
        fields = self._plain("path", section)
        for key in ("replace_prefix", "replace_suffix"):
            found = section.get(key)
            if found is None:
                continue
            self.where.note(f"path.{key}", found.place)
            if found.entries is None:
                wrong_type(found, dict, self.where.findings)
                continue
            old = self._get(found, "from", f"path.{key}.from", "text")
            new = self._get(found, "to", f"path.{key}.to", "text")
            fields[key] = Replacement(old=old or "", new=new or "")
            self._finish(found)
        self._finish(section)
        return Path(**fields)

    def _origin(self, *, given: bool) -> tuple[OriginPart, Scheme | None]:
        """The origin part, and the protocol that its URLs give when the rule names none."""
        section = self._section("origin")
        fields = self._plain("origin", section)
        hosts = section.get("hosts")
        short = self.value.get("origins")
        common = tuple(
            self._host(item, f"origin.standbys[{i}]")
            for i, item in enumerate(self._list(self.value, "standbys", "origin.standbys"))
        )
        entries: list[Value] = []
        if short is not None and hosts is not None:
            self.where.findings.add(short.place, ProblemKind.CONFLICT, "origin.hosts is given as well")
            self.where.failed.add("origin.hosts")
        elif short is not None:
            self.where.note("origin.hosts", short.place)
            entries = short.items if short.items is not None else [short]
        else:
            entries = self._list(section, "hosts", "origin.hosts")
        groups = [self._group(entry, f"origin.hosts[{i}]", common) for i, entry in enumerate(entries)]
        if not groups and "origin.hosts" not in self.where.failed:
            message = "at least one host is needed (origin.hosts, or origins in the short form)"
            self.where.refuse("origin.hosts", ProblemKind.MISSING_FIELD, message)
        fields["hosts"] = tuple(groups)
        timeouts = section.get("timeouts")
        if timeouts is not None:
            fields["timeouts"] = self._timeouts(timeouts)
        budget = section.get("budget")
        if budget is not None:
            fields["budget"] = self._budget(budget)
        self._finish(section)
        protocol = groups[0].primary.scheme if groups and not given else None
        return OriginPart(**fields), protocol

    def _group(self, value: Value, field: str, common: tuple[OriginHost, ...]) -> HostGroup:
        self.where.note(field, value.place)
        weight = None
        standbys = common
        if value.entries is not None:
            weight = self._get(value, "weight", f"{field}.weight", "int")
            own = self._list(value, "standbys", f"{field}.standbys")
            standbys = (
                *(self._host(item, f"{field}.standbys[{i}]") for i, item in enumerate(own)),
                *common,
            )
        primary = self._host(value, f"{field}.host")
        return HostGroup(primary=primary, weight=1 if weight is None else weight, standbys=standbys)

    def _host(self, value: Value, field: str) -> OriginHost:
        """A host from text (`host[:port]` or a URL) or from a mapping."""
        self.where.note(field, value.place)
        if value.entries is None:
            if not isinstance(value.scalar, str):
                wrong_type(value, str, self.where.findings)
                return OriginHost(host="invalid")
            return self._host_from_text(value.scalar, field)
        url = self._get(value, "url", field, "text")
        host = self._get(value, "host", field, "text")
        text = url or host or ""
        if url is not None and host is not None:
            self.where.refuse(field, ProblemKind.CONFLICT, "url and host exclude each other")
        found = self._host_from_text(text, field)
        changes: dict[str, Any] = {}
        scheme = self._get(value, "scheme", f"{field}.scheme", ("http", "https"))
        if scheme is not None:
            changes["scheme"] = scheme
        stem = field.removesuffix(".host")
        for key in ("base_path", "path"):
            base = self._get(value, key, f"{stem}.base_path", "text")
            if base is not None:
                changes["base_path"] = base
        credential = self._get(value, "credential", f"{stem}.credential", "text")
        if credential is not None:
            changes["credential"] = credential
        port = self._get(value, "port", f"{field}.port", "int")
        if port is not None:
            try:
                changes["host"] = normalise_host(f"{found.host}:{port}", scheme or found.scheme)
            except HostError as error:
                self.where.refuse(f"{field}.port", error.kind, str(error))
        if field.endswith(".host"):
            value.asked |= {"weight", "standbys"}
        self._finish(value)
        return replace(found, **changes)

    def _host_from_text(self, text: str, field: str) -> OriginHost:
        try:
            if "://" in text:
                url = split_origin_url(text)
                return OriginHost(host=url.host, base_path=url.base_path, scheme=url.scheme)
            return OriginHost(host=normalise_host(text))
        except HostError as error:
            self.where.refuse(field, error.kind, str(error))
            return OriginHost(host="invalid")

    def _timeouts(self, value: Value) -> Timeouts:
        self.where.note("origin.timeouts", value.place)
        if value.entries is None:
            wrong_type(value, dict, self.where.findings)
            return Timeouts()
        fields = {
            attribute: seconds
            for key, attribute in TIMEOUTS.items()
            if (seconds := self._get(value, key, f"origin.timeouts.{key}", "float")) is not None
        }
        self._finish(value)
        return Timeouts(**fields)

    def _budget(self, value: Value) -> BudgetSettings | None:
        place = self.where.note("origin.budget", value.place)
        try:
            return BudgetSettings.model_validate(plain_data(value))
        except ValidationError as error:
            for detail in error.errors(include_url=False):
                dotted = ".".join(str(part) for part in detail["loc"])
                at = Place(path=f"{place.path}.{dotted}", line=place.line)
                kind = ProblemKind.BAD_VALUE
                if detail["type"] == "extra_forbidden":
                    kind = ProblemKind.UNKNOWN_ELEMENT
                self.where.findings.add(at, kind, detail["msg"])
            return None

    def _answer(self) -> Answer:
        section = self._section("answer")
        fields = self._plain("answer", section)
        transparent = section.get("transparent")
        if transparent is not None:
            self.where.note("answer.transparent", transparent.place)
            if transparent.scalar in {"none", "all"}:
                fields["transparent"] = transparent.scalar
            else:
                fields["transparent"] = self._codes(section, "transparent", "answer.transparent")
        fields["return_headers"] = self._headers(section, "return_headers", "answer.return_headers")
        self._finish(section)
        return Answer(**fields)

    def _store(self) -> StorePart:
        section = self._section("store")
        fields = self._plain("store", section)
        tags = section.get("tags")
        if tags is not None:
            self.where.note("store.tags", tags.place)
            if tags.entries is None:
                wrong_type(tags, dict, self.where.findings)
            else:
                fields["tags"] = tuple(
                    (key, self._get(tags, key, f"store.tags[{i}]", "text") or "")
                    for i, key in enumerate(list(tags.entries))
                )
        self._finish(section)
        return StorePart(**fields)

    # ---------------------------------------------------------------- values

    def _section(self, name: str) -> Value:
        found = self.value.get(name)
        if found is None:
            return from_data({}, f"{self.value.path}.{name}")
        self.where.note(name, found.place)
        if found.entries is None:
            wrong_type(found, dict, self.where.findings)
            return from_data({}, found.path)
        return found

    def _finish(self, section: Value) -> None:
        report_unknown(section, self.where.findings, strict=self.options.strict)

    def _plain(self, name: str, section: Value) -> dict[str, Any]:
        fields = {}
        for key, attribute, kind in PLAIN[name]:
            found = self._get(section, key, f"{name}.{key}", kind)
            if found is not None:
                fields[attribute] = found
        return fields

    def _get(self, section: Value, key: str, field: str, kind: Kind | tuple[str, ...]) -> Any:
        """The value of a key, or None when it is absent or (with a problem recorded) wrong."""
        value = section.get(key)
        if value is None:
            return None
        self.where.note(field, value.place)
        scalar = value.scalar
        if isinstance(kind, tuple):
            if isinstance(scalar, bool) and "off" in kind:
                # YAML reads a bare `off` as false; true is the vendor's switch for the digest check (F43).
                scalar = ("stream" if field == "store.check_md5" else scalar) if scalar else "off"
            if scalar in kind:
                return scalar
            message = f"one of {', '.join(kind)} is needed, found {value.describe()}"
            self.where.refuse(field, ProblemKind.BAD_VALUE, message)
            return None
        if kind == "texts":
            items = self._list(section, key, field)
            texts = (self._text(item, f"{field}[{i}]") for i, item in enumerate(items))
            return tuple(text for text in texts if text is not None)
        if kind == "codes":
            return self._codes(section, key, field)
        if kind == "text":
            return self._text(value, field)
        number = isinstance(scalar, int | float) and not isinstance(scalar, bool)
        if kind == "float" and number:
            return float(scalar)
        if kind == "int" and number and isinstance(scalar, int):
            return scalar
        if kind == "bool" and isinstance(scalar, bool):
            return scalar
        wrong_type(value, bool if kind == "bool" else int, self.where.findings)
        return None

    def _text(self, value: Value, field: str) -> str | None:
        self.where.note(field, value.place)
        if not isinstance(value.scalar, str):
            wrong_type(value, str, self.where.findings)
            return None
        try:
            value.scalar.encode()
        except UnicodeEncodeError:
            self.where.refuse(field, ProblemKind.BAD_VALUE, "half of a surrogate pair is no text")
            return None
        return value.scalar

    def _codes(self, section: Value, key: str, field: str) -> tuple[int, ...]:
        codes = []
        for index, item in enumerate(self._list(section, key, field)):
            self.where.note(f"{field}[{index}]", item.place)
            if isinstance(item.scalar, int) and not isinstance(item.scalar, bool):
                codes.append(item.scalar)
            else:
                wrong_type(item, int, self.where.findings)
        return tuple(codes)

    def _list(self, section: Value, key: str, field: str) -> list[Value]:
        value = section.get(key)
        if value is None:
            return []
        self.where.note(field, value.place)
        if value.items is None:
            wrong_type(value, list, self.where.findings)
            self.where.failed.add(field)
            return []
        return value.items


def plain_data(value: Value) -> Any:
    """The tree as dicts, lists and scalars."""
    if value.entries is not None:
        return {key: plain_data(entry) for key, entry in value.entries.items()}
    if value.items is not None:
        return [plain_data(item) for item in value.items]
    return value.scalar


def _plain_host(name: str) -> str:
    """The normal spelling of a host name, or the name itself for the checks to refuse."""
    try:
        return normalise_host(name)
    except HostError:
        return name


def _without_same_scheme(origin: OriginPart, protocol: str) -> OriginPart:
    """Hosts keep a scheme only where it differs from the rule's; default ports go with a known scheme."""

    def plain(host: OriginHost) -> OriginHost:
        scheme = host.scheme or (protocol if protocol != "follow" else None)
        try:
            name = normalise_host(host.host, scheme)
        except HostError:
            name = host.host
        return replace(host, host=name, scheme=None if host.scheme == protocol else host.scheme)

    groups = tuple(
        replace(group, primary=plain(group.primary), standbys=tuple(map(plain, group.standbys)))
        for group in origin.hosts
    )
    return replace(origin, hosts=groups)
