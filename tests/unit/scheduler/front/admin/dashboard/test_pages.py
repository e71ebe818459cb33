"""The rooms: values from outside cannot become markup, empty states say what to do, charts are right."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote, urlencode
from xml.etree import ElementTree as ET

import fakeredis
import orjson
import pytest
from starlette.requests import Request

from scheduler.front.admin.dashboard import chart
from scheduler.front.admin.dashboard.board import Reading
from scheduler.front.admin.dashboard.glance import glance
from scheduler.front.admin.dashboard.pages import ROOMS, missing_page, render, visible
from scheduler.front.admin.dashboard.remedies import REMEDIES
from scheduler.front.admin.dashboard.room import Missing
from scheduler.front.admin.dashboard.rooms.buckets import VIEWS
from scheduler.front.admin.guard import Visitor, visitor_of
from scheduler.rules.in_force.repository import RulesRepository
from scheduler.rules.yaml import document
from scheduler.scan.progress import Progress
from scheduler.scan.record.account import Account
from scheduler.status import ConsumerStatus, QueueStatus, RuleStatus, ScanStatus, Status
from workers.answers import Attempt
from workers.errors import TransferError
from workers.ledger.failures import Failure
from workers.ledger.history import Sample
from workers.origin.control.control import OriginControl
from workers.origin.control.health import State
from workers.origin.control.overview import OriginOverview
from workers.settings import OriginSettings
from workers.store.model import ListedObject, ObjectInfo

LONG = "<i>\u202e" + "k" * 1018
EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>\u202egpj.exe\x1b[31m&amp;"
NOW = 1_795_238_532.0


def full() -> Status:
    return Status(
        at=NOW,
        queues=(QueueStatus(lane="hot", waiting=3_000_000_000, running=1, delayed=0, oldest_age_s=61.0),),
        workers=2,
        rules=(RuleStatus(bucket="site", rule=EVIL, counts={"stored": 7, "bytes": 2_000_000_000}),),
        failures={"site": 4, EVIL: 1},
        failure_reasons={"origin_timeout": 4, EVIL: 1},
        origins=(OriginOverview(host=EVIL, state=State.OUT, out_s=30.0, answers=2, p50_s=0.5, cause=EVIL),),
        consumers=(ConsumerStatus(instance=EVIL, path=EVIL, lag_bytes=5, lag_s=0.2, misses=1, silent_s=1.0),),
        scans=(
            ScanStatus(
                name=EVIL, bucket=EVIL, phase="failed", paused=False, error=EVIL, waiting=EVIL,
                total=Account(found=10, pending=10, bytes=1_500_000_000),
                progress=Progress(
                    settled=0, expected=10, duration_s=5, objects_per_s=0, bytes_per_s=1.2e9, eta_s=None
                ),
            ),
        ),
        problems={EVIL: EVIL},
    )  # fmt: skip


class Failures:
    def __init__(self, rows):
        self.rows = rows

    async def get(self, bucket, key):
        return next((row for row in self.rows if row.key == key), None)

    async def iterate(self, bucket, *, reason="", prefix="", scan="", within_s=None):
        for row in self.rows:
            if reason in {"", row.reason} and row.key.startswith(prefix):
                yield row


class Claims:
    """Tombstones of keys that are markup."""

    async def tombstone(self, bucket, key):
        return EVIL

    async def tombstones(self, bucket, *, limit):
        return [(EVIL, EVIL, 60.0)]


class Store:
    """A bucket whose keys and headers are markup, and as long as keys get."""

    async def head(self, bucket, key):
        return ObjectInfo(
            key=key, size=1, etag=EVIL, last_modified=NOW, headers=((EVIL, EVIL),), user_meta={EVIL: EVIL}
        )

    async def list(self, bucket, prefix="", *, start_after=None):
        keys = [f"{EVIL}/a", f"{EVIL}b", LONG]
        objects = [ListedObject(key, 1, EVIL, NOW) for key in keys]
        yield SimpleNamespace(objects=objects, continuation=None)


async def drawn(
    path, status, *, failures=(), samples=(), query="", csrf="c5rf", reading=None, rulesets=(), store=None
):
    room = next(room for room in ROOMS if room.path == path)
    redis = fakeredis.FakeAsyncRedis(decode_responses=True)
    repository = RulesRepository(redis)
    for version, rules in enumerate(rulesets):
        await repository.replace("site", rules, owner="api", who=EVIL, how=f"{EVIL}{version}")
    if store is not None:
        sample = {"reason": EVIL, "line": EVIL}
        file = {"path": EVIL, "format": EVIL, "broken": 1, "lines": 2, "samples": [sample]}
        await redis.hset("ferryman:consumers", EVIL, orjson.dumps({"at": NOW, "files": [file]}))
    budgets = OriginSettings(budgets={f"{EVIL}.example.com": {"concurrency": 3}} if store else {})
    services = SimpleNamespace(
        settings=SimpleNamespace(
            buckets={"site": None},
            broker=SimpleNamespace(namespace="ferryman"),
            data_dir=Path("/nowhere"),
            origin=budgets,
        ),
        ledger=SimpleNamespace(failures=Failures(failures), claims=Claims()),
        store=store,
        fetcher=SimpleNamespace(control=OriginControl(budgets)),
        redis=redis,
        rules=repository,
    )
    reading = reading or Reading(status=status, glance=glance(status, samples, samples))

    class Board:
        async def read(self):
            return reading

    request = Request(
        {"type": "http", "method": "GET", "path": path, "query_string": query.encode(), "headers": [],
         "ferryman.visitor": Visitor(name="admin", csrf=csrf)}
    )  # fmt: skip
    try:
        return await render(room, services, Board(), request)
    except Missing as missing:
        return missing_page(str(missing), visitor_of(request), room)


def evil_rules(prefix):
    """A set whose every text from outside is markup."""
    text = "rules:\n  - {prefix: img/, origins: [https://old.example.com]}\n"
    (rule,) = document.parse(text)[0].rules
    when = replace(rule.when, prefix=prefix, suffix=EVIL)
    group = rule.origin.hosts[0]
    host = replace(group.primary, host=f"{EVIL}.example.com")
    origin = replace(rule.origin, hosts=(replace(group, primary=host),))
    return (replace(rule, name=EVIL, when=when, origin=origin),)


class Outline(HTMLParser):
    """Which elements and attributes a browser would see."""

    def __init__(self):
        super().__init__()
        self.elements = []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))


@pytest.mark.parametrize("path", [room.path for room in ROOMS])
@pytest.mark.parametrize("csrf", ["c5rf", ""])
async def test_no_value_from_outside_becomes_markup_or_an_invisible_sign(path, csrf):
    evil = Failure(bucket=EVIL, key=EVIL, reason=EVIL, message=EVIL, rule=EVIL,
                   attempts=(Attempt(origin=EVIL, error=EVIL),), last_at=NOW)  # fmt: skip
    query = f"name={quote(EVIL)}&term={quote(EVIL)}" if path == "/scans/keys" else ""
    if path in {"/rules", "/gate"}:
        query = urlencode({"to": 2, "key": EVIL, "header": EVIL, "status": EVIL, "quiet": EVIL})
    pages = [query]
    if path == "/rules":
        pages.append(urlencode({"key": EVIL, "header": "a: <b>", "to": 1}))
    if path == "/failures":
        pages.append(urlencode({"key": EVIL, "bucket": "site"}))
    if path == "/buckets":
        pages += [
            urlencode({"bucket": "site", "prefix": EVIL, "after": EVIL, "view": view}) for view in VIEWS
        ]
        pages += [urlencode({"bucket": "site"}), urlencode({"bucket": "site", "key": EVIL})]
    for query in pages:
        rulesets = (evil_rules(EVIL), evil_rules(f"{EVIL}2"))
        page = await drawn(
            path, full(), failures=[evil], csrf=csrf, query=query, rulesets=rulesets, store=Store()
        )
        assert_nothing_became_markup(page)


def assert_nothing_became_markup(page):
    outline = Outline()
    outline.feed(page)
    scripts = [attrs for tag, attrs in outline.elements if tag == "script"]
    assert scripts == [{"src": f"/static/{name}.js", "defer": None} for name in ("ferryman", "rooms")]
    assert not any(
        name.startswith("on") or name == "style" for _, attrs in outline.elements for name in attrs
    )
    assert {attrs.get("src") for tag, attrs in outline.elements if tag == "img"} == {"/static/icon.svg"}
    # What a form sends back must be the key itself.
    texts = re.sub(r'(value|data-bucket)="[^"]*"|<textarea[^>]*>.*?</textarea>', "", page, flags=re.DOTALL)
    assert "\u202e" not in texts
    assert "\x1b" not in texts


@pytest.mark.parametrize("path", [room.path for room in ROOMS])
async def test_an_empty_state_says_what_to_do_first(path):
    page = await drawn(path, Status(at=NOW))
    assert 'class="empty"' in page


async def test_failures_are_paged_and_filtered_without_reading_all_of_them():
    read = []

    class Many(list):
        def __iter__(self):
            for n in range(10_000):
                read.append(n)
                reason = "origin_timeout" if n % 2 else "soft_404"
                yield Failure(bucket="site", key=f"k{n}", reason=reason, message="m", rule="r", last_at=NOW)

    page = await drawn("/failures", full(), failures=Many(), query="reason=soft_404")
    assert page.count('name="pick"') == 100
    assert "k1<" not in page
    assert len(read) < 300
    assert "The first 100 are shown" in page


def test_every_reason_has_a_remedy():
    def below(kind):
        for sub in kind.__subclasses__():
            yield sub
            yield from below(sub)

    assert {kind.reason for kind in below(TransferError)} - set(REMEDIES) == set()


def test_what_cannot_be_seen_is_shown_as_its_number():
    assert visible("a\u202eb\x00c\td") == "a\\u202eb\\u0000c\\u0009d"
    assert visible("\u4e2d e\u0301") == "\u4e2d e\u0301"


def test_a_line_is_drawn_to_scale_with_gaps_and_says_what_it_is():
    svg = chart.lines(
        [chart.Line(name="a<b", kind="store", values=[0, 50, None, 100])],
        title="t & u",
        width=160,
        height=120,
    )
    root = ET.fromstring(svg)
    assert root.attrib["aria-label"] == "t & u"
    path = next(one for one in root if one.tag == "path")
    assert path.find("title").text == "a<b"
    points = [
        tuple(map(float, point.split())) for point in re.findall(r"[ML]([\d.]+ [\d.]+)", path.attrib["d"])
    ]
    assert path.attrib["d"].count("M") == 2, "a gap is not bridged"
    (x0, y0), (_, y1), (x3, y3) = points
    assert (x0, x3) == (52, 152)
    assert y1 == pytest.approx((y0 + y3) / 2)


def test_a_value_between_gaps_is_a_dot_and_labels_stand_where_they_belong():
    svg = chart.lines(
        [chart.Line(name="a", kind="store", values=[None, 3, None, 1, 2])],
        title="t", labels=[(0.0, "2 h ago"), (0.5, "now"), (1.0, "in 2 h")], width=160,
    )  # fmt: skip
    root = ET.fromstring(svg)
    path = next(one for one in root if one.tag == "path").attrib["d"]
    assert path.count("h0.1") == 1
    labels = {one.text: one.attrib["class"] for one in root if "time" in one.attrib.get("class", "")}
    assert labels == {"2 h ago": "time start", "now": "time middle", "in 2 h": "time end"}


async def test_the_first_screen_has_latencies_queues_origins_and_the_decay_with_what_is_to_come():
    hours = [
        Sample(at=int(NOW) // 3600 * 3600 - 3600 * back, hits=500, origin=2**back) for back in range(9, 0, -1)
    ]
    minutes = [
        Sample(
            at=int(NOW) // 60 * 60 - 60 * back, hits=10, origin=back, waiting={"hot": 3},
            first_bytes={"hit": {"9": 95, "40": 5}, "miss": {"30": 2}}, origins={"b.example": (4, 0.1, 0.8)},
        )
        for back in range(120, 0, -1)
    ]  # fmt: skip
    origins = (
        OriginOverview(host="a.example", state=State.WELL, answers=60, in_flight=30, concurrency=40),
        OriginOverview(host="b.example", state=State.HALF_OPEN, answers=20, p50_s=0.1, p99_s=0.8),
    )
    status = Status(at=NOW, workers=1, queues=full().queues, origins=origins)
    reading = Reading(status=status, glance=glance(status, minutes, hours))
    page = await drawn("/", status, reading=reading)
    rows = {row.kind: row for row in reading.glance.first_bytes}
    assert (rows["hit"].answers, rows["miss"].answers) == (1500, 30)
    assert rows["hit"].p50_s < 0.01 < rows["miss"].p50_s < 1 < rows["hit"].p99_s
    assert page.index("b.example") < page.index("a.example"), "who is not well stands first"
    assert "half open · 25" in page
    assert "75% of the budget of a.example in use" in page
    assert "First byte of b.example, p99, last 3 hours: at most 800" in page
    assert "First byte of a hit, p99" in page
    assert "Messages waiting in lane hot" in page
    assert "with the fitted decay of the misses" in page
    assert 'class="line fit"' in page
    assert ">now</text>" in page


def test_a_bar_shows_parts_by_their_share_and_nothing_as_empty():
    parts = [("in", "store", 3), ("gone", "bad", 1)]
    widths = [
        float(rect.attrib["width"])
        for rect in ET.fromstring(chart.bar(parts, title="t", width=400))
        if "part" in rect.attrib["class"]
    ]
    assert widths == [300, 100]
    assert 'class="part' not in chart.bar([("in", "store", 0)], title="t")


def test_a_line_of_a_terminal_has_a_sign_a_value():
    assert chart.blocks([0, 50, None, 100]) == "▁▄ █"
    assert chart.blocks([0, 0]) == "▁▁"


async def test_the_first_screen_draws_the_misses_of_a_day():
    samples = [Sample(at=int(NOW) - 60 * back, hits=10, origin=back) for back in range(120, 0, -1)]
    page = await drawn("/", full(), samples=samples)
    assert page.count('class="line origin"') == 2
    assert "Answers a minute by the store and with an origin, last 24 hours" in page
