"""The way back for operators: status, verify, failures, doctor, metrics, the gate."""

from __future__ import annotations

import asyncio
import json
import sys

import pytest
import structlog
from click.testing import CliRunner

from scheduler.back.state import collect_back
from scheduler.back.verify import verify_back
from scheduler.cli import cli
from scheduler.doctor import back as doctor
from scheduler.doctor.model import Level
from scheduler.front.admin.metrics import take_over
from scheduler.scan.gate.gate import _way_back
from scheduler.status import collect
from support.back import back_rule, draining, until_equal
from support.gateway import until
from workers.errors import OriginUnreachable
from workers.settings import reveal_json
from workers.telemetry import metrics

pytestmark = pytest.mark.real


@pytest.fixture
def ferryman(tmp_path):
    """The command line over the settings of a running gateway: its exit code and what it said."""
    # What the gateway beside it logs meanwhile is no part of that.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(file=sys.stderr))

    async def run(front, *arguments):
        settings = front.services.settings
        config = tmp_path / "config.json"
        config.write_text(reveal_json(settings.model_copy(update={"buckets": dict(settings.buckets)})))
        done = await asyncio.to_thread(
            CliRunner().invoke, cli, [*arguments, "--config", str(config)], catch_exceptions=False
        )
        return done.exit_code, done.stdout

    return run


async def test_status_says_in_one_line_whether_one_could_go_back_and_names_what_would_be_missing(
    start, client, call, bucket, ferryman
):
    front = await start(worker=False)
    code, said = await ferryman(front, "back", "status")
    assert (code, said) == (
        0,
        f"{bucket}: yes: the origin has every write that passed the gateway since write_back is on\n",
    )
    await call(client(front).put_object, Bucket=bucket, Key="a", Body=b"1")
    await call(client(front).delete_object, Bucket=bucket, Key="b")
    await until(lambda: _lags(front.services, bucket))
    code, said = await ferryman(front, "back", "status", bucket, "--keys")
    assert code == 1
    first, *keys = said.splitlines()
    assert first.startswith(f"{bucket}: not now: 2 keys may be missing at the origin, the oldest write is")
    assert keys == ["  a", "  b"]
    code, said = await ferryman(front, "back", "status", "--json")
    (row,) = json.loads(said)["buckets"]
    assert (row["could_go_back"], row["pending"], row["failed"]) == (False, 2, 0)
    assert row["rules"] == {"r": "async"}
    async with draining(front.services):
        await until_equal(front.services, bucket)
    assert (await ferryman(front, "back", "status"))[0] == 0


async def test_verify_says_in_a_sentence_that_the_origin_gives_no_answer(
    start, client, call, origin, bucket, monkeypatch
):
    async def away(*_, **__):
        raise OriginUnreachable("old.example.com: no route", origin="old.example.com")

    front = await start()
    for key in ("a", "b"):
        await call(client(front).put_object, Bucket=bucket, Key=key, Body=b"x")
    await until_equal(front.services, bucket)
    monkeypatch.setattr(front.services.origin_writer.wire, "digest", away)
    with pytest.raises(OriginUnreachable, match="no route"):
        await verify_back(front.services, bucket, sample=None)


async def test_verify_compares_byte_by_byte_and_names_every_kind_of_difference(
    start, client, call, origin, bucket, ferryman
):
    front = await start()
    like = {"ContentType": "text/plain", "Metadata": {"a": "b"}}
    s3 = client(front)
    for key in ("same", "bytes", "metadata", "tags", "missing"):
        await call(s3.put_object, Bucket=bucket, Key=key, Body=b"x" * 9, **like, Tagging="t=1")
    await call(origin.put_object, Bucket=bucket, Key="gone", Body=b"old")
    await call(s3.delete_object, Bucket=bucket, Key="gone")
    await until_equal(front.services, bucket)
    code, said = await ferryman(front, "back", "verify", bucket, "--full")
    assert code == 0
    assert said.startswith(f"{bucket}: 5 of 5 compared are equal (of 5 keys), 1 deleted are gone, 0 differ")
    await call(origin.put_object, Bucket=bucket, Key="bytes", Body=b"y" * 9, **like, Tagging="t=1")
    await call(
        origin.put_object,
        Bucket=bucket,
        Key="metadata",
        Body=b"x" * 9,
        **{**like, "Metadata": {"a": "c"}},
        Tagging="t=1",
    )
    await call(origin.put_object, Bucket=bucket, Key="tags", Body=b"x" * 9, **like)
    await call(origin.delete_object, Bucket=bucket, Key="missing")
    await call(origin.put_object, Bucket=bucket, Key="gone", Body=b"again")
    code, said = await ferryman(front, "back", "verify", bucket, "--sample", "100", "--json")
    assert code == 1
    report = json.loads(said)
    found = {one["key"]: one["what"] for one in report["differences"]}
    assert found == {
        "bytes": "bytes",
        "metadata": "metadata",
        "tags": "tags",
        "missing": "missing",
        "gone": "not_deleted",
    }
    assert (report["equal"], report["different"], report["clean"]) == (1, 5, False)


