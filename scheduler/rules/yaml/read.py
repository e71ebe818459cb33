"""A rule of the YAML or JSON document, long form or short, as the canonical rule.

Owns the names and types of the long form (SEMANTICS.md section 1) and the short form of config.yaml:
`{prefix: "img/", origins: ["https://old.example.com"]}`. Limits are checked by `scheduler.rules.validate`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, cast

from scheduler.rules.hosts import HostError, normalise_host
from scheduler.rules.model import (
    KEPT_VALIDATORS,
    Answer,
    HeaderTest,
    HeaderTestKind,
    Path,
    Replacement,
    Request,
    Rule,
    RuleType,
    StorePart,
    When,
)
from scheduler.rules.problems import ProblemKind
from scheduler.rules.yaml.origin import OriginReader, without_same_scheme
from scheduler.rules.yaml.tree import Value, report_unknown, wrong_type

if TYPE_CHECKING:
    from scheduler.rules.model import StatusTest
    from scheduler.rules.problems import ReadOptions
    from scheduler.rules.written import WrittenRule

_SUGAR = ("prefix", "suffix", "status")


class RuleReader(OriginReader):
    """Reads one rule; every problem is recorded, none raised."""

    def __init__(self, value: Value, where: WrittenRule, options: ReadOptions) -> None:
        super().__init__(value, where, options)
        self.short = value.get("origins") is not None

    def read(self) -> Rule | None:
        """The rule; None when it has no shape at all."""
        value = self.value
        if value.entries is None:
            wrong_type(value, dict, self.where.findings)
            return None
        name = self.get(value, "name", "name", "text") or f"rule-{self.where.index + 1}"
        priority = self.get(value, "priority", "priority", "int")
        kind = self.get(value, "type", "type", tuple(RuleType))
        if kind is None and not self.where.has("type") and not self.short:
            place = replace(value.place, path=f"{value.path}.type")
            self.where.missing("type", place, "mirror, proxy or redirect is needed")
        when = self._when()
        request = self._request()
        path = self._path()
        origin, protocol = self.origin(given=self.where.has("request.protocol"))
        if protocol is not None:
            request = replace(request, protocol=protocol)
        rule = Rule(
            name=name,
            priority=priority,
            type=RuleType(kind or "mirror"),
            when=when,
            request=request,
            path=path,
            origin=without_same_scheme(origin, request.protocol),
            answer=self._answer(),
            store=self._store(),
        )
        report_unknown(value, self.where.findings, strict=self.options.strict)
        return rule

    # ---------------------------------------------------------------- parts

    def _when(self) -> When:
        section = self.section("when")
        fields = self.plain("when", section)
        for key in _SUGAR:
            sugar = self.value.get(key)
            if sugar is None:
                continue
            if section.get(key) is not None:
                self.where.findings.add(sugar.place, ProblemKind.CONFLICT, f"when.{key} is given as well")
            elif key != "status":
                text = self.get(self.value, key, f"when.{key}", "text")
                if text is not None:
                    fields[key] = text
        status = section.get("status") or self.value.get("status")
        if status is not None:
            fields["status"] = self._status(status)
        fields["headers"] = tuple(
            test
            for index, item in enumerate(self.items(section, "headers", "when.headers"))
            if (test := self._header_test(item, f"when.headers[{index}]")) is not None
        )
        for key in ("hosts_allow", "hosts_deny"):
            if key in fields:
                fields[key] = tuple(_plain_host(host) for host in fields[key])
        self.finish(section)
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
        return tuple(dict.fromkeys(found)) or (404,)

    def _header_test(self, value: Value, field: str) -> HeaderTest | None:
        self.where.note(field, value.place)
        if value.entries is None:
            wrong_type(value, dict, self.where.findings)
            return None
        name = self.header_name(value, field)
        tests = [
            (kind, text)
            for kind in HeaderTestKind
            if (text := self.get(value, kind.value, f"{field}.{kind.value}", "text")) is not None
        ]
        self.finish(value)
        if len(tests) != 1:
            self.where.refuse(
                field, ProblemKind.CONFLICT, "exactly one of equals, starts_with and ends_with is needed"
            )
            return None
        return HeaderTest(name=name, kind=tests[0][0], value=tests[0][1])

    def _request(self) -> Request:
        section = self.section("request")
        fields = self.plain("request", section)
        fields["new"] = self.headers(section, "new", "request.new")
        self.finish(section)
        return Request(**fields)

    def _path(self) -> Path:
        section = self.section("path")
        fields = self.plain("path", section)
        for key in ("replace_prefix", "replace_suffix"):
            found = section.get(key)
            if found is None:
                continue
            self.where.note(f"path.{key}", found.place)
            if found.entries is None:
                wrong_type(found, dict, self.where.findings)
                continue
            old = self.get(found, "from", f"path.{key}.from", "text")
            if old is None and not self.where.has(f"path.{key}.from"):
                place = replace(found.place, path=f"{found.path}.from")
                self.where.missing(f"path.{key}.from", place, "what is replaced is needed")
            new = self.get(found, "to", f"path.{key}.to", "text")
            fields[key] = Replacement(old=old or "", new=new or "")
            self.finish(found)
        self.finish(section)
        return Path(**fields)

    def _answer(self) -> Answer:
        section = self.section("answer")
        fields = self.plain("answer", section)
        transparent = section.get("transparent")
        if transparent is not None:
            self.where.note("answer.transparent", transparent.place)
            if transparent.scalar in {"none", "all"}:
                fields["transparent"] = transparent.scalar
            elif transparent.items is None:
                message = f"none, all or a list of statuses is needed, found {transparent.describe()}"
                self.where.refuse("answer.transparent", ProblemKind.BAD_VALUE, message)
            else:
                fields["transparent"] = self.codes(section, "transparent", "answer.transparent")
        fields["return_headers"] = self.headers(section, "return_headers", "answer.return_headers")
        self.finish(section)
        return Answer(**fields)

    def _store(self) -> StorePart:
        section = self.section("store")
        fields = self.plain("store", section)
        tags = section.get("tags")
        if tags is not None:
            self.where.note("store.tags", tags.place)
            if tags.entries is None:
                wrong_type(tags, dict, self.where.findings)
            else:
                fields["tags"] = tuple(
                    (key, self.get(tags, key, f"store.tags[{i}]", "text") or "")
                    for i, key in enumerate(list(tags.entries))
                )
        self.finish(section)
        return StorePart(**{**KEPT_VALIDATORS, **fields})


def _plain_host(name: str) -> str:
    """The normal spelling of a host name, or the name itself for the checks to refuse."""
    try:
        return normalise_host(name)
    except HostError:
        return name
