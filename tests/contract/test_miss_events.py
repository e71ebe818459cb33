"""`POST /v1/miss-events` and tombstones over the real Redis and the real dispatcher."""

# ruff: noqa: E501 -- tables of real bodies read best unbroken

from __future__ import annotations

import asyncio
import gzip

import httpx
import orjson
import pytest
from click.testing import CliRunner
from starlette.applications import Starlette

from scheduler.front.admin.events import routes
from support.intake import intake_services, queued_keys
from workers.errors import BrokerUnavailable
from workers.plan import Lane

pytestmark = pytest.mark.real


@pytest.fixture
async def services(valkey_url):
    async with intake_services(valkey_url) as services:
        yield services


def client_of(services):
    transport = httpx.ASGITransport(app=Starlette(routes=routes(services)))
    return httpx.AsyncClient(transport=transport, base_url="http://admin")


@pytest.fixture
async def client(services):
    async with client_of(services) as client:
        yield client


def ndjson(*documents):
    return b"".join(orjson.dumps(one) + b"\n" for one in documents)


async def post(client, content, content_type="application/json", **headers):
    return await client.post(
        "/v1/miss-events", content=content, headers={"content-type": content_type, **headers}
    )


def counts(answer):
    body = answer.json()
    return {name: body[name] for name in ("received", "accepted", "duplicate", "unmatched", "refused")}


async def test_an_accepted_event_is_in_the_queue_when_the_answer_comes(client, services):
    answer = await post(client, b'{"bucket":"site","key":"a b.txt"}')
    assert answer.status_code == 202
    assert counts(answer) == {"received": 1, "accepted": 1, "duplicate": 0, "unmatched": 0, "refused": 0}
    assert await queued_keys(services.queue) == ["a b.txt"]


async def test_lines_that_were_not_accepted_are_listed_with_their_reason(client, services):
    answer = await post(
        client,
        ndjson(
            {"bucket": "site", "key": "a"},
            {"bucket": "site", "key": "a"},
            {"bucket": "nowhere", "key": "a"},
            {"bucket": "site", "key": "a\nb"},
            {"bucket": "site", "key": "h", "method": "HEAD"},
            {"bucket": "site", "key": "p", "method": "PUT"},
        )
        + b"{broken\n"
        + ndjson({"bucket": "site", "key": "b"}),
        "application/x-ndjson",
    )
    assert answer.status_code == 202
    assert counts(answer) == {"received": 8, "accepted": 2, "duplicate": 1, "unmatched": 1, "refused": 3}
    listed = {row["line"]: (row["state"], row.get("reason", "")) for row in answer.json()["lines"]}
    assert listed == {
        2: ("duplicate", ""), 3: ("refused", "unknown_bucket"), 4: ("refused", "control_character"),
        5: ("unmatched", ""), 6: ("ignored", "method"), 7: ("refused", "not_json"),
    }  # fmt: skip
    assert await queued_keys(services.queue) == ["a", "b"]


@pytest.mark.parametrize(
    ("content", "content_type", "headers", "status", "code"),
    [
        (b"", "application/json", {}, 400, "empty"),
        (b"{", "application/json", {}, 400, "not_json"),
        (b'{"bucket":"site","key":""}', "application/json", {}, 400, "empty_key"),
        (b'{"bucket":"site","key":"' + b"k" * 1025 + b'"}', "application/json", {}, 400, "key_too_long"),
        (b'{"bucket":"site","key":"\xff"}', "application/json", {}, 400, "not_json"),
        (b'{"bucket":"site","key":".ferryman/report"}', "application/json", {}, 400, "reserved_key"),
        (b"<xml/>", "application/xml", {}, 415, "unsupported_type"),
        (b"x", "application/json", {"content-encoding": "br"}, 415, "unsupported_encoding"),
        (b"x", "application/json", {"content-encoding": "gzip"}, 400, "bad_gzip"),
        (b"[" + b" " * (33 << 20), "application/json", {}, 413, "too_large"),
        (b"{}", "application/x-ndjson", {"ce-specversion": "1.0"}, 400, "bad_cloud_event"),
        (b'{"bucket":"site","key":"k"}', "application/json", {"ce-specversion": "1.0"}, 400, "bad_cloud_event"),
    ],
)  # fmt: skip
async def test_a_body_that_cannot_be_taken_is_refused_and_nothing_is_enqueued(
    client, services, content, content_type, headers, status, code
):
    answer = await post(client, content, content_type, **headers)
    assert answer.status_code == status
    assert answer.json()["error"]["code"] == code
    assert await queued_keys(services.queue) == []


