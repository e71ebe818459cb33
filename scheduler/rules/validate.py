"""Limits and refusals that do not depend on the document's format.

Owns the columns "limits and refusals" of SEMANTICS.md 1.2 and section 8 as checks of the canonical rule.
Codecs have already read types and enumerations; they hand over where each field stands.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from scheduler.rules.header_policy import never_passed, refused_in_new
from scheduler.rules.hosts import HostError, check_base_path, normalise_host, split_host, unsafe_reason
from scheduler.rules.keys import has_dot_segment
from scheduler.rules.listable.routes import unlistable
from scheduler.rules.model import Answer, RuleType, SourceFormat
from scheduler.rules.problems import Place, ProblemKind
from scheduler.rules.write_back import check_write_back

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scheduler.rules.model import Header, OriginHost, Rule
    from scheduler.rules.problems import Findings, ReadOptions
    from scheduler.rules.written import WrittenRule

T = TypeVar("T")

MAX_RULES = 100
MAX_HOSTS = 10
MAX_STANDBYS = 10
MAX_NEW_HEADERS = 10
MAX_CONDITIONS = 10
MAX_RETURN_HEADERS = 10
MAX_TAGS = 10
MAX_FILTER_HOSTS = 100
MAX_HEADER_BYTES = 1024
MAX_AFFIX_BYTES = 1024
MAX_WEIGHT, MAX_WEIGHT_WITH_WARNING = 100, 10_000
MAX_PRIORITY = 2**31 - 1
#: L1 on `?website`: the OSS page of 2019, and OSS today.
VENDOR_RULES = (5, 20)

_NAME = re.compile(r"[a-z0-9-]{1,63}\Z")
_LISTED_HEADER = re.compile(r"[A-Za-z0-9-]{1,1024}\Z")
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,1024}\Z")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_TAG = re.compile(r"[\w +\-=.:/@]*\Z")
_RETURN_REFUSED = {"content-length", "transfer-encoding", "connection"}


def first_rules(items: Sequence[T], place: Place, findings: Findings) -> Sequence[T]:
    """As many rules as a set may have (L1); more are refused, and not read: a megabyte holds 80 000."""
    if len(items) > MAX_RULES:
        findings.add(place, ProblemKind.TOO_MANY, f"{len(items)} rules; at most {MAX_RULES}")
    return items[:MAX_RULES]


def check_set(
    rules: Sequence[Rule],
    written: Sequence[WrittenRule],
    place: Place,
    findings: Findings,
    source: SourceFormat,
    options: ReadOptions,
) -> None:
    """What concerns the set as a whole: the vendor's number of rules (L1), unique names (F1), its lists."""
    if source in {SourceFormat.OSS, SourceFormat.S3}:
        for limit in VENDOR_RULES:
            if len(rules) > limit:
                findings.warn(place, f"{len(rules)} rules; OSS takes {limit}")
    seen: dict[str, int] = {}
    for rule, where in zip(rules, written, strict=True):
        first = seen.setdefault(rule.name, where.index)
        if first != where.index:
            where.refuse("name", ProblemKind.BAD_VALUE, f"{rule.name!r} is the name of another rule as well")
    if options.union is not None and not findings.problems:
        named = f"buckets.{options.bucket}.list"
        for at, reason in unlistable(rules, options.union):
            if options.owner == "file":
                message = f"union: {reason} ({written[at].at('origin').path})"
                findings.add(Place(path=named, line=place.line), ProblemKind.CONFLICT, message)
            else:
                written[at].refuse("origin", ProblemKind.CONFLICT, f"{named} is union: {reason}")


def check_rule(rule: Rule, where: WrittenRule, source: SourceFormat, options: ReadOptions) -> None:
    """All limits of one rule; every problem is recorded, none raised."""
    if not _NAME.match(rule.name):
        where.refuse("name", ProblemKind.BAD_VALUE, f"{rule.name!r}: 1 to 63 of a-z, 0-9 and -")
    if rule.priority is not None and not 1 <= rule.priority <= MAX_PRIORITY:
        where.refuse("priority", ProblemKind.BAD_VALUE, f"{rule.priority}: 1 to {MAX_PRIORITY}")
    _check_when(rule, where)
    _check_request(rule, where, source, options)
    _check_path(rule, where)
    _check_origin(rule, where, options)
    check_write_back(rule, where, options)
    _check_answer(rule, where, source, options)
    _check_store(rule, where)


