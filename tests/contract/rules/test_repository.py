"""The rules repository over fakeredis and over the real Valkey: one suite (SEMANTICS.md 2.7, W9; issue of the
rules).
"""

from __future__ import annotations

import asyncio
import multiprocessing
import time
import uuid
from typing import TYPE_CHECKING

import fakeredis
import pytest
from redis.asyncio import Redis

from scheduler.rules.in_force.repository import (
    HISTORY_KEPT,
    OwnedByFile,
    RulesRepository,
    UnknownVersion,
    VersionConflict,
)
from scheduler.rules.model import (
    Answer,
    HostGroup,
    OriginHost,
    OriginPart,
    Rule,
    RuleType,
    SourceFormat,
    When,
)
from scheduler.rules.xml_tree import XmlElement
from support.patience import PATIENCE_S
from workers.errors import BrokerUnavailable
from workers.ledger.rule_epochs import RuleEpochs, rule_epochs_key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

BUCKET = "site"


def rule(name: str = "images", host: str = "old.example", **parts) -> Rule:
    return Rule(name=name, origin=OriginPart(hosts=(HostGroup(primary=OriginHost(host=host)),)), **parts)


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.real)])
async def connect(request) -> AsyncIterator[Callable[[], Redis]]:
    """Makes clients of one empty database."""
    if request.param == "fake":
        server = fakeredis.FakeServer()
        clients = []

        def make() -> Redis:
            clients.append(fakeredis.FakeAsyncRedis(server=server, decode_responses=True))
            return clients[-1]
    else:
        url = request.getfixturevalue("valkey_url").replace("/0", "/5")
        clients = []

        def make() -> Redis:
            clients.append(Redis.from_url(url, decode_responses=True))
            return clients[-1]

        await make().flushdb()
    yield make
    for client in clients:
        await client.aclose()


@pytest.fixture
async def repository(connect) -> AsyncIterator[RulesRepository]:
    found = RulesRepository(connect())
    await found.start()
    yield found
    await found.close()


@pytest.fixture
async def other(connect) -> AsyncIterator[RulesRepository]:
    """The repository of another process."""
    found = RulesRepository(connect())
    await found.start()
    yield found
    await found.close()


