"""What doctor finds, subject by subject, without servers."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from types import SimpleNamespace

import orjson
import pytest
from click.testing import CliRunner

from scheduler.commands.doctor import command
from scheduler.config.load import load_settings
from scheduler.doctor import configuration, examine, limits, loops, origins, rules, store
from scheduler.doctor import redis as redis_subject
from scheduler.doctor.model import Level, Subject
from scheduler.rules.model import HostGroup, OriginHost, OriginPart, Request, Rule, RuleSet
from scheduler.rules.model import Path as PathRule
from workers.origin.fetch.inspect import OriginReport
from workers.settings import LimitSettings, StoreSettings
from workers.store.guarantees import CreateOnly, StoreGuarantees


def settings_of(tmp_path, text: str = "buckets: {site: {}}\n"):
    path = tmp_path / "config.yaml"
    path.write_text(f"data_dir: {tmp_path}/data\n{text}")
    return load_settings(path, env={})


def ruleset(*hosts: str, owner: str = "file", **request: object) -> RuleSet:
    groups = tuple(HostGroup(primary=OriginHost(host=host)) for host in hosts)
    rule = Rule(name="r", origin=OriginPart(hosts=groups), request=Request(**request))
    return RuleSet(bucket="site", version=1, owner=owner, rules=(rule,))


def levels(findings) -> dict[str, Level]:
    worst = {}
    order = list(Level)
    for finding in findings:
        name = f"{finding.subject}/{finding.check}"
        worst[name] = max(worst.get(name, Level.OK), finding.level, key=order.index)
    return worst


# ---------------------------------------------------------------- configuration and limits


def test_a_good_configuration_is_ok_and_leaves_nothing_behind(tmp_path):
    found = configuration.check(settings_of(tmp_path))
    assert set(levels(found).values()) == {Level.OK}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.yaml"]


@pytest.mark.parametrize(
    ("content", "mode", "level"),
    [
        (b"secret", 0o600, Level.OK),
        (b"secret", 0o644, Level.WARNING),
        (b"", 0o600, Level.FAILED),
        (None, 0, Level.FAILED),
    ],
    ids=["private", "public", "empty", "missing"],
)
def test_secret_files_are_looked_at(tmp_path, content, mode, level):
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
        file.chmod(mode)
    settings = settings_of(tmp_path, f"admin: {{token_file: {file}}}\nbuckets: {{site: {{}}}}\n")
    found = configuration.check(settings)
    assert levels(found)["configuration/secrets"] is level
    assert any(str(file) in finding.message for finding in found)


def test_a_configuration_without_buckets_is_a_warning(tmp_path):
    assert levels(configuration.check(settings_of(tmp_path, "")))["configuration/buckets"] is Level.WARNING


def test_a_data_dir_below_a_file_is_failed(tmp_path):
    (tmp_path / "data").write_text("x")
    assert levels(configuration.check(settings_of(tmp_path)))["configuration/data_dir"] is Level.FAILED


def test_too_few_open_files_are_told(tmp_path, monkeypatch):
    settings = settings_of(tmp_path)
    for soft, level in ((100, Level.FAILED), (400, Level.WARNING), (100_000, Level.OK)):
        monkeypatch.setattr(limits.resource, "getrlimit", lambda _kind, soft=soft: (soft, 100_000))
        assert levels(limits.check(settings))["limits/open_files"] is level


def test_more_memory_promised_than_there_is_is_a_warning(tmp_path):
    settings = settings_of(tmp_path, "limits: {memory_bytes: 99999999999999}\n")
    assert levels(limits.check(settings))["limits/memory"] is Level.WARNING


# ---------------------------------------------------------------- redis


@pytest.mark.real
async def test_a_real_server_is_judged(tmp_path, valkey_url):
    found = await redis_subject.check(settings_of(tmp_path, f"broker: {{url: '{valkey_url}'}}\n"))
    assert {finding.check for finding in found} >= {
        "latency",
        "scripts",
        "version",
        "persistence",
        "eviction",
        "memory",
    }
    assert Level.FAILED not in levels(found).values()
    persistence = next(finding for finding in found if finding.check == "persistence")
    assert "everysec" in persistence.message
    assert persistence.remedy


async def test_a_server_that_is_not_there_is_one_failed_line(tmp_path):
    found = await redis_subject.check(settings_of(tmp_path, "broker: {url: 'redis://127.0.0.1:1/0'}\n"))
    assert [(finding.check, finding.level) for finding in found] == [("answers", Level.FAILED)]


async def test_one_database_for_queue_and_ledger_is_a_warning(tmp_path):
    found = await redis_subject.check(
        settings_of(tmp_path, "broker: {url: 'redis://127.0.0.1:1/1', ledger_db: 1}\n")
    )
    assert levels(found)["redis/databases"] is Level.WARNING


@pytest.mark.parametrize(
    ("info", "check", "level"),
    [
        ({"aof_enabled": 0}, "persistence", Level.WARNING),
        ({"aof_enabled": 1, "aof_last_write_status": "err"}, "persistence", Level.FAILED),
        ({"aof_enabled": 1, "role": "slave"}, "role", Level.FAILED),
    ],
)
async def test_what_a_server_says_of_itself_is_judged(info, check, level):
    class Redis:
        async def config_get(self, name: str) -> dict[str, str]:
            return {name: "always"}

    found = Subject("redis")
    await redis_subject._kept(found, Redis(), info)
    assert levels(found.findings)[f"redis/{check}"] is level


@pytest.mark.parametrize(
    ("info", "level"),
    [
        ({"maxmemory_policy": "allkeys-lru"}, Level.FAILED),
        ({"maxmemory_policy": "noeviction"}, Level.OK),
    ],
)
async def test_eviction_is_failed(info, level):
    found = Subject("redis")
    await redis_subject._memory(found, None, info)
    assert levels(found.findings)["redis/eviction"] is level


# ---------------------------------------------------------------- store


GOOD = StoreGuarantees(
    create_only=CreateOnly.IF_NONE_MATCH,
    multipart_create_only=CreateOnly.IF_NONE_MATCH,
    collation="bytes",
    proven=True,
)


@pytest.mark.parametrize(
    ("guarantees", "check", "level"),
    [
        (GOOD, "create_only", Level.OK),
        (StoreGuarantees(), "create_only", Level.WARNING),
        (StoreGuarantees(missing_key_status=403), "missing_key", Level.FAILED),
        (StoreGuarantees(checksums=()), "checksums", Level.WARNING),
        (StoreGuarantees(multipart=False), "multipart", Level.WARNING),
        (StoreGuarantees(collation="none"), "listing", Level.WARNING),
        (StoreGuarantees(unrepresentable=frozenset({"double_slash"})), "keys", Level.WARNING),
    ],
)
def test_guarantees_are_judged(guarantees, check, level):
    found = Subject("store")
    store._judge(found, "site", guarantees, StoreSettings(), LimitSettings())
    assert levels(found.findings)[f"store/{check}"] is level
    assert all(finding.remedy for finding in found.findings if finding.level is not Level.OK)


def test_parts_that_are_completed_without_a_guard_are_told_with_what_is_safe_and_the_remedy():
    found = Subject("store")
    half = replace(GOOD, multipart_create_only=CreateOnly.CHECK_THEN_WRITE)
    store._judge(found, "site", half, StoreSettings(), LimitSettings(spool_bytes=100 * 2**20))
    (told,) = [one for one in found.findings if one.check == "create_only"]
    assert "one PUT is create-only (if-none-match), completing a multipart upload is not" in told.message
    assert "objects up to 100 MiB go in one PUT" in told.message
    assert "store.part_size_bytes above the largest object" in told.remedy


@pytest.mark.parametrize(
    ("ahead_s", "level"), [(0, Level.OK), (100, Level.WARNING), (-100, Level.WARNING), (2000, Level.FAILED)]
)
async def test_a_clock_that_differs_is_told(ahead_s, level):
    class Store:
        async def put_small(self, *_a, **_k) -> None: ...

        async def delete(self, *_a) -> None: ...

        async def head(self, *_a) -> SimpleNamespace:
            return SimpleNamespace(last_modified=float(int(time.time() + ahead_s)))

    found = Subject("store")
    await store._clock(found, Store(), "site")
    assert levels(found.findings)["store/clock"] is level


# ---------------------------------------------------------------- rules, loops, origins


def test_a_bucket_without_rules_is_a_warning(tmp_path):
    found, _ = rules.check(settings_of(tmp_path), {})
    assert levels(found)["rules/present"] is Level.WARNING


def test_a_rule_that_cannot_be_read_is_failed_and_the_rest_is_looked_at(tmp_path):
    settings = settings_of(tmp_path, "buckets: {site: {rules: [{origins: ['ftp://x']}]}}\n")
    found, sets = rules.check(settings, {"api": ruleset("a.example", owner="api")})
    assert levels(found)["rules/document"] is Level.FAILED
    assert set(sets) == {"api"}


@pytest.mark.parametrize(
    ("host", "level"),
    [
        ("old.example.com", Level.OK),
        ("switched.example.com", Level.FAILED),
        ("store.example.com:9000", Level.FAILED),
        ("unknown.example.com", Level.WARNING),
        ("objects.example.com", Level.FAILED),
    ],
    ids=["another", "our-gateway", "the-store", "unresolved", "public-name"],
)
async def test_an_origin_that_leads_back_is_a_loop(tmp_path, host, level):
    """The seed's warning: the origin's name resolves to the new place already (H11)."""
    settings = settings_of(
        tmp_path,
        "gateway: {listen: '192.0.2.1:80', public_hosts: [objects.example.com], "
        "access_keys: [{id: a, secret: b}]}\n"
        "store: {endpoint: 'http://store.example.com:9000'}\n"
        "buckets: {site: {}}\n",
    )
    addresses = {
        "old.example.com": ["198.51.100.7"],
        "switched.example.com": ["192.0.2.1"],
        "store.example.com": ["203.0.113.5"],
        "objects.example.com": ["192.0.2.1"],
    }

    def resolve(name: str) -> list[str]:
        if name not in addresses:
            raise OSError("no such name")
        return addresses[name]

    found = await loops.check(settings, {"site": ruleset(host)}, resolve=resolve)
    assert max((finding.level for finding in found), key=list(Level).index) is level


@pytest.mark.parametrize(
    ("host", "base_path", "prefix", "level"),
    [
        ("store.example.com:9000", "/old/", "", Level.OK),
        ("store.example.com:9000", "/", "old/", Level.OK),
        ("old.store.example.com:9000", "/", "", Level.OK),
        ("store.example.com:9000", "/site/", "", Level.FAILED),
        ("site.store.example.com:9000", "/", "", Level.FAILED),
        ("store.example.com:9000", "/", "", Level.FAILED),
        ("www.example.com:9000", "/", "", Level.FAILED),
        ("www.example.com:9000", "/", "ol", Level.FAILED),
        ("store.example.com:9000", "/site/archive/", "", Level.WARNING),
    ],
)
async def test_another_bucket_of_the_same_store_is_an_origin_like_any_other(
    tmp_path, host, base_path, prefix, level
):
    settings = settings_of(
        tmp_path, "store: {endpoint: 'http://store.example.com:9000'}\nbuckets: {site: {}}\n"
    )
    origin = OriginPart(hosts=(HostGroup(primary=OriginHost(host=host, base_path=base_path)),))
    rule = Rule(name="r", origin=origin, path=PathRule(add_prefix=prefix))
    sets = {"site": RuleSet(bucket="site", version=1, owner="file", rules=(rule,))}
    found = await loops.check(settings, sets, resolve=lambda _: ["203.0.113.5"])
    assert max((finding.level for finding in found), key=list(Level).index) is level


@pytest.mark.parametrize(
    ("report", "is_object", "check", "level"),
    [
        (OriginReport(url="u", reachable=True, status=404), False, "reachable", Level.OK),
        (OriginReport(url="u", reachable=True, status=502), False, "reachable", Level.WARNING),
        (OriginReport(url="u", reachable=True, status=200, soft_404=True), False, "soft_404", Level.WARNING),
        (OriginReport(url="u", reachable=True, status=200, problems=("p",)), True, "object", Level.WARNING),
        (OriginReport(url="u", reachable=True, status=200), True, "object", Level.OK),
        (OriginReport(url="u", reachable=True, status=404), False, "offers", Level.OK),
    ],
)
def test_what_an_origin_offers_is_judged(report, is_object, check, level):
    found = Subject("origins")
    origins._judge(found, "u", report, is_object=is_object)
    assert levels(found.findings)[f"origins/{check}"] is level


def test_ranges_validator_and_digests_are_told_of_whatever_was_looked_at():
    report = OriginReport(
        url="u", reachable=True, status=200, ranges="bytes", validator='etag "x"', digests=("content-md5",)
    )
    for is_object, check in ((False, "offers"), (True, "object")):
        found = Subject("origins")
        origins._judge(found, "u", report, is_object=is_object)
        (told,) = [one.message for one in found.findings if one.check == check]
        assert told.startswith('ranges bytes, validator etag "x", digests content-md5')


@pytest.mark.parametrize(
    ("request_part", "url"),
    [
        ({}, "http://a.example/"),
        ({"protocol": "https"}, "https://a.example/"),
        ({"follow_fallback": "https"}, "https://a.example/"),
    ],
)
def test_an_origin_is_asked_by_the_scheme_of_its_rule(request_part, url):
    rule = ruleset("a.example", **request_part).rules[0]
    assert origins._url(rule, rule.origin.hosts[0].primary) == url


# ---------------------------------------------------------------- all together


async def test_a_subject_that_breaks_or_hangs_is_one_failed_line(monkeypatch):
    monkeypatch.setattr(examine, "SUBJECT_TIMEOUT_S", 0.01)

    async def broken():
        raise KeyError("x")

    async def hanging():
        await asyncio.sleep(60)

    for check in (broken, hanging):
        (finding,) = await examine._guarded("store", check())
        assert (finding.subject, finding.level) == ("store", Level.FAILED)


def test_the_command_tells_a_broken_configuration_as_a_finding_and_exits_2(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("gatway: {}\n")
    result = CliRunner().invoke(command, ["--config", str(path), "--json"])
    assert result.exit_code == 2
    (finding,) = orjson.loads(result.stdout)["findings"]
    assert (finding["subject"], finding["level"]) == ("configuration", "failed")
    assert "gateway" in finding["message"]


def test_the_command_goes_on_without_any_server(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(
        f"data_dir: {tmp_path}\n"
        "broker: {url: 'redis://127.0.0.1:1/0'}\n"
        "store: {endpoint: 'http://127.0.0.1:1', access_key_id: a, secret_access_key: b, max_retries: 0}\n"
        "buckets: {site: {rules: [{origins: ['http://127.0.0.1:1']}]}}\n"
    )
    result = CliRunner().invoke(command, ["--config", str(path), "--quiet"])
    assert result.exit_code == 1
    for words in ("answers: ConnectionError", "answers site:", "reachable http://127.0.0.1:1/"):
        assert words in result.stdout