def _check_when(rule: Rule, where: WrittenRule) -> None:
    when = rule.when
    if rule.type is RuleType.REDIRECT:
        for test in when.status:
            if isinstance(test, int) and not 400 <= test <= 599:
                where.refuse("when.status", ProblemKind.BAD_VALUE, f"{test}: a redirect names 400 to 599")
    elif when.status != (404,) and "type" not in where.failed:
        found = ", ".join(str(test) for test in when.status)
        where.refuse("when.status", ProblemKind.CONFLICT, f"{found}: {rule.type} rules are for 404 only")
    if not when.status:
        where.refuse("when.status", ProblemKind.BAD_VALUE, "no status at all: the rule could never match")
    for name, text in (("when.prefix", when.prefix), ("when.suffix", when.suffix)):
        _limit_bytes(where, name, text, MAX_AFFIX_BYTES)
    if len(when.headers) > MAX_CONDITIONS:
        where.too_many("when.headers", when.headers, MAX_CONDITIONS)
    for index, condition in enumerate(when.headers):
        _header_name(where, f"when.headers[{index}].name", condition.name)
        _header_value(where, f"when.headers[{index}].value", condition.value)
    for field, names in (("when.hosts_allow", when.hosts_allow), ("when.hosts_deny", when.hosts_deny)):
        if len(names) > MAX_FILTER_HOSTS:
            where.too_many(field, names, MAX_FILTER_HOSTS)
        for index, name in enumerate(names):
            try:
                same = normalise_host(name) == name and split_host(name)[1] is None
            except HostError as error:
                where.refuse(f"{field}[{index}]", error.kind, str(error))
                continue
            if not same:
                where.refuse(f"{field}[{index}]", ProblemKind.BAD_VALUE, f"{name!r}: a host without port")


def _check_request(rule: Rule, where: WrittenRule, source: SourceFormat, options: ReadOptions) -> None:
    request = rule.request
    limit = 10 if source is SourceFormat.OSS else 50
    for field, names in (("request.pass", request.pass_), ("request.forbid", request.forbid)):
        if len(names) > limit:
            where.too_many(field, names, limit)
        for index, name in enumerate(names):
            if not _LISTED_HEADER.match(name):
                where.refuse(
                    f"{field}[{index}]", ProblemKind.BAD_VALUE, f"{name!r}: 1 to 1024 of A-Z, a-z, 0-9 and -"
                )
    for index, name in enumerate(request.pass_):
        if never_passed(name.lower()):
            where.warn(f"request.pass[{index}]", f"{name} never reaches an origin")
    if len(request.new) > MAX_NEW_HEADERS:
        where.too_many("request.new", request.new, MAX_NEW_HEADERS)
    _check_set_headers(where, "request.new", request.new)
    for index, header in enumerate(request.new):
        if refused_in_new(header.name.lower()):
            where.refuse(
                f"request.new[{index}].name", ProblemKind.CONFLICT, f"{header.name} is set by Ferryman itself"
            )
    if not request.sni:
        where.warn("request.sni", "without the host name in TLS many origins fail")
    if request.probe_url is not None:
        _check_probe(request.probe_url, where, options)


def _check_probe(url: str, where: WrittenRule, options: ReadOptions) -> None:
    field = "request.probe_url"
    try:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.netloc:
            raise HostError(f"{url!r} is not a URL that starts with http:// or https://")
        if "@" in parts.netloc:
            raise HostError("user info in a URL is refused", kind=ProblemKind.UNSAFE_ORIGIN)
        host = normalise_host(parts.netloc, parts.scheme)
    except HostError as error:
        where.refuse(field, error.kind, str(error))
    except ValueError as error:
        where.refuse(field, ProblemKind.BAD_VALUE, f"{url!r}: {error}")
    else:
        _check_safe(host, field, where, options)


def _check_path(rule: Rule, where: WrittenRule) -> None:
    path = rule.path
    others = {
        "path.add_prefix": bool(path.add_prefix),
        "path.replace_prefix": path.replace_prefix is not None,
        "path.add_suffix": bool(path.add_suffix),
        "path.replace_suffix": path.replace_suffix is not None,
    }
    for whole, value in (("path.fixed", path.fixed), ("path.template", path.template)):
        if value is None:
            continue
        _limit_bytes(where, whole, value, MAX_AFFIX_BYTES)
        for other, given in others.items():
            if given:
                where.refuse(other, ProblemKind.CONFLICT, f"excludes {where.at(whole).path}")
    if path.fixed is not None and path.template is not None:
        message = f"excludes {where.at('path.fixed').path}"
        where.refuse("path.template", ProblemKind.CONFLICT, message)
    if path.template is not None and "${" in path.template.replace("${key}", ""):
        where.refuse("path.template", ProblemKind.BAD_VALUE, f"{path.template!r}: only ${{key}} is replaced")
    samples = {
        "path.fixed": path.fixed or "",
        "path.template": (path.template or "").replace("${key}", "a"),
        "path.add_prefix": f"{path.add_prefix}a",
        "path.add_suffix": f"a{path.add_suffix}",
        "path.replace_prefix": f"{path.replace_prefix.new}a" if path.replace_prefix else "",
        "path.replace_suffix": f"a{path.replace_suffix.new}" if path.replace_suffix else "",
    }
    for field, sample in samples.items():
        _limit_bytes(where, field, sample, MAX_AFFIX_BYTES + 1)
        if has_dot_segment(sample) or "\0" in sample:
            where.refuse(field, ProblemKind.BAD_VALUE, "a path may have no dot segment and no NUL")


