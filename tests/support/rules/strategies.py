"""Rules as hypothesis makes them, within what each format can say."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st

from scheduler.rules.keys import has_dot_segment
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
    RuleSet,
    RuleType,
    StorePart,
    When,
)
from scheduler.rules.yaml.origin import without_same_scheme
from workers.plan import Timeouts
from workers.settings import BudgetSettings

#: What XML and YAML can both carry.
CHARACTERS = st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\ufffe\uffff")
SPECIAL = st.sampled_from(
    [" ", "\n", "\t", "\r", "<&>", "'\"", "/", "//", ".", "%", "+", "é", "中", "]]>", "${x"]
)
TEXT = st.lists(st.one_of(st.text(CHARACTERS, max_size=6), SPECIAL), max_size=4).map("".join)
#: Ends of a path: no dot segment whatever they stand beside.
AFFIX = TEXT.filter(
    lambda text: not has_dot_segment(f"{text}a") and not has_dot_segment(f"a{text}") and "${" not in text
)
FIXED = AFFIX.filter(lambda text: bool(text) and not has_dot_segment(text))
BOOL = st.booleans()
NAMES = st.sampled_from(["X-A", "Accept", "cookie", "x-cos-ContentType", "If-Odd"])
VALUES = st.text(
    st.characters(
        min_codepoint=32, max_codepoint=0x17F, exclude_characters="\x7f", exclude_categories=("Cc",)
    ),
    max_size=8,
)
HEADERS = st.lists(st.builds(Header, name=NAMES, value=VALUES), max_size=3).map(tuple)
NAME_LISTS = st.lists(NAMES, max_size=3).map(tuple)
HOSTS = st.sampled_from(
    ["o.example", "b.example:8080", "192.0.2.7", "[2001:db8::7]:81", "xn--bcher-kva.example"]
)
PATHS = st.sampled_from(["/", "/d/", "/d%20e/f/"])
CODES = st.lists(st.integers(400, 499), max_size=3).map(tuple)
MAYBE_REPLACEMENT = st.none() | st.builds(Replacement, old=AFFIX, new=AFFIX)


def _hosts(*, paths: bool, schemes: bool, credentials: bool) -> st.SearchStrategy[OriginHost]:
    return st.builds(
        OriginHost,
        host=HOSTS,
        base_path=PATHS if paths else st.just("/"),
        scheme=st.sampled_from([None, "http", "https"]) if schemes else st.none(),
        credential=st.sampled_from([None, "AK1"]) if credentials else st.none(),
    )


def _groups(hosts: st.SearchStrategy[OriginHost]) -> st.SearchStrategy[HostGroup]:
    standbys = st.lists(hosts, max_size=3).map(tuple)
    return st.builds(HostGroup, primary=hosts, weight=st.integers(1, 100), standbys=standbys)


@st.composite
def yaml_rules(draw: st.DrawFn, *, number: int = 1) -> Rule:
    """Any rule at all."""
    kind = draw(st.sampled_from(RuleType))
    protocol = draw(st.sampled_from(["follow", "http", "https"]))
    groups = draw(
        st.lists(
            _groups(_hosts(paths=True, schemes=True, credentials=True)),
            min_size=1,
            max_size=3 if kind is RuleType.MIRROR else 1,
        )
    )
    whole = draw(st.sampled_from(["none", "fixed", "template"]))
    path = Path(pass_original_slashes=draw(BOOL))
    if whole == "fixed":
        path = replace(path, fixed=draw(FIXED))
    elif whole == "template":
        path = replace(path, template="a/${key}.b")
    else:
        path = replace(
            path,
            add_prefix=draw(AFFIX),
            replace_prefix=draw(MAYBE_REPLACEMENT),
            add_suffix=draw(AFFIX),
            replace_suffix=draw(MAYBE_REPLACEMENT),
        )
    words = st.sampled_from([404, 403, 500, "4xx", "5xx", "any"])
    statuses = st.lists(words, min_size=1, max_size=3, unique=True).map(tuple)
    tests = st.builds(HeaderTest, name=NAMES, kind=st.sampled_from(HeaderTestKind), value=VALUES)
    origin = OriginPart(
        hosts=tuple(groups),
        switch_codes=draw(CODES),
        switch_all=draw(BOOL),
        async_status=draw(st.none() | st.integers(200, 599)),
        across_groups=draw(BOOL),
        max_attempts=draw(st.integers(1, 9)),
        timeouts=draw(
            st.builds(Timeouts, connect_s=st.sampled_from([5.0, 1.5]), total_s=st.sampled_from([None, 60.0]))
        ),
        budget=draw(st.none() | st.builds(BudgetSettings, concurrency=st.none() | st.integers(1, 9))),
        trust_etag_md5=draw(BOOL),
    )
    return Rule(
        name=f"rule-{number}",
        priority=draw(st.none() | st.integers(1, 2**31 - 1)),
        type=kind,
        when=When(
            status=draw(statuses) if kind is RuleType.REDIRECT else (404,),
            prefix=draw(TEXT),
            suffix=draw(TEXT),
            headers=tuple(draw(st.lists(tests, max_size=2))),
            hosts_allow=draw(st.sampled_from([(), ("a.example",), ("a.example", "b.example")])),
            hosts_deny=draw(st.sampled_from([(), ("c.example",)])),
        ),
        request=Request(
            protocol=protocol,  # type: ignore[arg-type]
            follow_query=draw(BOOL),
            pass_all=draw(BOOL),
            pass_=draw(NAME_LISTS),
            forbid=draw(NAME_LISTS),
            new=draw(HEADERS),
            follow_redirects=draw(BOOL),
            redirect_headers=draw(BOOL),
            redirect_decode=draw(BOOL),
            allow_downgrade=draw(BOOL),
            sni=draw(BOOL),
            probe_url=draw(st.sampled_from([None, "http://o.example/alive"])),
            follow_fallback=draw(st.sampled_from(["http", "https"])),
        ),
        path=path,
        origin=without_same_scheme(origin, protocol),
        answer=Answer(
            transparent=draw(st.sampled_from(["none", "all", (404,), (400, 503)])),
            redirect_code=302 if kind is RuleType.MIRROR else draw(st.sampled_from([301, 302, 307])),
            proxy_reply=draw(st.sampled_from(["redirect", "not_found", "retry"]))
            if kind is RuleType.PROXY
            else "redirect",
            allow_head=draw(BOOL),
            return_headers=draw(HEADERS),
            absent_ttl_s=draw(st.sampled_from([10.0, 0.0, 60.5])),
        ),
        store=StorePart(
            save=True if kind is RuleType.PROXY else draw(BOOL),
            check_md5=draw(st.sampled_from(["off", "stream", "spool"])),
            user_meta=draw(BOOL),
            last_modified=draw(BOOL),
            tags=draw(st.sampled_from([(), (("k", "v"),), (("k", ""), ("l", "a b"))])),
            tag=draw(st.sampled_from(["encoded", "decoded", "plain", "off"])),
            accept_close_delimited=draw(BOOL),
            max_object_bytes=draw(st.none() | st.integers(0, 9)),
            soft_404=draw(st.sampled_from(["off", "learn"])),
            etag=draw(st.sampled_from(["origin", "store"])),
            private=draw(BOOL),
        ),
    )


@st.composite
def cos_rules(draw: st.DrawFn) -> Rule:
    """What a COS document can say."""
    kind = draw(st.sampled_from(RuleType))
    protocol = draw(st.sampled_from(["follow", "http", "https"]))
    hosts = _hosts(paths=False, schemes=False, credentials=True)
    groups = draw(st.lists(_groups(hosts), min_size=1, max_size=3 if kind is RuleType.MIRROR else 1))
    path = Path(
        add_prefix=draw(AFFIX),
        add_suffix=draw(AFFIX),
    )
    shape = draw(st.sampled_from(["add", "replace", "fixed"]))
    if shape == "replace":
        path = Path(replace_prefix=draw(MAYBE_REPLACEMENT), replace_suffix=draw(MAYBE_REPLACEMENT))
    elif shape == "fixed":
        path = Path(fixed=draw(FIXED))
    return Rule(
        name="rule-1",
        priority=draw(st.none() | st.integers(1, 99)),
        type=kind,
        when=When(
            status=(draw(st.integers(400, 599)),) if kind is RuleType.REDIRECT else (404,),
            prefix=draw(TEXT),
            suffix=draw(TEXT),
            hosts_allow=draw(st.sampled_from([(), ("a.example",)])),
            hosts_deny=draw(st.sampled_from([(), ("c.example", "d.example")])),
        ),
        request=Request(
            protocol=protocol,  # type: ignore[arg-type]
            follow_query=draw(BOOL),
            pass_all=draw(BOOL),
            pass_=draw(NAME_LISTS),
            forbid=draw(NAME_LISTS),
            new=draw(HEADERS),
            follow_redirects=draw(BOOL),
            redirect_headers=draw(BOOL),
            redirect_decode=draw(BOOL),
        ),
        path=path,
        origin=OriginPart(hosts=tuple(groups), switch_codes=draw(CODES)),
        answer=Answer(
            transparent=draw(st.sampled_from(["none", "all"])),
            redirect_code=302 if kind is RuleType.MIRROR else draw(st.sampled_from([301, 302, 307])),
        ),
        store=StorePart(save=True if kind is RuleType.PROXY else draw(BOOL)),
    )


@st.composite
def oss_rules(draw: st.DrawFn) -> Rule:
    """What an OSS document can say."""
    mirror = draw(BOOL)
    when = When(
        status=(404,) if mirror else (draw(st.sampled_from([404, 500, "any"])),),
        prefix=draw(AFFIX),
        suffix=draw(TEXT),
        headers=tuple(
            draw(
                st.lists(
                    st.builds(HeaderTest, name=NAMES, kind=st.sampled_from(HeaderTestKind), value=VALUES),
                    max_size=2,
                )
            )
        ),
    )
    shape = draw(st.sampled_from(["none", "fixed", "template", "replace"]))
    path = Path(pass_original_slashes=mirror and draw(BOOL))
    if shape == "fixed":
        path = replace(path, fixed=draw(FIXED))
    elif shape == "template":
        path = replace(path, template="a/${key}.b")
    elif shape == "replace":
        path = replace(path, replace_prefix=Replacement(old=when.prefix, new=draw(AFFIX)))
    common = {"priority": draw(st.integers(1, 99)), "when": when, "path": path, "name": "rule-1"}
    query = draw(BOOL)
    if not mirror:
        host = OriginHost(host=draw(HOSTS))
        return Rule(
            type=RuleType.REDIRECT,
            request=Request(protocol=draw(st.sampled_from(["follow", "http", "https"])), follow_query=query),
            origin=OriginPart(hosts=(HostGroup(primary=host),)),
            answer=Answer(redirect_code=draw(st.sampled_from([301, 302, 307]))),
            store=StorePart(user_meta=False),
            **common,
        )
    protocol = draw(st.sampled_from(["http", "https"]))
    credential = draw(st.sampled_from([None, "AK1"]))
    primary = OriginHost(host=draw(HOSTS), base_path=draw(PATHS), credential=credential)
    standbys = [
        replace(host, credential=credential, scheme=None if host.scheme == protocol else host.scheme)
        for host in draw(st.lists(_hosts(paths=True, schemes=True, credentials=False), max_size=3))
    ]
    return Rule(
        type=RuleType.MIRROR,
        request=Request(
            protocol=protocol,  # type: ignore[arg-type]
            follow_query=query,
            pass_all=draw(BOOL),
            pass_=draw(NAME_LISTS),
            forbid=draw(NAME_LISTS),
            new=draw(HEADERS),
            follow_redirects=draw(BOOL),
            sni=draw(BOOL),
            probe_url=draw(st.sampled_from([None, "http://o.example/alive"])),
        ),
        origin=OriginPart(
            hosts=(HostGroup(primary=primary, standbys=tuple(standbys)),),
            switch_all=draw(BOOL),
            async_status=draw(st.none() | st.integers(200, 599)),
        ),
        answer=Answer(
            transparent=draw(st.sampled_from(["none", (404,), (400, 503)])),
            allow_head=draw(BOOL),
            return_headers=draw(HEADERS),
        ),
        store=StorePart(
            save=draw(BOOL),
            check_md5=draw(st.sampled_from(["off", "stream"])),
            user_meta=draw(BOOL),
            last_modified=draw(BOOL),
            tags=draw(st.sampled_from([(), (("k", "v"),), (("k", ""), ("l", "a b"))])),
        ),
        **common,
    )


def only(rule: Rule) -> RuleSet:
    """A set of one rule."""
    return RuleSet(bucket="b", owner="file", rules=(rule,))
