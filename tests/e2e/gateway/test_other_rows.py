"""Proxy, Redirect and HEAD (SEMANTICS.md 5.2 to 5.4), and what is never served."""

from __future__ import annotations

import asyncio
import time

import pytest

from scheduler.misses.event import MissEvent
from support.gateway import until
from workers.errors import BrokerUnavailable, QueueFull
from workers.ledger.claims import ClaimState
from workers.ledger.failures import Failure
from workers.plan import Lane

pytestmark = pytest.mark.real

BODY = b"x" * 50_000


# ------------------------------------------------------------ Proxy


@pytest.mark.parametrize("code", [301, 302, 307])
async def test_a27_a_proxy_miss_is_redirected_to_the_origin_and_queued(chaos, mirror, start, code):
    """A27, D22."""
    front = await start(
        mirror(
            "proxy",
            request={"follow_query": True},
            answer={"redirect_code": code},
            path={"add_prefix": "old/"},
        )
    )
    reply = await front.get("/a%20b/k?x=%2f+1", {"Range": "bytes=0-5"})
    assert reply.status == code
    assert reply.headers["location"] == f"http://{chaos.host}/old/a%20b/k?x=%2f+1"
    assert reply.headers["cache-control"] == "no-store"
    assert reply.body == b""
    await front.idle()
    assert await front.queued() == 1
    assert chaos.count() == 0
    await front.get("/a%20b/k")
    await front.idle()
    assert await front.queued() == 1, "one pull for one key"


@pytest.mark.parametrize(
    ("answer", "status", "code"), [("not_found", 404, b"NoSuchKey"), ("retry", 503, b"SlowDown")]
)
async def test_a28_a29_other_proxy_replies(mirror, start, answer, status, code):
    """A28, A29."""
    front = await start(mirror("proxy", answer={"proxy_reply": answer}))
    reply = await front.get("/k")
    assert reply.status == status
    assert code in reply.body
    assert reply.headers.get("retry-after") == ("2" if answer == "retry" else None)
    await front.idle()
    assert await front.queued() == 1


async def test_a30_a_key_known_to_be_absent_is_a_404_without_a_new_job(mirror, start):
    """A30."""
    front = await start(mirror("proxy"))
    await front.services.ledger.claims.mark_absent(front.bucket, ["k"], ttl_s=10)
    assert (await front.get("/k")).status == 404
    await front.idle()
    assert await front.queued() == 0


async def test_a31_an_origin_that_needs_a_credential_is_no_place_to_send_a_client(chaos, mirror, start):
    """A31."""
    front = await start(
        mirror("proxy", origin={"hosts": [{"host": chaos.host, "credential": "c"}]}),
        origin={"credentials": {"c": {"type": "bearer", "token": "t"}}},
    )
    reply = await front.get("/k")
    assert (reply.status, reply.headers["retry-after"]) == (503, "2")
    await front.idle()
    assert await front.queued() == 1


@pytest.mark.parametrize("how", ["refused", "hangs"])
async def test_a32_a_queue_that_is_away_never_delays_or_fails_the_redirect(mirror, start, monkeypatch, how):
    """A32."""
    front = await start(mirror("proxy"))

    async def away(*_, **__):
        if how == "hangs":
            await asyncio.sleep(3600)
        raise BrokerUnavailable("away")

    monkeypatch.setattr(front.services.dispatcher, "dispatch_planned", away)
    for number in range(3):
        began = time.monotonic()
        assert (await front.get(f"/k{number}")).status == 302
        assert time.monotonic() - began < 1
    if how == "refused":
        assert any(what == "enqueue_failed" for what, _, _ in front.gateway.parts.stats.totals)


async def test_a_full_queue_is_503_for_proxy_and_nothing_for_mirror(chaos, mirror, start, monkeypatch):
    """Queue depth bound: over it Mirror goes on, Proxy answers 503."""
    chaos.put("/m/k", BODY)
    front = await start(
        mirror("proxy", name="p", when={"prefix": "p/"}), mirror(name="m", when={"prefix": "m/"})
    )

    async def full(*_, **__):
        raise QueueFull("full")

    monkeypatch.setattr(front.services.dispatcher, "dispatch_planned", full)
    assert (await front.get("/p/k")).status == 503
    assert (await front.get("/m/k")).body == BODY