@pytest.mark.parametrize(
    ("content", "content_type", "headers"),
    [
        (orjson.dumps([{"bucket": "site", "key": "a"}, {"bucket": "site", "key": "b"}]), "application/json", {}),
        (gzip.compress(ndjson({"bucket": "site", "key": "a"}, {"bucket": "site", "key": "b"})), "application/x-ndjson",
         {"content-encoding": "gzip"}),
        (orjson.dumps([
            {"specversion": "1.0", "id": n, "source": "s", "type": "t", "data": {"bucket": "site", "key": n}} for n in "ab"
        ]), "application/cloudevents-batch+json", {}),
        ((b'1.1.1.1 - - [21/Nov/2026:03:56:35 +0000] "GET /site/a HTTP/1.1" 404 1 "-" "x"\n'
         b'1.1.1.1 - - [21/Nov/2026:03:56:35 +0000] "GET /site/b HTTP/1.1" 404 1 "-" "x"'), "text/plain", {}),
    ],
    ids=["array", "gzip", "cloudevents_batch", "raw_lines"],
)  # fmt: skip
async def test_every_framing_reaches_the_queue(client, services, content, content_type, headers):
    answer = await post(client, content, content_type, **headers)
    assert answer.status_code == 202, answer.text
    assert await queued_keys(services.queue) == ["a", "b"]


async def test_lines_sent_as_text_are_read_by_the_columns_named_before_them(client, services):
    lines = (
        b"#Fields: cs-uri-query\tcs-uri-stem\tsc-status\n-\t/site/a\t404\n"
        b"#Fields: cs-uri-stem\tcs-uri-query\tsc-status\n/site/b\t-\t404\n"
    )
    answer = await post(client, lines, "text/plain")
    assert answer.status_code == 202, answer.text
    assert await queued_keys(services.queue) == ["a", "b"]
    for useless in (b"#Fields: cs-uri-stem cs-uri-query\n", b'"time_micros","cs_object"\n'):
        answer = await post(client, useless + b"/site/c\t404\n", "text/plain")
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == "bad_columns"


async def test_a_cloud_event_in_binary_mode_is_taken_once(client, services):
    headers = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/gw", "ce-type": "miss"}
    for expected in (1, 0):
        answer = await post(client, b'{"bucket":"site","key":"k"}', **headers)
        assert answer.status_code == 202
        assert answer.json()["accepted"] == expected


async def test_an_id_is_taken_once_also_by_another_process_and_after_the_pull(services):
    event = orjson.dumps({"bucket": "site", "key": "k", "id": "e-1"})
    async with client_of(services) as one:
        assert (await post(one, event)).json()["accepted"] == 1
    await services.redis.delete("t:claim:site\x00k")  # the pull has ended
    async with client_of(services) as other:
        answer = await post(other, event)
    assert answer.json()["duplicate"] == 1
    assert answer.json()["lines"][0]["reason"] == "id_seen"
    assert await queued_keys(services.queue) == ["k"]


async def test_a_body_that_curl_calls_a_form_is_read_as_json(client, services):
    answer = await post(client, b'{"bucket":"site","key":"k"}', "application/x-www-form-urlencoded")
    assert (answer.status_code, answer.json()["accepted"]) == (202, 1)
    assert await queued_keys(services.queue) == ["k"]


async def test_two_processes_take_a_key_once(services):
    async with client_of(services) as one, client_of(services) as other:
        event = b'{"bucket":"site","key":"k"}'
        answers = [await post(client, event) for client in (one, other) * 5]
    assert sum(answer.json()["accepted"] for answer in answers) == 1
    assert await queued_keys(services.queue) == ["k"]


async def test_p47_a_deep_queue_says_when_to_come_back(valkey_url):
    """P47: the queue does not grow without limit."""
    async with intake_services(valkey_url, max_depth=1) as services, client_of(services) as client:
        assert (await post(client, b'{"bucket":"site","key":"a"}')).status_code == 202
        services.dispatcher._depth_until.clear()
        answer = await post(client, b'{"bucket":"site","key":"b"}')
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.json()["taken_up_to_line"] == 0
        assert await queued_keys(services.queue) == ["a"]