def _check_origin(rule: Rule, where: WrittenRule, options: ReadOptions) -> None:
    origin = rule.origin
    if not origin.hosts:
        where.refuse("origin.hosts", ProblemKind.MISSING_FIELD, "at least one host is needed")
    typed = "type" not in where.failed
    if typed and rule.type is not RuleType.MIRROR and len(origin.hosts) > 1:
        where.refuse(
            "origin.hosts", ProblemKind.CONFLICT, f"{len(origin.hosts)} hosts; {rule.type} takes exactly one"
        )
    elif len(origin.hosts) > MAX_HOSTS:
        where.too_many("origin.hosts", origin.hosts, MAX_HOSTS)
    for index, group in enumerate(origin.hosts):
        field = f"origin.hosts[{index}]"
        if not 1 <= group.weight <= MAX_WEIGHT_WITH_WARNING:
            where.refuse(f"{field}.weight", ProblemKind.BAD_VALUE, f"{group.weight}: 1 to {MAX_WEIGHT}")
        elif group.weight > MAX_WEIGHT:
            where.warn(f"{field}.weight", f"{group.weight}: the vendors take 1 to {MAX_WEIGHT}")
        if len(group.standbys) > MAX_STANDBYS:
            where.too_many(f"{field}.standbys", group.standbys, MAX_STANDBYS)
        _check_host(group.primary, f"{field}.host", where, options)
        for position, standby in enumerate(group.standbys):
            _check_host(standby, f"{field}.standbys[{position}]", where, options)
    for index, code in enumerate(origin.switch_codes):
        field = f"origin.switch_codes[{index}]"
        if 500 <= code <= 599:
            where.warn(field, f"{code}: 5xx always switches")
        elif not 400 <= code <= 499:
            where.refuse(field, ProblemKind.BAD_VALUE, f"{code}: 400 to 499")
    if origin.async_status is not None and not 200 <= origin.async_status <= 599:
        where.refuse("origin.async_status", ProblemKind.BAD_VALUE, f"{origin.async_status}: 200 to 599")
    if not 1 <= origin.max_attempts <= 100:
        where.refuse("origin.max_attempts", ProblemKind.BAD_VALUE, f"{origin.max_attempts}: 1 to 100")
    timeouts = origin.timeouts
    for name, value in (
        ("connect", timeouts.connect_s),
        ("first_byte", timeouts.first_byte_s),
        ("idle", timeouts.idle_s),
        ("total", timeouts.total_s),
    ):
        if value is not None and not 0 < value <= 7 * 86400:
            where.refuse(f"origin.timeouts.{name}", ProblemKind.BAD_VALUE, f"{value}: seconds, above 0")


def _check_host(host: OriginHost, field: str, where: WrittenRule, options: ReadOptions) -> None:
    try:
        check_base_path(host.base_path)
    except HostError as error:
        where.refuse(f"{field.removesuffix('.host')}.base_path", error.kind, str(error))
    _check_safe(host.host, field, where, options)
    if options.request_host and split_host(host.host)[0] == options.request_host.lower():
        where.warn(field, f"{host.host} is the host of this request: misses may come back to us")
    if host.credential is not None and options.credentials is not None:
        known = options.credentials
        if host.credential not in known:
            listed = ", ".join(sorted(known)) or "none"
            where.refuse(
                f"{field.removesuffix('.host')}.credential",
                ProblemKind.BAD_VALUE,
                f"{host.credential!r} is not in origin.credentials (there: {listed})",
            )


def _check_safe(host: str, field: str, where: WrittenRule, options: ReadOptions) -> None:
    reason = unsafe_reason(
        host,
        from_file=options.owner == "file",
        public_hosts=options.public_hosts,
        allow_networks=options.allow_networks,
    )
    if reason is not None:
        where.refuse(field, ProblemKind.UNSAFE_ORIGIN, reason)