async def test_a_slow_store_never_delays_the_redirect(mirror, start, monkeypatch):
    """Issue: a store that is slow never delays the redirect."""
    front = await start(mirror("proxy"), gateway={"listen": "127.0.0.1:0", "proxy_lookup_s": 0.2})

    async def slow(*_, **__):
        await asyncio.sleep(3600)

    monkeypatch.setattr(front.services.store, "get", slow)
    began = time.monotonic()
    assert (await front.get("/k")).status == 302
    assert time.monotonic() - began < 1.5


async def test_a_queued_pull_carries_no_cookie_h9(chaos, mirror, start, monkeypatch):
    """H9, for Proxy and for a Mirror pull that is given away."""
    front = await start(
        mirror("proxy", name="p", when={"prefix": "p/"}, request={"pass": ["Cookie", "X-A"]}),
        mirror(name="m", when={"prefix": "m/"}, request={"pass": ["Cookie", "X-A"]}),
    )
    seen = []

    async def record(plan, item, **_):
        seen.append((item.key, dict(plan.headers)))
        return ClaimState.CLAIMED

    monkeypatch.setattr(front.services.dispatcher, "dispatch_planned", record)
    await front.get("/p/k", {"Cookie": "secret=1", "X-A": "a"})
    chaos.script("/m/k", "hangup")
    await front.get("/m/k", {"Cookie": "secret=1", "X-A": "a"})
    await front.idle()
    assert chaos.asked("/m/k")[0].header("cookie") == "secret=1"
    assert [key for key, _ in seen] == ["p/k", "m/k"]
    assert all({name.lower() for name in headers} == {"x-a"} for _, headers in seen)


# ------------------------------------------------------------ Redirect


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a33_a_redirect_rule_only_redirects(chaos, mirror, start, method):
    """A33."""
    front = await start(
        mirror("redirect", when={"prefix": "img/"}, path={"fixed": "none.png"}, answer={"redirect_code": 307})
    )
    reply = await front.request(method, "/img/1.png")
    assert (reply.status, reply.body) == (307, b"")
    assert reply.headers["location"] == f"http://{chaos.host}/none.png"
    await front.idle()
    assert await front.queued() == 0
    assert await front.stored("img/1.png") is None
    assert chaos.count() == 0


async def test_a34_without_a_match_the_stores_own_answer(mirror, start):
    """A34, section 2.6."""
    front = await start(mirror("redirect", when={"prefix": "img/"}))
    reply = await front.get("/other")
    assert reply.status == 404
    assert b"NoSuchKey" in reply.body


async def test_a_redirect_on_another_status_needs_that_status_from_the_store(mirror, start):
    """F4, 2.5: the store's real answer decides, or what a trusted gateway saw."""
    rule = mirror("redirect", when={"status": [403, "5xx"]})
    trusting = await start(rule, gateway={"listen": "127.0.0.1:0", "trusted_proxies": ["127.0.0.0/8"]})
    assert (await trusting.get("/k")).status == 404
    assert (await trusting.get("/k", {"X-Ferryman-Status": "403"})).status == 302
    assert (await trusting.get("/k", {"X-Ferryman-Status": "502"})).status == 302
    assert (await trusting.get("/k", {"X-Ferryman-Status": "404"})).status == 404


async def test_a_status_header_of_an_untrusted_client_is_ignored(mirror, start):
    """2.5."""
    front = await start(mirror("redirect", when={"status": [403]}))
    assert (await front.get("/k", {"X-Ferryman-Status": "403"})).status == 404


async def test_any_is_evaluated_without_a_look_up(mirror, start, monkeypatch):
    """2.5."""
    front = await start(mirror("redirect", when={"status": ["any"]}))

    async def never(*_, **__):
        raise AssertionError("the store was asked")

    monkeypatch.setattr(front.services.store, "get", never)
    assert (await front.get("/k")).status == 302


# ------------------------------------------------------------ HEAD


@pytest.mark.parametrize("kind", ["mirror", "proxy"])
async def test_a35_head_of_a_missing_key_triggers_nothing(chaos, mirror, start, kind):
    """A35."""
    chaos.put("/k", BODY)
    front = await start(mirror(kind))
    reply = await front.head("/k")
    assert (reply.status, reply.body) == (404, b"")
    await front.idle()
    assert await front.queued() == 0
    assert chaos.count() == 0