async def test_an_absent_redis_is_503_and_nothing_is_called_accepted(client, services, monkeypatch):
    async def away(*_args, **_options):
        raise BrokerUnavailable("connection refused")

    monkeypatch.setattr(services.queue, "enqueue_many", away)
    answer = await post(client, b'{"bucket":"site","key":"k","id":"x"}')
    assert answer.status_code == 503
    assert "retry-after" in answer.headers
    assert answer.json()["accepted"] == 0
    monkeypatch.undo()
    assert (await post(client, b'{"bucket":"site","key":"k","id":"x"}')).json()["accepted"] == 1


async def test_a_stream_tells_up_to_which_line_it_was_taken_when_the_queue_goes_away(
    client, services, monkeypatch
):
    calls = 0
    dispatch = services.dispatcher.dispatch

    async def sometimes(events, **options):
        nonlocal calls
        calls += 1
        if calls > 2:
            raise BrokerUnavailable("gone")
        return await dispatch(events, **options)

    monkeypatch.setattr(services.dispatcher, "dispatch", sometimes)

    async def body():
        for number in range(10):
            yield ndjson({"bucket": "site", "key": f"k{number}"}, {"bucket": "site", "key": f"j{number}"})

    answer = await post(client, body(), "application/x-ndjson")
    assert answer.status_code == 503
    assert answer.json()["taken_up_to_line"] == 4
    assert len(await queued_keys(services.queue)) == 4


async def test_a_notification_of_a_deletion_blocks_the_pull(client, services):
    """S15, P22."""
    note = {
        "Records": [
            {
                "eventName": "s3:ObjectRemoved:Delete",
                "s3": {"bucket": {"name": "site"}, "object": {"key": "d%2Fa+b"}},
            }
        ]
    }
    answer = await post(client, orjson.dumps(note))
    assert answer.status_code == 202
    assert answer.json()["tombstones"] == 1
    answer = await post(client, b'{"bucket":"site","key":"d/a b"}')
    assert answer.json()["tombstoned"] == 1
    assert await queued_keys(services.queue) == []


async def test_an_absent_key_is_not_asked_for_again(client, services):
    """L14, P29."""
    await services.ledger.claims.mark_absent("site", ["k"], ttl_s=60)
    answer = await post(client, b'{"bucket":"site","key":"k"}')
    assert (answer.status_code, answer.json()["absent"]) == (202, 1)


async def test_tombstones_are_added_listed_and_removed_by_command(services, tmp_path, valkey_url):
    """S15."""
    config = tmp_path / "config.yaml"
    config.write_text(
        f"broker: {{url: '{valkey_url}', namespace: t}}\nbuckets: {{site: {{}}}}\nstore: {{endpoint: http://127.0.0.1:1}}\n"
    )
    from scheduler.commands.tombstone import command

    def run(*arguments, keys=None):
        return CliRunner().invoke(command, [*arguments, "--config", str(config)], input=keys)

    loop = asyncio.get_running_loop()
    added = await loop.run_in_executor(
        None, lambda: run("add", "site", "a b", "--from", "-", "--ttl", "1h", keys="c\n\nd\n")
    )
    assert added.exit_code == 0, added.output
    listed = await loop.run_in_executor(None, lambda: run("list", "site", "--json"))
    assert [row["key"] for row in orjson.loads(listed.stdout)] == ["a b", "c", "d"]
    assert all(3500 < row["left_s"] <= 3600 for row in orjson.loads(listed.stdout))
    report = await services.dispatcher.dispatch([])
    assert report.accepted == 0
    removed = await loop.run_in_executor(None, lambda: run("remove", "site", "c", "never"))
    assert (removed.exit_code, await services.ledger.claims.tombstone("site", "c")) == (1, None)
    assert await services.ledger.claims.tombstone("site", "d") == "operator"
    for bad in (
        ("add", "site"),
        ("add", "site", "a", "--ttl", "soon"),
        ("list", "other"),
        ("add", "site", "/"),
    ):
        refused = await loop.run_in_executor(None, lambda bad=bad: run(*bad))
        assert refused.exit_code == 2, refused.output


async def test_many_lines_cost_one_queue_message_a_hundred(client, services):
    answer = await post(
        client, ndjson(*({"bucket": "site", "key": f"k{n}"} for n in range(1000))), "application/x-ndjson"
    )
    assert answer.json()["accepted"] == 1000
    assert (await services.queue.depth(Lane.HOT)).waiting <= 20
