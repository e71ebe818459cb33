"""One `OriginRule` of a COS document as the canonical rule.

Owns the COS elements of SEMANTICS.md 1.2, their places and the COS defaults. Limits are checked by
`scheduler.rules.validate`, writing is `scheduler.rules.cos.xml`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from scheduler.rules.credentials import credential_name
from scheduler.rules.hosts import HostError, normalise_host
from scheduler.rules.model import (
    Answer,
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
from scheduler.rules.problems import ProblemKind
from scheduler.rules.xml.fields import FieldReader, given
from scheduler.rules.xml.schema import BOOL, INT, MASK, SECRET, TEXT, container, many

if TYPE_CHECKING:
    from scheduler.rules.model import Protocol, Scheme
    from scheduler.rules.problems import ReadOptions
    from scheduler.rules.written import WrittenRule
    from scheduler.rules.xml.schema import Cursor

STANDBYS = range(1, 11)

_HEADERS = container({"Header": container({"Key": TEXT, "Value": TEXT}, many=True)})
_FORBIDDEN = container(_HEADERS.children, rename="ForbidFollowHeaders")
_HOST_FILTER = container({"DomainList": container({"Domain": many(TEXT)}), "Domain": many(TEXT)})
_PRIVATE = container(
    {
        "Host": TEXT,
        "CredentialProvider": container(
            {
                "AuthorizationAlgorithm": TEXT,
                "Region": TEXT,
                "SecretId": TEXT,
                "SecretKey": SECRET,
                "EncryptedSecretKey": SECRET,
                "Role": TEXT,
            }
        ),
    }
)

#: Every element of an `OriginRule`, in the order of writing.
ORIGIN_RULE = container(
    {
        "RulePriority": INT,
        "OriginType": TEXT,
        "OriginCondition": container(
            {
                "HTTPStatusCode": INT,
                "Prefix": TEXT,
                "Suffix": TEXT,
                "FilterHost": _HOST_FILTER,
                "ForbidHost": _HOST_FILTER,
            }
        ),
        "OriginParameter": container(
            {
                "Protocol": TEXT,
                "TransparentErrorCode": BOOL,
                "FollowQueryString": BOOL,
                "HttpHeader": container(
                    {
                        "FollowAllHeaders": BOOL,
                        "NewHttpHeaders": _HEADERS,
                        "FollowHttpHeaders": _HEADERS,
                        "ForbidFollowHeaders": _HEADERS,
                        "ForbidFollowHttpHeaders": _FORBIDDEN,
                    }
                ),
                "FollowRedirection": BOOL,
                "FollowRedirectionConfiguration": container(
                    {
                        "FollowOriginHeaders": BOOL,
                        "FollowUrlAutoDecode": BOOL,
                    }
                ),
                "HttpRedirectCode": INT,
                "CopyOriginData": BOOL,
            }
        ),
        "HTTPStandbyCode": container({"StatusCode": many(INT)}),
        "OriginInfo": container(
            {
                "HostInfo": container(
                    {
                        "HostName": TEXT,
                        "Weight": INT,
                        **{f"StandbyHostName_{n}": TEXT for n in STANDBYS},
                        "PrivateHost": _PRIVATE,
                        **{f"PrivateStandbyHost_{n}": _PRIVATE for n in STANDBYS},
                    },
                    many=True,
                ),
                "FileInfo": container(
                    {
                        "FixedFileConfiguration": container({"FixedFilePath": TEXT}),
                        "PrefixConfiguration": container({"Prefix": TEXT, "ReplacedWithPrefix": TEXT}),
                        "SuffixConfiguration": container({"Suffix": TEXT, "ReplacedWithSuffix": TEXT}),
                        "PrefixDirective": BOOL,
                        "Prefix": TEXT,
                        "Suffix": TEXT,
                    }
                ),
            }
        ),
    },
    many=True,
)
ORIGIN_CONFIGURATION = container({"OriginRule": ORIGIN_RULE})

_TYPES = {"Mirror": RuleType.MIRROR, "Proxy": RuleType.PROXY, "Redirect": RuleType.REDIRECT}
_PROTOCOLS: dict[str, Protocol] = {"HTTP": "http", "HTTPS": "https", "FOLLOW": "follow"}


def read_rule(cursor: Cursor, where: WrittenRule, options: ReadOptions) -> Rule:
    """The rule, as far as it can be read; problems are recorded in `where`."""
    reader = FieldReader(cursor, where)
    for part in ("request", "answer", "store"):
        reader.find(part, "OriginParameter")
    reader.find("when", "OriginCondition")
    reader.find("path", "OriginInfo", "FileInfo")
    kind = reader.choice("type", _TYPES, "OriginType")
    if kind is None and "type" not in where.failed:
        reader.missing("type", f"OriginType ({', '.join(_TYPES)}) is needed", "OriginType")
    request = _request(reader)
    answer = _answer(reader)
    if kind is RuleType.MIRROR and options.redirect_code_with_mirror:
        answer = replace(answer, redirect_code=Answer().redirect_code)
    return Rule(
        name=f"rule-{where.index + 1}",
        priority=reader.integer("priority", "RulePriority"),
        type=kind or RuleType.MIRROR,
        when=_when(reader),
        request=request,
        path=_path(reader),
        origin=_origin(reader, request.protocol, options),
        answer=answer,
        store=StorePart(**_fields(save=reader.boolean("store.save", "OriginParameter", "CopyOriginData"))),
        written=cursor.element(),
    )


def _fields(**values: object) -> dict[str, Any]:
    return given(**values)


def _when(reader: FieldReader) -> When:
    status = reader.integer("when.status", "OriginCondition", "HTTPStatusCode")
    return When(
        status=(404 if status is None else status,),
        prefix=reader.text("when.prefix", "OriginCondition", "Prefix") or "",
        suffix=reader.text("when.suffix", "OriginCondition", "Suffix") or "",
        hosts_allow=_filter(reader, "when.hosts_allow", "FilterHost"),
        hosts_deny=_filter(reader, "when.hosts_deny", "ForbidHost"),
    )


def _filter(reader: FieldReader, field: str, tag: str) -> tuple[str, ...]:
    """Host names of either nesting (F8: the inner shape is not documented)."""
    found = reader.find(field, "OriginCondition", tag)
    if found is None:
        return ()
    inner = ("DomainList",) if found.get("DomainList") is not None else ()
    reader.note_list(field, "OriginCondition", tag, *inner, "Domain")
    items = reader.where.first(field, [*found.all("DomainList", "Domain"), *found.all("Domain")])
    names = []
    for index, item in enumerate(items):
        reader.where.note(f"{field}[{index}]", item.place)
        try:
            names.append(normalise_host(item.text))
        except HostError as error:
            reader.where.refuse(f"{field}[{index}]", error.kind, str(error))
    return tuple(names)


def _request(reader: FieldReader) -> Request:
    top = ("OriginParameter",)
    header = (*top, "HttpHeader")
    redirect = (*top, "FollowRedirectionConfiguration")
    query = reader.boolean("request.follow_query", *top, "FollowQueryString")
    return Request(
        **_fields(
            protocol=reader.choice("request.protocol", _PROTOCOLS, *top, "Protocol", any_case=True),
            pass_all=reader.boolean("request.pass_all", *header, "FollowAllHeaders"),
            follow_redirects=reader.boolean("request.follow_redirects", *top, "FollowRedirection"),
            redirect_headers=reader.boolean("request.redirect_headers", *redirect, "FollowOriginHeaders"),
            redirect_decode=reader.boolean("request.redirect_decode", *redirect, "FollowUrlAutoDecode"),
        ),
        # D3: COS follows the query unless told otherwise.
        follow_query=True if query is None else query,
        new=reader.headers("request.new", *header, "NewHttpHeaders", "Header"),
        pass_=_names(reader, "request.pass", *header, "FollowHttpHeaders", "Header"),
        forbid=_names(reader, "request.forbid", *header, "ForbidFollowHeaders", "Header"),
    )


def _names(reader: FieldReader, field: str, *path: str) -> tuple[str, ...]:
    pairs = reader.pairs(field, *path)
    for index, (_, value) in enumerate(pairs):
        if value:
            reader.where.warn(f"{field}[{index}]", "Value has no effect here")
    return tuple(name for name, _ in pairs)


def _answer(reader: FieldReader) -> Answer:
    top = ("OriginParameter",)
    transparent = reader.boolean("answer.transparent", *top, "TransparentErrorCode")
    return Answer(
        **_fields(redirect_code=reader.integer("answer.redirect_code", *top, "HttpRedirectCode")),
        transparent="all" if transparent else "none",
    )


def _path(reader: FieldReader) -> Path:
    top = ("OriginInfo", "FileInfo")
    fixed = reader.text("path.fixed", *top, "FixedFileConfiguration", "FixedFilePath")
    if fixed == "":
        reader.where.warn("path.fixed", "empty: ignored")
    directive = reader.boolean("path.directive", *top, "PrefixDirective")
    add_prefix, replace_prefix = _affix(reader, "prefix", "Prefix")
    add_suffix, replace_suffix = _affix(reader, "suffix", "Suffix")
    if directive is False and reader.cursor.get(*top, "Prefix") is not None:
        reader.where.warn("path.directive", "false: the prefix beside it is ignored")
        add_prefix = ""
    return Path(
        fixed=fixed or None,
        add_prefix=add_prefix,
        replace_prefix=replace_prefix,
        add_suffix=add_suffix,
        replace_suffix=replace_suffix,
    )


def _affix(reader: FieldReader, name: str, tag: str) -> tuple[str, Replacement | None]:
    """What is added, or replaced, at one end of the key: new form, or legacy (F30 to F33)."""
    top = ("OriginInfo", "FileInfo")
    configuration = f"{tag}Configuration"
    legacy = reader.text(f"path.add_{name}", *top, tag)
    if reader.cursor.get(*top, configuration) is None:
        return legacy or "", None
    if legacy is not None:
        message = f"{tag} and {configuration} exclude each other"
        reader.where.refuse(f"path.add_{name}", ProblemKind.CONFLICT, message)
    new = reader.text(f"path.replace_{name}", *top, configuration, f"ReplacedWith{tag}")
    if new is None:
        return reader.text(f"path.add_{name}", *top, configuration, tag) or "", None
    old = reader.cursor.get(*top, configuration, tag)
    if old is None:
        message = f"{tag}, which is replaced, is needed"
        reader.missing(f"path.replace_{name}", message, *top, configuration, tag)
        return "", None
    return "", Replacement(old=old.text, new=new)


def _origin(reader: FieldReader, protocol: Protocol, options: ReadOptions) -> OriginPart:
    reader.find("origin", "OriginInfo")
    reader.note_list("origin.hosts", "OriginInfo", "HostInfo")
    reader.note_list("origin.switch_codes", "HTTPStandbyCode", "StatusCode")
    items = reader.where.first("origin.hosts", reader.cursor.all("OriginInfo", "HostInfo"))
    if not items:
        message = "OriginInfo with at least one HostInfo is needed"
        inner = () if reader.cursor.get("OriginInfo") is None else ("HostInfo",)
        reader.missing("origin.hosts", message, "OriginInfo", *inner)
    codes = reader.where.first("origin.switch_codes", reader.cursor.all("HTTPStandbyCode", "StatusCode"))
    for index, item in enumerate(codes):
        reader.where.note(f"origin.switch_codes[{index}]", item.place)
    return OriginPart(
        hosts=tuple(_group(item, index, reader.where, protocol, options) for index, item in enumerate(items)),
        switch_codes=tuple(int(item.text) for item in codes if item.text),
    )


def _group(
    cursor: Cursor, index: int, where: WrittenRule, protocol: Protocol, options: ReadOptions
) -> HostGroup:
    field = f"origin.hosts[{index}]"
    where.note(field, cursor.place)
    reader = FieldReader(cursor, where)
    hosts = _Hosts(reader, None if protocol == "follow" else protocol, options)
    weight = reader.integer(f"{field}.weight", "Weight")
    primary = hosts.read(f"{field}.host", "HostName", "PrivateHost")
    if primary is None:
        reader.missing(f"{field}.host", "HostName is needed", "HostName")
        primary = OriginHost(host="invalid")
    standbys: list[OriginHost] = []
    for number in STANDBYS:
        name = f"{field}.standbys[{len(standbys)}]"
        standby = hosts.read(name, f"StandbyHostName_{number}", f"PrivateStandbyHost_{number}")
        if standby is not None:
            standbys.append(standby)
    return HostGroup(primary=primary, weight=1 if weight is None else weight, standbys=tuple(standbys))


class _Hosts:
    """Hosts of one `HostInfo`."""

    def __init__(self, reader: FieldReader, scheme: Scheme | None, options: ReadOptions) -> None:
        self.reader = reader
        self.scheme = scheme
        self.options = options

    def read(self, field: str, plain: str, private: str) -> OriginHost | None:
        """A host by name, or as private host with a credential; both may be given when they agree."""
        where = self.reader.where
        name = self._name(field, plain)
        credential = None
        if self.reader.cursor.get(private) is not None:
            inner = self._name(f"{field}.private", private, "Host")
            if name is not None and inner is not None and name != inner:
                message = f"{private} names {inner}, {plain} names {name}"
                where.refuse(f"{field}.private", ProblemKind.CONFLICT, message)
            name = name or inner
            credential = self._credential(field, private)
        if name is None:
            return None
        return OriginHost(host=name, credential=credential)

    def _name(self, field: str, *path: str) -> str | None:
        text = self.reader.filled(field, *path)
        if text is None:
            return None
        try:
            return normalise_host(text, self.scheme)
        except HostError as error:
            self.reader.where.refuse(field, error.kind, str(error))
            return "invalid"

    def _credential(self, field: str, private: str) -> str | None:
        where = self.reader.where
        top = (private, "CredentialProvider")
        name = f"{field.removesuffix('.host')}.credential"
        if self.reader.find(name, *top) is None:
            return None
        if self.reader.filled(f"{name}.role", *top, "Role") is not None:
            where.refuse(f"{name}.role", ProblemKind.UNSUPPORTED, "cloud roles are not known here")
            return None
        algorithm = self.reader.filled(f"{name}.algorithm", *top, "AuthorizationAlgorithm")
        if algorithm is not None and algorithm.upper() not in {"S3V4", "AWS4-HMAC-SHA256"}:
            where.refuse(f"{name}.algorithm", ProblemKind.UNSUPPORTED, f"{algorithm!r}: only S3V4")
        secret = self.reader.filled(f"{name}.secret", *top, "SecretKey")
        if secret is not None:
            where.warn(f"{name}.secret", f"not kept ({MASK}): the one of origin.credentials is used")
        key_id = self.reader.filled(f"{name}.id", *top, "SecretId") or ""
        return credential_name(key_id, f"{name}.id", where, self.options) or None