async def test_a21_a_head_is_judged_by_the_origins_validators(chaos, mirror, start):
    """A21, A36: whether the origin is asked or a pull is running."""
    chaos.put("/k", BODY, [("ETag", '"e"')])
    chaos.put("/slow", BODY, [("ETag", '"e"')])
    chaos.script("/slow", "slow_body,step=1000,interval=0.1")
    front = await start(mirror(answer={"allow_head": True}))
    running = asyncio.create_task(front.get("/slow"))

    async def opened():
        fill = front.gateway.parts.herd.running(front.bucket, "slow")
        return fill is not None and fill.opened is not None

    await until(opened)
    for path in ("/k", "/slow"):
        for tag, status in (('"e"', 200), ('"x"', 412)):
            reply = await front.head(path, {"If-Match": tag})
            assert (reply.status, reply.body) == (status, b""), (path, tag)
    assert chaos.count("/slow") == 1
    running.cancel()


@pytest.mark.parametrize("step", ["ok", "no_head,code=405", "no_head,code=501"])
async def test_a36_allowed_head_is_asked_from_the_origin(chaos, mirror, start, step):
    """A36."""
    chaos.put("/k", BODY, [("Content-Type", "image/png"), ("ETag", '"e"')])
    chaos.script("/k", step)
    front = await start(mirror(answer={"allow_head": True}))
    reply = await front.head("/k")
    assert reply.status == 200
    assert reply.headers["content-length"] == str(len(BODY))
    assert reply.headers["content-type"] == "image/png"
    assert reply.headers["etag"] == '"e"'
    assert reply.headers["x-ferryman-stored"] == "false"
    assert reply.headers["x-oss-tag"].startswith("MIRROR http")
    await front.idle()
    assert await front.queued() == 0
    assert await front.stored("k") is None


@pytest.mark.parametrize(
    ("step", "status"), [("status,code=404", 404), ("status,code=500", 424), ("hangup", 424)]
)
async def test_a37_an_allowed_head_that_fails(chaos, mirror, start, step, status):
    """A37."""
    chaos.script("/k", step)
    front = await start(mirror(answer={"allow_head": True}))
    reply = await front.head("/k")
    assert (reply.status, reply.body) == (status, b"")


async def test_a37_what_head_denies_is_not_absent_for_a_get_or_an_event(chaos, mirror, start):
    """A37: HEAD 404, GET 200."""
    chaos.put("/k", BODY)
    chaos.put("/event", BODY)
    for path in ("/k", "/event"):
        chaos.script(path, "status,code=404", "status,code=404")
    front = await start(mirror(answer={"allow_head": True, "absent_ttl_s": 600}))
    for path in ("/k", "/event"):
        assert (await front.head(path)).status == 404
        asked = chaos.count(path)
        assert (await front.head(path)).status == 404
        assert chaos.count(path) == asked, "another HEAD is not asked from the origin again"
        chaos.script(path)
    report = await front.services.dispatcher.dispatch(
        [MissEvent(bucket=front.bucket, key="event")], lane=Lane.HOT
    )
    assert (report.accepted, report.absent) == (1, 0), report
    reply = await front.get("/k")
    assert (reply.status, reply.body) == (200, BODY)
    await front.idle()
    assert await front.stored("k") is not None


async def test_a_failure_is_listed_no_more_once_a_front_has_stored_the_key(chaos, mirror, start):
    chaos.put("/k", BODY)
    front = await start(mirror())
    failures = front.services.ledger.failures
    await failures.add(
        [
            Failure(bucket=front.bucket, key=key, reason="origin_status", message="500", rule="r")
            for key in ("k", "other")
        ]
    )
    assert (await front.get("/k")).status == 200
    await front.idle()

    async def settled():
        return [failure.key async for failure in failures.iterate(front.bucket)] == ["other"]

    await until(settled)


# ------------------------------------------------------------ what is never served


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE", "PATCH", "OPTIONS"])
async def test_writes_are_refused_with_a_clear_text(mirror, start, method):
    """W8, issue item 6."""
    front = await start(mirror())
    reply = await front.request(method, "/k")
    assert reply.status == 405
    assert b"<Code>MethodNotAllowed</Code>" in reply.body
    assert b"to write, sign with one of gateway.access_keys" in reply.body
    assert reply.headers["allow"] == "GET, HEAD"


async def test_only_configured_buckets_exist_and_nothing_of_our_own_is_served(chaos, mirror, start):
    """Fact 13."""
    front = await start(mirror())
    reply = await front.get("/k", bucket="another-bucket")
    assert reply.status == 404
    assert b"NoSuchBucket" in reply.body
    await front.services.store.put_small(front.bucket, ".ferryman/report.json", b"{}", content_type="a/b")
    for path in ("/.ferryman/report.json", "/%2eferryman/report.json", "//.ferryman/report.json"):
        assert (await front.get(path)).status == 404, path
    assert chaos.count() == 0


