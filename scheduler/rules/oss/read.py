"""One `RoutingRule` of an OSS website document, or of its S3 dialect, as the canonical rule.

Owns the OSS elements of SEMANTICS.md 1.2, their places and the OSS defaults. Limits are checked by
`scheduler.rules.validate`, writing is `scheduler.rules.oss.xml`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scheduler.rules.credentials import credential_name
from scheduler.rules.hosts import HostError, OriginUrl, normalise_host, split_origin_url
from scheduler.rules.model import (
    Answer,
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
    SourceFormat,
    StorePart,
    When,
)
from scheduler.rules.problems import Place, ProblemKind
from scheduler.rules.xml.fields import FieldReader, given
from scheduler.rules.xml.schema import MASK

if TYPE_CHECKING:
    from scheduler.rules.model import Protocol, Scheme, StatusTest
    from scheduler.rules.problems import ReadOptions
    from scheduler.rules.written import WrittenRule
    from scheduler.rules.xml.schema import Cursor

_TYPES: dict[str, RuleType | None] = {
    "Mirror": RuleType.MIRROR,
    "External": RuleType.REDIRECT,
    "AliCDN": RuleType.REDIRECT,
    "Internal": None,
}
_SCHEMES: dict[str, Scheme] = {"http": "http", "https": "https"}
#: F49: vendor networking, kept for the round trip.
_NETWORKING = (
    "MirrorDstRegion",
    "MirrorDstVpcId",
    "MirrorDstSlaveVpcId",
    "MirrorTunnelId",
    "MirrorIsExpressTunnel",
)
#: F48.
_PROCESSING = ("MirrorAllowGetImageInfo", "MirrorAllowVideoSnapshot")
#: Elements that only a redirect has a use for, and elements that a redirect shares with a mirror.
_REDIRECT_ONLY = ("Protocol", "HostName")
_SHARED = frozenset(
    {
        "RedirectType",
        "PassQueryString",
        "EnableReplacePrefix",
        "ReplaceKeyWith",
        "ReplaceKeyPrefixWith",
        "HttpRedirectCode",
        *_REDIRECT_ONLY,
    }
)


class OssRuleReader:
    """Reads one rule; every problem is recorded, none raised."""

    def __init__(
        self, cursor: Cursor, where: WrittenRule, source: SourceFormat, options: ReadOptions
    ) -> None:
        self.cursor = cursor
        self.where = where
        self.s3 = source is SourceFormat.S3
        self.options = options
        self.reader = FieldReader(cursor, where)

    def read(self) -> Rule:
        """The rule, as far as it can be read."""
        for part in ("request", "path", "origin", "answer", "store"):
            self.reader.find(part, "Redirect")
        kind = self._type()
        mirror = kind is RuleType.MIRROR
        if "type" not in self.where.failed:
            self._ignored(mirror=mirror)
        priority = self.reader.integer("priority", "RuleNumber")
        if priority is None and not self.s3 and "priority" not in self.where.failed:
            self.reader.missing("priority", "RuleNumber is needed", "RuleNumber")
        when = self._when(mirror=mirror)
        protocol, origin = self._mirror_origin() if mirror else self._redirect_origin()
        answer = self._answer()
        if mirror and self.options.redirect_code_with_mirror:
            answer = Answer(
                transparent=answer.transparent,
                allow_head=answer.allow_head,
                return_headers=answer.return_headers,
            )
        return Rule(
            name=f"rule-{self.where.index + 1}",
            priority=priority,
            type=kind,
            when=when,
            request=self._request(protocol, mirror=mirror),
            path=self._path(when.prefix),
            origin=origin,
            answer=answer,
            store=self._store(),
            written=self.cursor.element(),
        )

    # ---------------------------------------------------------------- parts

    def _type(self) -> RuleType:
        if self.s3:
            return RuleType.REDIRECT
        kind = self.reader.choice("type", _TYPES, "Redirect", "RedirectType")
        found = self.reader.filled("type", "Redirect", "RedirectType")
        if found == "Internal":
            self.where.refuse("type", ProblemKind.UNSUPPORTED, "Internal redirects are not known here")
        elif found is None:
            message = "Redirect with RedirectType (Mirror, External, AliCDN) is needed"
            inner = () if self.cursor.get("Redirect") is None else ("RedirectType",)
            self.reader.missing("type", message, "Redirect", *inner)
        if self.reader.filled("script", "LuaConfig", "Script") is not None:
            self.where.refuse("script", ProblemKind.UNSUPPORTED, "scripts are never run")
        return kind or RuleType.REDIRECT

    def _ignored(self, *, mirror: bool) -> None:
        """Elements without an effect: warnings, or refusals where it would be missed (F27, F48, F49)."""
        for tag in _PROCESSING:
            if self.reader.boolean(tag, "Redirect", tag):
                self.where.refuse(tag, ProblemKind.UNSUPPORTED, "processing is not known here")
        if self.reader.boolean("MirrorUsingRole", "Redirect", "MirrorUsingRole"):
            self.where.refuse("MirrorUsingRole", ProblemKind.UNSUPPORTED, "cloud roles are not known here")
        if self.reader.filled("MirrorRole", "Redirect", "MirrorRole") is not None:
            self.where.refuse("MirrorRole", ProblemKind.UNSUPPORTED, "cloud roles are not known here")
        for tag in _NETWORKING:
            if self.reader.filled(tag, "Redirect", tag) not in {None, "false"}:
                self.where.warn(tag, "ignored: vendor networking, kept as it is")
        redirect = self.cursor.get("Redirect")
        for child in redirect.children if redirect is not None else ():
            useless = child.tag in _REDIRECT_ONLY if mirror else child.tag not in _SHARED
            if not useless or child.tag in {*_PROCESSING, *_NETWORKING, "MirrorUsingRole", "MirrorRole"}:
                continue
            if self.s3:
                message = "an element of a mirror rule; RedirectType and RuleNumber are missing"
                self.where.findings.add(child.place, ProblemKind.CONFLICT, message)
            else:
                only = "External and AliCDN" if mirror else "Mirror"
                self.where.findings.warn(child.place, f"ignored: only with {only}")

    def _when(self, *, mirror: bool) -> When:
        if self.reader.find("when", "Condition") is None and not self.s3:
            self.reader.missing("when", "Condition is needed", "Condition")
        status = self.reader.integer("when.status", "Condition", "HttpErrorCodeReturnedEquals")
        tests: tuple[StatusTest, ...] = (404,) if mirror else ("any",)
        return When(
            status=tests if status is None else (status,),
            prefix=self.reader.text("when.prefix", "Condition", "KeyPrefixEquals") or "",
            suffix=self.reader.text("when.suffix", "Condition", "KeySuffixEquals") or "",
            headers=self._header_tests(),
        )

    def _header_tests(self) -> tuple[HeaderTest, ...]:
        tests = []
        self.reader.note_list("when.headers", "Condition", "IncludeHeader")
        items = self.cursor.all("Condition", "IncludeHeader")
        for index, item in enumerate(self.where.first("when.headers", items)):
            field = f"when.headers[{index}]"
            self.where.note(field, item.place)
            reader = FieldReader(item, self.where)
            name = reader.text(f"{field}.name", "Key") or ""
            if not name:
                reader.missing(f"{field}.name", "Key is needed", "Key")
            found = [
                (kind, text)
                for kind, tag in (
                    (HeaderTestKind.EQUALS, "Equals"),
                    (HeaderTestKind.STARTS_WITH, "StartsWith"),
                    (HeaderTestKind.ENDS_WITH, "EndsWith"),
                )
                if (text := reader.text(f"{field}.{kind}", tag)) is not None
            ]
            if len(found) == 1:
                tests.append(HeaderTest(name=name, kind=found[0][0], value=found[0][1]))
            else:
                message = "exactly one of Equals, StartsWith and EndsWith is needed"
                self.where.refuse(field, ProblemKind.CONFLICT, message)
        return tuple(tests)

    def _request(self, protocol: Protocol, *, mirror: bool) -> Request:
        top = ("Redirect",)
        headers = (*top, "MirrorHeaders")
        query = self.reader.boolean("request.follow_query", *top, "PassQueryString")
        if mirror:
            own = self.reader.boolean("request.follow_query", *top, "MirrorPassQueryString")
            query = query if own is None else own
        return Request(
            protocol=protocol,
            follow_query=bool(query),
            pass_all=bool(self.reader.boolean("request.pass_all", *headers, "PassAll")),
            pass_=self.reader.texts("request.pass", *headers, "Pass"),
            forbid=self.reader.texts("request.forbid", *headers, "Remove"),
            new=self.reader.headers("request.new", *headers, "Set"),
            probe_url=self.reader.filled("request.probe_url", *top, "MirrorURLProbe"),
            **_fields(
                follow_redirects=self.reader.boolean(
                    "request.follow_redirects", *top, "MirrorFollowRedirect"
                ),
                sni=self.reader.boolean("request.sni", *top, "MirrorSNI"),
            ),
        )

    def _path(self, prefix: str) -> Path:
        whole = self.reader.filled("path.fixed", "Redirect", "ReplaceKeyWith")
        template = whole if whole is not None and "${" in whole else None
        if template is not None:
            self.where.places["path.template"] = self.where.places["path.fixed"]
        slashes = self.reader.boolean("path.pass_original_slashes", "Redirect", "MirrorPassOriginalSlashes")
        return Path(
            fixed=None if template is not None else whole,
            template=template,
            replace_prefix=self._replace_prefix(prefix),
            pass_original_slashes=bool(slashes),
        )

    def _replace_prefix(self, prefix: str) -> Replacement | None:
        """F31 and D14: what takes the place of `KeyPrefixEquals`."""
        field = "path.replace_prefix"
        enabled = self.reader.boolean(field, "Redirect", "EnableReplacePrefix")
        new = self.reader.text(field, "Redirect", "ReplaceKeyPrefixWith")
        if enabled is False and new:
            message = "EnableReplacePrefix is false: replaced or cut? Leave one of the two out"
            self.where.refuse(field, ProblemKind.CONFLICT, message)
        if enabled is False or (new is None and not enabled):
            return None
        return Replacement(old=prefix, new=new or "")

    def _mirror_origin(self) -> tuple[Protocol, OriginPart]:
        field = "origin.hosts[0]"
        text = self.reader.filled(f"{field}.host", "Redirect", "MirrorURL")
        if text is None:
            self.reader.missing(f"{field}.host", "MirrorURL is needed", "Redirect", "MirrorURL")
        primary = self._url(text, f"{field}.host") if text is not None else None
        protocol: Protocol = primary.scheme if primary is not None else "http"
        credential = self._credential()
        urls = self._standby_urls(field)
        group = HostGroup(
            primary=_host(primary, protocol, credential),
            standbys=tuple(_host(url, protocol, credential) for url in urls),
        )
        return protocol, OriginPart(
            hosts=(group,),
            switch_all=bool(self.reader.boolean("origin.switch_all", "Redirect", "MirrorSwitchAllErrors")),
            async_status=self.reader.integer("origin.async_status", "Redirect", "MirrorAsyncStatus"),
        )

    def _standby_urls(self, field: str) -> list[OriginUrl | None]:
        """The slave, then the alternates by number (F23)."""
        urls = []
        slave = self.reader.filled(f"{field}.standbys[0]", "Redirect", "MirrorURLSlave")
        if slave is not None:
            urls.append(self._url(slave, f"{field}.standbys[0]"))
            if self.reader.filled("request.probe_url", "Redirect", "MirrorURLProbe") is None:
                message = "MirrorURLProbe is needed with MirrorURLSlave"
                self.reader.missing("request.probe_url", message, "Redirect", "MirrorURLProbe")
        numbered: dict[int, Cursor] = {}
        path = ("Redirect", "MirrorMultiAlternates", "MirrorMultiAlternate")
        self.reader.note_list(f"{field}.standbys", *path)
        alternates = self.cursor.all(*path)
        for item in self.where.first(f"{field}.standbys", alternates):
            number = item.get("MirrorMultiAlternateNumber")
            if number is None or not number.text:
                tag = "MirrorMultiAlternateNumber"
                place = Place(path=f"{item.place.path}/{tag}", line=item.place.line)
                self.where.findings.add(place, ProblemKind.MISSING_FIELD, f"{tag} is needed")
            elif numbered.setdefault(int(number.text), item) is not item:
                message = f"number {number.text} is given twice"
                self.where.findings.add(number.place, ProblemKind.CONFLICT, message)
            for tag in ("MirrorMultiAlternateVpcId", "MirrorMultiAlternateDstRegion"):
                kept = item.get(tag)
                if kept is not None and kept.text:
                    self.where.findings.warn(kept.place, "ignored: vendor networking, kept as it is")
        for _, item in sorted(numbered.items()):
            name = f"{field}.standbys[{len(urls)}]"
            self.where.note(name, item.place)
            reader = FieldReader(item, self.where)
            text = reader.filled(name, "MirrorMultiAlternateURL")
            if text is None:
                reader.missing(name, "MirrorMultiAlternateURL is needed", "MirrorMultiAlternateURL")
            else:
                urls.append(self._url(text, name))
        return urls

    def _url(self, text: str, field: str) -> OriginUrl | None:
        try:
            return split_origin_url(text)
        except HostError as error:
            self.where.refuse(field, error.kind, str(error))
            return None

    def _redirect_origin(self) -> tuple[Protocol, OriginPart]:
        field = "origin.hosts[0]"
        words = _SCHEMES
        scheme = self.reader.choice("request.protocol", words, "Redirect", "Protocol", any_case=True)
        name = self.reader.filled(f"{field}.host", "Redirect", "HostName")
        host = "invalid"
        if name is None:
            # Internal has no host, and of a type that could not be read nobody knows what it needs.
            if "type" not in self.where.failed:
                self.reader.missing(f"{field}.host", "HostName is needed", "Redirect", "HostName")
        else:
            try:
                host = normalise_host(name, scheme)
            except HostError as error:
                self.where.refuse(f"{field}.host", error.kind, str(error))
        group = HostGroup(primary=OriginHost(host=host))
        return scheme or "follow", OriginPart(hosts=(group,))

    def _credential(self) -> str | None:
        top = ("Redirect", "MirrorAuth")
        field = "origin.hosts[0].credential"
        if self.reader.find(field, *top) is None:
            return None
        kind = self.reader.filled(f"{field}.type", *top, "AuthType")
        if kind is None:
            self.reader.missing(f"{field}.type", "AuthType is needed", *top, "AuthType")
        elif kind != "S3V4":
            self.where.refuse(f"{field}.type", ProblemKind.UNSUPPORTED, f"{kind!r}: only S3V4")
            return None
        if self.reader.filled(f"{field}.secret", *top, "AccessKeySecret") is not None:
            message = f"not kept ({MASK}): the one of origin.credentials is used"
            self.where.warn(f"{field}.secret", message)
        key_id = self.reader.filled(f"{field}.id", *top, "AccessKeyId") or ""
        return credential_name(key_id, f"{field}.id", self.where, self.options) or None

    def _answer(self) -> Answer:
        codes = self.reader.filled("answer.transparent", "Redirect", "TransparentMirrorResponseCodes")
        transparent: tuple[int, ...] | None = None
        if codes is not None:
            parts = [part.strip() for part in codes.split(",")]
            if all(part.isascii() and part.isdecimal() and len(part) == 3 for part in parts):
                transparent = tuple(int(part) for part in parts)
            else:
                message = f"{codes[:60]!r} is no list such as 400,404"
                self.where.refuse("answer.transparent", ProblemKind.BAD_VALUE, message)
        code = self.reader.integer("answer.redirect_code", "Redirect", "HttpRedirectCode")
        default = 301 if self.s3 else 302
        returned = ("Redirect", "MirrorReturnHeaders", "ReturnHeader")
        return Answer(
            transparent="none" if transparent is None else transparent,
            redirect_code=default if code is None else code,
            allow_head=bool(self.reader.boolean("answer.allow_head", "Redirect", "MirrorAllowHeadObject")),
            return_headers=self.reader.headers("answer.return_headers", *returned),
        )

    def _store(self) -> StorePart:
        reader = self.reader
        return StorePart(
            save=not reader.boolean("store.save", "Redirect", "MirrorProxyPass"),
            check_md5="stream" if reader.boolean("store.check_md5", "Redirect", "MirrorCheckMd5") else "off",
            user_meta=bool(reader.boolean("store.user_meta", "Redirect", "MirrorSaveOssMeta")),
            last_modified=bool(reader.boolean("store.last_modified", "Redirect", "MirrorUserLastModified")),
            tags=tuple(reader.pairs("store.tags", "Redirect", "MirrorTaggings", "Taggings")),
        )


def _fields(**values: object) -> dict[str, Any]:
    return given(**values)


def _host(url: OriginUrl | None, protocol: Protocol, credential: str | None) -> OriginHost:
    if url is None:
        return OriginHost(host="invalid", credential=credential)
    scheme = None if url.scheme == protocol else url.scheme
    return OriginHost(host=url.host, base_path=url.base_path, scheme=scheme, credential=credential)
