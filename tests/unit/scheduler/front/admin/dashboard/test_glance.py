"""The headline: what it says of a migration in each of its states."""

from __future__ import annotations

from scheduler.front.admin.dashboard.glance import glance
from scheduler.scan.progress import Progress
from scheduler.scan.record.account import Account
from scheduler.status import RuleStatus, ScanStatus, Status
from workers.ledger.history import Sample

NOW = 1_795_238_532.0  # a Saturday, 05:22 UTC
HOUR = int(NOW) // 3600 * 3600


def scan(name="s", bucket="site", eta_s=None, phase="move", **total):
    return ScanStatus(
        name=name, bucket=bucket, phase=phase, paused=False, total=Account(**total),
        progress=Progress(settled=1, expected=2, duration_s=1, objects_per_s=1, bytes_per_s=1, eta_s=eta_s),
    )  # fmt: skip


def hours(*origin):
    """Hours up to the last whole one, with so many answers of an origin."""
    first = HOUR - len(origin) * 3600
    return [Sample(at=first + at * 3600, hits=100, origin=n) for at, n in enumerate(origin)]


def headline(status, samples=()):
    return glance(status, [], samples).headline.replace("\u202f", " ")


def test_nothing_moved_yet():
    assert headline(Status(at=NOW, workers=1)) == "Nothing moved yet"


def test_a_share_is_of_what_the_origin_has_and_a_failure_needs_somebody():
    total = scan(found=110, present=20, stored=21, absent=10, failed=1, pending=58)
    status = Status(at=NOW, workers=1, scans=(total,), failures={"site": 1})
    assert headline(status) == "41 % moved, 1 key needs you"


def test_of_two_scans_of_a_bucket_the_one_that_knows_more_counts_and_excluded_keys_are_none_of_it():
    small, large = scan("a", found=10, stored=10), scan("b", found=200, stored=50, excluded=100, pending=50)
    assert headline(Status(at=NOW, workers=1, scans=(small, large))) == "50 % moved"


def test_one_missing_key_of_a_million_is_not_all():
    almost = scan(found=1_000_000, stored=999_999, pending=1)
    assert headline(Status(at=NOW, workers=1, scans=(almost,))).startswith("over 99 % moved")
    assert headline(Status(at=NOW, workers=1, scans=(scan(found=9, stored=9),))) == "100 % moved"


def test_without_a_scan_the_objects_are_told():
    moved = RuleStatus(bucket="site", rule="r", counts={"stored": 1234})
    assert headline(Status(at=NOW, workers=0, rules=(moved,))) == "1 234 objects moved, no worker runs"


def test_falling_misses_say_when_the_origin_could_be_switched_off():
    falling = hours(*(int(3000 * 0.95**n) for n in range(30)))
    found = glance(Status(at=NOW, workers=1, scans=(scan(found=2, stored=2),)), [], falling)
    assert found.ends_at is not None
    assert 4 * 86_400 < found.ends_at - NOW < 6 * 86_400  # 3000 * 0.95 ** n is one after 126 hours more
    assert found.headline.endswith("origin could be switched off on Wednesday")


def test_misses_that_do_not_fall_promise_nothing():
    steady = glance(Status(at=NOW, workers=1), [], hours(*[50] * 30))
    assert steady.ends_at is None
    assert "switched off" not in steady.headline


def test_a_scan_that_runs_longer_than_the_misses_decides():
    falling = hours(400, 100, 20, 5, 2, 1)
    slow = Status(at=NOW, workers=1, scans=(scan(found=9, stored=1, pending=8, eta_s=400_000.0),))
    assert glance(slow, [], falling).ends_at == NOW + 400_000


def test_a_day_without_a_miss_is_said():
    quiet = hours(9, *[0] * 30)
    assert "the origin was not needed for 30." in headline(Status(at=NOW, workers=1), quiet)


def test_redis_away_is_the_headline():
    away = Status(at=NOW, problems={"workers": "refused", "queues": "refused"})
    assert headline(away) == "Redis does not answer: this is what was known before"


def test_rates_are_between_samples_and_unknown_without_two():
    one = [Sample(at=HOUR, stored=10, stored_bytes=1000)]
    two = [*one, Sample(at=HOUR + 60, stored=70, stored_bytes=7000)]
    assert glance(Status(at=NOW), one, []).objects_per_s is None
    assert (glance(Status(at=NOW), two, []).objects_per_s, glance(Status(at=NOW), two, []).bytes_per_s) == (
        1,
        100,
    )
