"""The origin of a YAML or JSON rule: hosts of the long form, URLs of the short one.

Owns how a host may be written (`host[:port]`, a URL, a mapping) and what its scheme says about the rule's
protocol.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from scheduler.rules.hosts import HostError, normalise_host, split_origin_url
from scheduler.rules.model import HostGroup, OriginHost, OriginPart
from scheduler.rules.problems import Place, ProblemKind
from scheduler.rules.yaml.fields import TIMEOUTS
from scheduler.rules.yaml.tree import wrong_type
from scheduler.rules.yaml.values import ValueReader, plain_data
from workers.plan import Timeouts
from workers.settings import BudgetSettings

if TYPE_CHECKING:
    from scheduler.rules.model import Scheme
    from scheduler.rules.yaml.tree import Value


class OriginReader(ValueReader):
    """Reads the origin part of one rule."""

    def origin(self, *, given: bool) -> tuple[OriginPart, Scheme | None]:
        """The origin part, and the protocol that its URLs give when the rule names none."""
        section = self.section("origin")
        fields = self.plain("origin", section)
        hosts = section.get("hosts")
        short = self.value.get("origins")
        common = tuple(
            self._host(item, f"origin.standbys[{i}]")
            for i, item in enumerate(self.items(self.value, "standbys", "origin.standbys"))
        )
        entries: list[Value] = []
        if short is not None and hosts is not None:
            self.where.findings.add(short.place, ProblemKind.CONFLICT, "origin.hosts is given as well")
            self.where.failed.add("origin.hosts")
        elif short is not None:
            self.where.note("origin.hosts", short.place)
            entries = list(self.where.first("origin.hosts", [short] if short.items is None else short.items))
            for index, entry in enumerate(entries):
                if isinstance(entry.scalar, str) and "://" not in entry.scalar:
                    message = (
                        f"{entry.scalar!r} has no scheme: a URL with http:// or https:// is needed here; "
                        "a host without one goes to origin.hosts"
                    )
                    field = f"origin.hosts[{index}].host"
                    self.where.note(field, entry.place)
                    self.where.refuse(field, ProblemKind.BAD_VALUE, message)
        else:
            entries = self.items(section, "hosts", "origin.hosts")
        groups = [self._group(entry, f"origin.hosts[{i}]", common) for i, entry in enumerate(entries)]
        if not groups and "origin.hosts" not in self.where.failed:
            message = "at least one host is needed (origin.hosts, or origins in the short form)"
            path = f"{section.path}.hosts" if short is None else short.path
            self.where.missing("origin.hosts", replace(self.where.at("origin.hosts"), path=path), message)
        fields["hosts"] = tuple(groups)
        timeouts = section.get("timeouts")
        if timeouts is not None:
            fields["timeouts"] = self._timeouts(timeouts)
        budget = section.get("budget")
        if budget is not None:
            fields["budget"] = self._budget(budget)
        self.finish(section)
        protocol = groups[0].primary.scheme if groups and not given else None
        return OriginPart(**fields), protocol

    def _group(self, value: Value, field: str, common: tuple[OriginHost, ...]) -> HostGroup:
        self.where.note(field, value.place)
        weight = None
        standbys = common
        if value.entries is not None:
            weight = self.get(value, "weight", f"{field}.weight", "int")
            own = self.items(value, "standbys", f"{field}.standbys")
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
        url = self.get(value, "url", field, "text")
        host = self.get(value, "host", field, "text")
        text = url or host or ""
        if url is not None and host is not None:
            self.where.refuse(field, ProblemKind.CONFLICT, "url and host exclude each other")
        if not text:
            self.where.missing(field, replace(value.place, path=f"{value.path}.host"), "a host is needed")
        found = self._host_from_text(text, field)
        changes: dict[str, Any] = {}
        scheme = self.get(value, "scheme", f"{field}.scheme", ("http", "https"))
        if scheme is not None:
            changes["scheme"] = scheme
        stem = field.removesuffix(".host")
        for key in ("base_path", "path"):
            base = self.get(value, key, f"{stem}.base_path", "text")
            if base is not None:
                changes["base_path"] = base
        credential = self.get(value, "credential", f"{stem}.credential", "text")
        if credential is not None:
            changes["credential"] = credential
        port = self.get(value, "port", f"{field}.port", "int")
        if port is not None:
            try:
                changes["host"] = normalise_host(f"{found.host}:{port}", scheme or found.scheme)
            except HostError as error:
                self.where.refuse(f"{field}.port", error.kind, str(error))
        if field.endswith(".host"):
            value.asked |= {"weight", "standbys"}
        self.finish(value)
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
            if (seconds := self.get(value, key, f"origin.timeouts.{key}", "float")) is not None
        }
        self.finish(value)
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


def without_same_scheme(origin: OriginPart, protocol: str) -> OriginPart:
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