async def test_a_write_that_the_origin_refuses_is_a_listed_failure_that_can_be_retried_or_waived(
    start, client, call, origin, bucket, moto, ferryman
):
    rule = back_rule(moto, f"{bucket}-later")
    front = await start(rule=rule, limits={"drain_s": 2, "max_attempts": 1})
    s3 = client(front)
    services = front.services
    for key in ("a", "b"):
        await call(s3.put_object, Bucket=bucket, Key=key, Body=key.encode())
    await until(lambda: _listed(services, bucket, 2))
    code, said = await ferryman(front, "failures", "list", "--json")
    assert code == 0
    rows = json.loads(said)["failures"]
    assert {(row["key"], row["lane"], row["reason"]) for row in rows} == {
        ("a", "back", "origin_status"),
        ("b", "back", "origin_status"),
    }
    assert "NoSuchBucket" in rows[0]["message"]
    state = await services.ledger.back.state(bucket)
    assert (state.pending, state.failed) == (2, 2)
    assert state.lag_s > 0
    # That the store has them takes nothing off the list.
    await services.ledger.failures.remove(bucket, ["a"])
    await services.ledger.failures.settle(bucket, ["a"], before=4e9)
    assert await services.ledger.failures.count(bucket) == 2
    assert (await ferryman(front, "failures", "waive", "--key", "b", "--because", "not wanted"))[0] == 0
    await call(origin.create_bucket, Bucket=f"{bucket}-later")
    assert (await ferryman(front, "failures", "retry", "--key", "a"))[0] == 0
    await until_equal(services, bucket)
    assert await services.ledger.failures.count(bucket) == 0
    listed = await call(origin.list_objects_v2, Bucket=f"{bucket}-later")
    assert [one["Key"] for one in listed["Contents"]] == ["a"]


async def _lags(services, bucket):
    return (await services.ledger.back.state(bucket)).lag_s > 0


async def _listed(services, bucket, n):
    return await services.ledger.failures.count(bucket) == n


async def test_lag_and_pending_keys_are_in_status_and_metrics(start, client, call, bucket, ferryman):
    front = await start(worker=False)
    await call(client(front).put_object, Bucket=bucket, Key="a", Body=b"1")
    await until(lambda: _lags(front.services, bucket))
    status = await collect(front.services)
    assert status.problems == {}
    (row,) = status.back
    assert (row.bucket, row.pending, row.failed) == (bucket, 1, 0)
    assert row.lag_s > 0
    take_over(status)
    text = metrics.render().decode()
    assert f'ferryman_back_pending_keys{{bucket="{bucket}"}} 1.0' in text
    assert f'ferryman_back_lag_seconds{{bucket="{bucket}"}}' in text
    code, said = await ferryman(front, "status")
    assert code == 0
    assert "The way back" in said
    assert bucket in said


async def test_doctor_tries_whether_the_credentials_may_write(start, origin, call, bucket, moto):
    front = await start(worker=False)
    services = front.services
    sets = {bucket: services.rules.snapshot(bucket)}
    (good,) = await doctor.check(sets, services.settings, services.control)
    assert (good.check, good.level) == ("may_write", Level.OK)
    assert (await call(origin.list_objects_v2, Bucket=bucket))["KeyCount"] == 0
    (equal,) = await doctor.behind(services.ledger)
    assert equal.level is Level.OK
    other = await start(rule=back_rule(moto, f"{bucket}-missing"), worker=False)
    sets = {bucket: other.services.rules.snapshot(bucket)}
    (bad,) = await doctor.check(sets, other.services.settings, other.services.control)
    assert bad.level is Level.FAILED
    assert "NoSuchBucket" in bad.message
    assert "'old'" in bad.remedy


async def test_the_gate_warns_while_a_rule_writes_back(start, client, call, bucket):
    front = await start(worker=False)
    await call(client(front).put_object, Bucket=bucket, Key="a", Body=b"1")
    rules = list(front.services.rules.snapshot(bucket).rules)
    condition = await _way_back(front.services, rules, bucket)
    assert condition.warning
    assert not condition.ok
    assert condition.evidence == "write_back is on (r); the origin may lack 1 keys"
    assert "no going back" in condition.remedy
    assert (await _way_back(front.services, [], bucket)).ok


async def test_keys_of_a_rule_that_no_longer_writes_back_are_given_up(start, client, call, bucket, moto):
    front = await start(worker=False)
    services = front.services
    await call(client(front).put_object, Bucket=bucket, Key="a", Body=b"1")
    other = await start(rule=back_rule(moto, bucket, mode="off"), worker=False)
    off = other.services.rules.snapshot(bucket).rules
    await services.rules.replace(bucket, off, owner="file", who="test", how="test")
    (row,) = await collect_back(services.ledger.back, services.rules, [bucket])
    assert not row.could_go_back
    async with draining(services):
        await until_equal(services, bucket)