@pytest.mark.parametrize("path", ["/", "", "/%FF", "/a%00b"])
async def test_a_path_that_names_no_object_is_400(mirror, start, path):
    """Section 3.1."""
    front = await start(mirror())
    raw = await front.raw_get(path)
    assert raw.status == 400
    assert b"<Code>InvalidURI</Code>" in raw.body


async def test_a_key_over_1024_bytes_is_400(mirror, start):
    """L8."""
    front = await start(mirror())
    reply = await front.get("/" + "k" * 1025)
    assert reply.status == 400
    assert b"KeyTooLongError" in reply.body


async def test_a_bucket_by_host_and_a_scheme_by_a_trusted_proxy(chaos, mirror, start):
    """Bucket lookup; 3.4."""
    front = await start(
        mirror("redirect", request={"protocol": "follow"}),
        gateway={"listen": "127.0.0.1:0", "trusted_proxies": ["127.0.0.1/32"]},
        bucket_settings={"hosts": ["files.example"]},
    )
    raw = await front.raw(
        b"GET /k HTTP/1.1\r\nHost: files.example:8080\r\n"
        b"X-Forwarded-Proto: https\r\nConnection: close\r\n\r\n"
    )
    assert raw.status == 302
    assert f"location: https://{chaos.host}/k".encode() in raw.head


async def test_a_signed_bucket_wants_a_signature(chaos, mirror, start):
    """Access per bucket; a presigned URL of boto3 reads through the gateway."""
    boto3 = pytest.importorskip("boto3")
    from botocore.config import Config

    chaos.put("/k", BODY)
    front = await start(
        mirror(),
        gateway={"listen": "127.0.0.1:0", "access_keys": [{"id": "reader", "secret": "s3cret"}]},
        bucket_settings={"access": "signed"},
    )
    assert (await front.get("/k")).status == 403
    assert chaos.count() == 0

    def read(secret):
        client = boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{front.port}",
            aws_access_key_id="reader",
            aws_secret_access_key=secret,
            region_name="us-east-1",
            config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}),
        )
        body = client.get_object(Bucket=front.bucket, Key="k")["Body"].read()
        client.close()
        return body

    assert await asyncio.to_thread(read, "s3cret") == BODY
    with pytest.raises(Exception, match="SignatureDoesNotMatch"):
        await asyncio.to_thread(read, "wrong")


async def test_boto3_and_curl_read_through_the_gateway(chaos, mirror, start, tmp_path):
    """Issue: boto3 get_object, download_file with allow_head, curl with a range."""
    boto3 = pytest.importorskip("boto3")
    from botocore.config import Config

    chaos.put("/a b+c/中.txt", BODY)
    chaos.put("/d", BODY * 200)
    front = await start(mirror(answer={"allow_head": True}))

    def read():
        client = boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{front.port}",
            aws_access_key_id="any",
            aws_secret_access_key="any",
            region_name="us-east-1",
            config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}),
        )
        first = client.get_object(Bucket=front.bucket, Key="a b+c/中.txt")["Body"].read()
        client.download_file(front.bucket, "d", str(tmp_path / "d"))
        with pytest.raises(client.exceptions.NoSuchKey):
            client.get_object(Bucket=front.bucket, Key="none")
        client.close()
        return first

    assert await asyncio.to_thread(read) == BODY
    assert (tmp_path / "d").read_bytes() == BODY * 200

    async def curl(*arguments):
        process = await asyncio.create_subprocess_exec(
            "curl",
            "-sS",
            *arguments,
            str(front.url("/a%20b%2Bc/%E4%B8%AD.txt")),
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate()
        return process.returncode, out

    assert await curl() == (0, BODY)
    assert await curl("-r", "10-19") == (0, BODY[10:20])
    assert await curl("--compressed", "--http2") == (0, BODY)


async def test_a_rule_document_goes_in_and_works_at_once(chaos, start):
    """W1, W2: `?origin` on the gateway's own port."""
    chaos.put("/k", BODY)
    front = await start(origin={"allow_networks": ["127.0.0.0/8"]})
    assert (await front.get("/k")).status == 404
    document = (
        "<OriginConfiguration><OriginRule><OriginType>Mirror</OriginType><OriginInfo><HostInfo>"
        f"<HostName>{chaos.host}</HostName></HostInfo></OriginInfo></OriginRule></OriginConfiguration>"
    )
    put = await front.request("PUT", "?origin", data=document.encode())
    assert put.status == 200, put.body

    async def served():
        return (await front.get("/k")).status == 200 or None

    await until(served)