def _check_answer(rule: Rule, where: WrittenRule, source: SourceFormat, options: ReadOptions) -> None:
    answer = rule.answer
    if isinstance(answer.transparent, tuple):
        for code in answer.transparent:
            if not 400 <= code <= 599:
                where.refuse("answer.transparent", ProblemKind.BAD_VALUE, f"{code}: 400 to 599")
    codes = range(301, 309) if source is SourceFormat.S3 else (301, 302, 307)
    if answer.redirect_code not in codes:
        allowed = "301 to 308" if source is SourceFormat.S3 else "301, 302 or 307"
        where.refuse("answer.redirect_code", ProblemKind.BAD_VALUE, f"{answer.redirect_code}: {allowed}")
    # YAML may spell out the defaults, as section 1 does; a vendor's element is refused whatever it says.
    spelled_out = source is SourceFormat.YAML and answer.redirect_code == Answer().redirect_code
    typed = "type" not in where.failed
    if typed and rule.type is RuleType.MIRROR and where.has("answer.redirect_code") and not spelled_out:
        if options.redirect_code_with_mirror:
            where.warn("answer.redirect_code", "ignored: mirror rules send no redirect of their own")
        else:
            where.refuse("answer.redirect_code", ProblemKind.CONFLICT, "only with proxy and redirect")
    if typed and rule.type is not RuleType.PROXY and answer.proxy_reply != Answer().proxy_reply:
        where.refuse("answer.proxy_reply", ProblemKind.CONFLICT, "only with proxy")
    if len(answer.return_headers) > MAX_RETURN_HEADERS:
        where.too_many("answer.return_headers", answer.return_headers, MAX_RETURN_HEADERS)
    _check_set_headers(where, "answer.return_headers", answer.return_headers)
    for index, header in enumerate(answer.return_headers):
        if header.name.lower() in _RETURN_REFUSED:
            where.refuse(
                f"answer.return_headers[{index}].name",
                ProblemKind.BAD_VALUE,
                f"{header.name} is not for a rule to set",
            )
    if not 0 <= answer.absent_ttl_s <= 86400:
        where.refuse(
            "answer.absent_ttl_s", ProblemKind.BAD_VALUE, f"{answer.absent_ttl_s}: 0 to 86400 seconds"
        )


def _check_store(rule: Rule, where: WrittenRule) -> None:
    store = rule.store
    if rule.type is RuleType.PROXY and not store.save:
        where.refuse("store.save", ProblemKind.CONFLICT, "a proxy rule that does not save does nothing")
    if len(store.tags) > MAX_TAGS:
        where.too_many("store.tags", store.tags, MAX_TAGS)
    if len({key for key, _ in store.tags}) != len(store.tags):
        where.refuse("store.tags", ProblemKind.CONFLICT, "a tag key is given twice")
    for index, (key, value) in enumerate(store.tags):
        legal = 1 <= len(key) <= 128 and len(value) <= 256 and _TAG.match(key) and _TAG.match(value)
        if not legal or key.startswith("aws:"):
            where.refuse(
                f"store.tags[{index}]",
                ProblemKind.BAD_VALUE,
                f"{key!r}: {value!r}: S3 takes keys of 1 to 128 and values up to 256 of letters, digits, "
                "blank and + - = . _ : / @",
            )
    if store.max_object_bytes is not None and store.max_object_bytes < 0:
        where.refuse("store.max_object_bytes", ProblemKind.BAD_VALUE, f"{store.max_object_bytes}: 0 or more")


def _check_set_headers(where: WrittenRule, field: str, headers: Sequence[Header]) -> None:
    for index, header in enumerate(headers):
        _header_name(where, f"{field}[{index}].name", header.name)
        _header_value(where, f"{field}[{index}].value", header.value)


def _header_name(where: WrittenRule, field: str, name: str) -> None:
    if not name:
        where.refuse(field, ProblemKind.MISSING_FIELD, "a header name is needed")
    elif not _HEADER.match(name):
        where.refuse(field, ProblemKind.BAD_VALUE, f"{name[:80]!r} is no header name of 1 to 1024 characters")


def _header_value(where: WrittenRule, field: str, value: str) -> None:
    _limit_bytes(where, field, value, MAX_HEADER_BYTES)
    if _CONTROL.search(value):
        where.refuse(field, ProblemKind.BAD_VALUE, "a header value has no CR, LF, NUL or other control")


def _limit_bytes(where: WrittenRule, field: str, text: str, limit: int) -> None:
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > limit:
        where.refuse(field, ProblemKind.BAD_VALUE, f"{size} bytes; at most {limit}")