async def eventually(holds: Callable[[], object], within_s: float = PATIENCE_S) -> float:
    """Seconds until it held."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < within_s, "not within its deadline"
        await asyncio.sleep(0.01)
    return time.monotonic() - began


async def put(repository: RulesRepository, *rules: Rule, bucket: str = BUCKET, **options):
    options = {"owner": "api", "who": "key-1", "how": "PUT ?origin"} | options
    return await repository.replace(bucket, rules, **options)


async def test_a_set_comes_back_as_it_was_put(repository, other):
    written = XmlElement(
        tag="OriginRule", children=(XmlElement(tag="OriginType", text="Mirror"), XmlElement(tag="Prefix"))
    )
    full = rule(
        priority=3,
        type=RuleType.MIRROR,
        when=When(status=(404, "5xx"), prefix="img/ é中"),
        answer=Answer(transparent=(403, 404)),
        written=written,
    )
    await put(repository, full, rule("rest", "b.example:8080"), source=SourceFormat.COS, website=(written,))
    found = await other.read(BUCKET)
    assert found == repository.snapshot(BUCKET)
    assert found.rules == (full, rule("rest", "b.example:8080"))
    assert found.rules[0].written == written
    assert (found.source, found.website, found.owner) == (SourceFormat.COS, (written,), "api")


async def test_a_bucket_without_rules_has_none(repository):
    assert repository.snapshot("nothing-here") is None
    assert await repository.read("nothing-here") is None
    assert await repository.history("nothing-here") == ()


async def test_a_change_is_seen_by_another_repository_within_two_seconds(repository, other):
    await put(repository, rule())
    took = await eventually(lambda: other.snapshot(BUCKET) is not None)
    assert took < 2.0
    await repository.delete(BUCKET, owner="api", who="key-1", how="DELETE ?origin")
    await eventually(lambda: other.snapshot(BUCKET) is None)


async def test_versions_grow_and_the_same_document_is_no_version(repository):
    first = await put(repository, rule())
    again = await put(repository, rule())
    second = await put(repository, rule(host="new.example"))
    elsewhere = await put(repository, rule(), bucket="other")
    assert (first.changed, again.changed, second.changed) == (True, False, True)
    assert first.version == again.version < second.version < elsewhere.version


async def test_another_spelling_of_the_same_rules_is_a_new_version(repository):
    """A GET returns what was PUT, so the spelling counts."""
    first = await put(
        repository, rule(written=XmlElement(tag="OriginRule", text="a")), source=SourceFormat.COS
    )
    second = await put(
        repository, rule(written=XmlElement(tag="OriginRule", text="b")), source=SourceFormat.COS
    )
    assert second.changed
    assert second.version > first.version


async def test_history_tells_who_how_and_when_and_keeps_twenty(repository):
    began = time.time()
    for number in range(HISTORY_KEPT + 5):
        await put(repository, rule(host=f"h{number}.example"), who=f"key-{number}")
    changes = await repository.history(BUCKET)
    assert len(changes) == HISTORY_KEPT
    assert [change.version for change in changes] == sorted((c.version for c in changes), reverse=True)
    assert (changes[0].who, changes[0].how) == (f"key-{HISTORY_KEPT + 4}", "PUT ?origin")
    assert changes[-1].who == "key-5"
    assert all(began - 1 <= change.at <= time.time() + 1 for change in changes)
    assert changes[3].ruleset.rules == (rule(host=f"h{HISTORY_KEPT + 1}.example"),)


async def test_rollback_puts_an_old_version_in_force_as_a_new_one(repository, other):
    first = await put(repository, rule(host="first.example"))
    await put(repository, rule(host="second.example"))
    back = await repository.rollback(BUCKET, first.version, who="operator")
    found = await other.read(BUCKET)
    assert found.rules == (rule(host="first.example"),)
    assert found.version == back.version > first.version
    latest = (await repository.history(BUCKET))[0]
    assert (latest.who, latest.how) == ("operator", f"rollback to {first.version}")


async def test_rollback_undoes_a_deletion_and_a_deletion_can_be_rolled_back_to(repository):
    first = await put(repository, rule())
    assert await repository.delete(BUCKET, owner="api", who="key-1", how="DELETE ?origin")
    deleted = (await repository.history(BUCKET))[0]
    assert deleted.ruleset is None
    await repository.rollback(BUCKET, first.version, who="operator")
    assert repository.snapshot(BUCKET).rules == (rule(),)
    await repository.rollback(BUCKET, deleted.version, who="operator")
    assert repository.snapshot(BUCKET) is None


async def test_rollback_to_a_version_that_is_not_kept_is_refused(repository):
    await put(repository, rule())
    with pytest.raises(UnknownVersion, match="no version 999"):
        await repository.rollback(BUCKET, 999, who="operator")


async def test_deleting_nothing_changes_nothing_w3(repository):
    assert not await repository.delete(BUCKET, owner="api", who="key-1", how="DELETE ?origin")
    assert await repository.history(BUCKET) == ()
    await put(repository, rule())
    assert await repository.delete(BUCKET, owner="api", who="key-1", how="DELETE ?origin")
    assert not await repository.delete(BUCKET, owner="api", who="key-1", how="DELETE ?origin")
    assert len(await repository.history(BUCKET)) == 2


async def test_the_api_cannot_change_what_the_file_owns_w9(repository):
    await put(repository, rule(), owner="file")
    with pytest.raises(OwnedByFile, match="configuration file"):
        await put(repository, rule(host="evil.example"))
    with pytest.raises(OwnedByFile):
        await repository.delete(BUCKET, owner="api", who="key-1", how="DELETE ?origin")
    with pytest.raises(OwnedByFile):
        await repository.rollback(BUCKET, repository.snapshot(BUCKET).version, who="key-1")
    assert repository.snapshot(BUCKET).rules == (rule(),)


async def test_the_file_takes_a_bucket_over_and_gives_it_back_w9(repository):
    await put(repository, rule(host="of-the-api.example"))
    taken = await put(repository, rule(host="of-the-api.example"), owner="file")
    assert taken.changed  # the same rules, but hosts of a file may be private
    assert await repository.owned_by_file() == (BUCKET,)
    assert await repository.delete(BUCKET, owner="file", who="file", how="no rules any more")
    assert await repository.owned_by_file() == ()
    await put(repository, rule(host="of-the-api.example"))
    assert repository.snapshot(BUCKET).owner == "api"


async def test_an_expected_version_refuses_what_came_between(repository):
    first = await put(repository, rule(), expected_version=0)
    await put(repository, rule(host="b.example"), expected_version=first.version)
    with pytest.raises(VersionConflict) as caught:
        await put(repository, rule(host="c.example"), expected_version=first.version)
    assert caught.value.version == repository.snapshot(BUCKET).version
    assert repository.snapshot(BUCKET).rules == (rule(host="b.example"),)


async def test_concurrent_replaces_leave_one_whole_set_and_a_whole_history(connect):
    repositories = [RulesRepository(connect()) for _ in range(4)]
    sets = [[rule(f"r{n}-{part}", f"h{n}.example") for part in range(5)] for n in range(16)]
    results = await asyncio.gather(
        *(put(repositories[n % 4], *rules, who=f"key-{n}") for n, rules in enumerate(sets))
    )
    assert len({result.version for result in results}) == len(sets)
    for repository in repositories:
        assert await repository.read(BUCKET) == await repositories[0].read(BUCKET)
    found = repositories[0].snapshot(BUCKET)
    assert list(found.rules) in sets
    changes = await repositories[0].history(BUCKET)
    assert {change.version for change in changes} == {result.version for result in results}
    for change in changes:
        assert list(change.ruleset.rules) in sets
    assert changes[0].version == found.version == max(result.version for result in results)


async def test_a_snapshot_is_read_without_asking_redis(connect):
    client = connect()
    repository = RulesRepository(client)
    await put(repository, rule())
    commands = (await client.info("stats"))["total_commands_processed"] if not _is_fake(client) else None
    for _ in range(1000):
        assert repository.snapshot(BUCKET) is not None
    if commands is not None:
        assert (await client.info("stats"))["total_commands_processed"] <= commands + 1


def _is_fake(client: Redis) -> bool:
    return isinstance(client, fakeredis.FakeAsyncRedis)


# ------------------------------------------------------------ what workers see


async def test_jobs_of_a_withdrawn_rule_are_not_live(repository, connect):
    first = await put(repository, rule("images"), rule("rest"))
    epochs = RuleEpochs(connect(), cached_s=0)
    assert await epochs.is_live(BUCKET, "images", first.version)
    await put(repository, rule("rest"))
    assert not await epochs.is_live(BUCKET, "images", first.version)
    assert await epochs.is_live(BUCKET, "rest", first.version)


async def test_jobs_of_a_deleted_set_are_not_live(repository, connect):
    first = await put(repository, rule())
    await repository.delete(BUCKET, owner="api", who="key-1", how="DELETE ?origin")
    epochs = RuleEpochs(connect(), cached_s=0)
    assert not await epochs.is_live(BUCKET, "images", first.version)
    again = await put(repository, rule())
    assert not await epochs.is_live(BUCKET, "images", first.version)
    assert await epochs.is_live(BUCKET, "images", again.version)


@pytest.mark.parametrize(
    ("changed", "live"),
    [
        (rule(priority=7), True),
        (rule(when=When(prefix="img/")), True),
        (rule(answer=Answer(allow_head=True)), True),
        (rule(host="new.example"), False),
        (rule(type=RuleType.REDIRECT), False),
    ],
    ids=["priority", "condition", "answer", "host", "type"],
)
async def test_a_change_withdraws_queued_jobs_only_when_they_would_ask_something_else(
    repository, connect, changed, live
):
    first = await put(repository, rule())
    await put(repository, changed)
    assert await RuleEpochs(connect(), cached_s=0).is_live(BUCKET, "images", first.version) is live


async def test_epochs_are_read_once_a_second_and_outlive_redis(repository, connect):
    now = 100.0
    first = await put(repository, rule())
    client = connect()
    epochs = RuleEpochs(client, clock=lambda: now)
    assert await epochs.is_live(BUCKET, "images", first.version)
    await put(repository, rule("other"))
    assert await epochs.is_live(BUCKET, "images", first.version)  # up to a second behind
    now += 1.0
    assert not await epochs.is_live(BUCKET, "images", first.version)


async def test_a_job_newer_than_what_a_worker_has_read_is_live(repository, connect):
    epochs = RuleEpochs(connect(), clock=lambda: 0.0)
    await put(repository, rule("first"))
    assert await epochs.is_live(BUCKET, "first", 1)
    second = await put(repository, rule("second"))
    assert await epochs.is_live(BUCKET, "second", second.version)


async def test_nothing_is_withdrawn_where_nothing_was_published(connect):
    assert await RuleEpochs(connect()).is_live("unknown", "images", 7)
    assert await connect().exists(rule_epochs_key("ferryman", "unknown")) == 0


# ------------------------------------------------------------ when Redis loses things


async def test_a_lost_database_keeps_the_snapshots_and_versions_go_on(repository, other, connect):
    await put(repository, rule(), bucket="kept")
    for number in range(5):
        last = await put(repository, rule(host=f"h{number}.example"))
    await eventually(lambda: other.snapshot(BUCKET) is not None and other.snapshot("kept") is not None)
    await connect().flushdb()
    await other.refresh()
    assert other.snapshot(BUCKET).rules == (rule(host="h4.example"),)
    again = await put(other, rule(host="h5.example"))
    assert again.version > last.version
    await eventually(lambda: repository.snapshot(BUCKET).version == again.version)
    assert repository.snapshot("kept").rules == (rule(),)


async def test_without_redis_the_last_snapshot_stays_and_changes_are_refused():
    server = fakeredis.FakeServer()
    repository = RulesRepository(fakeredis.FakeAsyncRedis(server=server, decode_responses=True), poll_s=0.02)
    await repository.start()
    await put(repository, rule())
    server.connected = False
    await eventually(lambda: not repository.synced)
    assert repository.snapshot(BUCKET).rules == (rule(),)
    assert (await repository.read(BUCKET)).rules == (rule(),)
    for call in (
        put(repository, rule(host="x.example")),
        repository.delete(BUCKET, owner="api", who="k", how="h"),
        repository.history(BUCKET),
        repository.rollback(BUCKET, 1, who="k"),
        repository.refresh(),
    ):
        with pytest.raises(BrokerUnavailable):
            await call
    server.connected = True
    await eventually(lambda: repository.synced)
    await repository.close()


async def test_a_redis_that_takes_the_connection_and_says_nothing_holds_up_no_start(monkeypatch):
    """It stands still, or is out of reach behind a firewall: every command would wait for its deadline."""
    monkeypatch.setattr("scheduler.rules.in_force.repository.FIRST_LOOK_S", 0.05)
    repository = RulesRepository(fakeredis.FakeAsyncRedis(decode_responses=True), poll_s=0.02)
    answers = asyncio.Event()
    epoch = repository._store.epoch

    async def late():
        await answers.wait()
        return await epoch()

    monkeypatch.setattr(repository._store, "epoch", late)
    async with asyncio.timeout(PATIENCE_S):
        await repository.start()
    assert not repository.synced
    answers.set()
    await eventually(lambda: repository.synced)
    answers.clear()
    async with asyncio.timeout(PATIENCE_S):
        await repository.close()


async def test_a_file_owned_set_is_in_force_without_redis_and_follows_when_it_is_back():
    server = fakeredis.FakeServer()
    server.connected = False
    repository = RulesRepository(fakeredis.FakeAsyncRedis(server=server, decode_responses=True), poll_s=0.02)
    await repository.start()
    repository.hold(BUCKET, [rule()], who="file", how="start")
    assert repository.snapshot(BUCKET).rules == (rule(),)
    assert repository.snapshot(BUCKET).owner == "file"
    server.connected = True
    await eventually(lambda: repository.snapshot(BUCKET).version > 0)
    fresh = RulesRepository(fakeredis.FakeAsyncRedis(server=server, decode_responses=True))
    assert (await fresh.read(BUCKET)).owner == "file"
    await repository.close()


# ------------------------------------------------------------ two processes


def _watch_in_another_process(url: str, bucket: str, namespace: str, seen, ready) -> None:
    async def watch() -> None:
        client = Redis.from_url(url, decode_responses=True)
        repository = RulesRepository(client, namespace=namespace)
        await repository.start()
        ready.set()
        deadline = time.monotonic() + 20
        while repository.snapshot(bucket) is None and time.monotonic() < deadline:  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.005)
        found = repository.snapshot(bucket)
        seen.put((time.time(), found.version if found else None))
        await repository.close()
        await client.aclose()

    asyncio.run(watch())


@pytest.mark.real
async def test_another_process_sees_a_change_within_two_seconds_without_a_restart(valkey_url):
    url = valkey_url.replace("/0", "/5")
    namespace = f"t{uuid.uuid4().hex[:8]}"
    context = multiprocessing.get_context("spawn")
    seen, ready = context.Queue(), context.Event()
    process = context.Process(
        target=_watch_in_another_process, args=(url, BUCKET, namespace, seen, ready), daemon=True
    )
    process.start()
    try:
        assert await asyncio.to_thread(ready.wait, 60)
        client = Redis.from_url(url, decode_responses=True)
        repository = RulesRepository(client, namespace=namespace)
        began = time.time()
        replaced = await put(repository, rule())
        at, version = await asyncio.to_thread(seen.get, True, 30)
        assert version == replaced.version
        assert at - began < 2.0
        await client.aclose()
    finally:
        process.join(10)
        if process.is_alive():
            process.kill()
