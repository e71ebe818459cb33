"""One request from the client over front and worker to the stored object; and what no log may hold."""

from __future__ import annotations

import asyncio
import json
import urllib.request

import pytest

from scheduler.config.load import load_settings
from scheduler.machine.embedded import resolve_running
from support.installation import fetch, running_origin, running_up, until
from support.patience import PATIENCE_S
from workers.store.client import ObjectStore

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def origin():
    with running_origin() as server:
        server.bodies.update({name: name.encode() for name in ("asked", "told", "logged")})
        yield server


@pytest.fixture(scope="module")
def up(tmp_path_factory, origin):
    """An installation with secrets in its configuration and a log to follow."""
    root = tmp_path_factory.mktemp("traced")
    (root / "access.log").touch()
    (root / "my.yaml").write_text(
        "admin: {token: HIDDEN-ADMIN}\n"
        "gateway: {access_keys: [{id: AKID, secret: HIDDEN-KEY}]}\n"
        "origin: {credentials: {b: {type: bearer, token: HIDDEN-BEARER}}}\n"
        f"consume: [{{path: {root}/access.log, format: '$request_id \"$request\" $status', bucket: site}}]\n"
        "log: {format: json, level: debug}\n"
    )
    with running_up(root, origin.url, extra=("--config", str(root / "my.yaml"))) as up:
        yield up


def lines(up, text: str) -> list[dict[str, object]]:
    """Log lines that hold `text`: what grep would show."""
    return [json.loads(line) for line in up.output.splitlines() if line.startswith("{") and text in line]


def stored_attempt(up, key: str) -> str | None:
    """`ferryman-attempt` of an object in the store."""

    async def look() -> str | None:
        settings = resolve_running(load_settings(None, env={"FERRYMAN_DATA_DIR": str(up.data_dir)}))
        async with ObjectStore(settings.store, settings.limits) as store:
            info = await store.head("site", key)
            return None if info is None else info.user_meta.get("ferryman-attempt")

    return asyncio.run(look())


def test_a_client_s_request_id_leads_to_the_object_that_the_front_stored(up):
    request = urllib.request.Request(
        f"{up.gateway}/site/asked?sig=HIDDEN-QUERY", headers={"X-Request-Id": "trace-of-a-client"}
    )
    status, headers, _ = fetch(request, PATIENCE_S)
    assert status == 200
    until(lambda: lines(up, "trace-of-a-client"), "the front told of it")
    (line,) = lines(up, "trace-of-a-client")
    assert (line["event"], line["outcome"], line["key"]) == ("pull_done", "stored", "asked")
    assert line["answer_id"] == headers["x-amz-request-id"]
    assert line["attempt"] == stored_attempt(up, "asked")


def test_a_sender_s_request_id_leads_to_the_object_that_a_worker_stored(up):
    request = urllib.request.Request(
        f"{up.admin}/v1/miss-events",
        data=b'{"bucket": "site", "key": "told"}',
        headers={
            "Authorization": "Bearer HIDDEN-ADMIN",
            "Content-Type": "application/json",
            "X-Request-Id": "trace-of-a-sender",
        },
    )
    assert fetch(request, PATIENCE_S)[0] == 202
    until(lambda: lines(up, "trace-of-a-sender"), "the worker told of it")
    (line,) = lines(up, "trace-of-a-sender")
    assert (line["event"], line["outcome"], line["key"]) == ("item_done", "stored", "told")
    assert line["attempt"] == stored_attempt(up, "told")


def test_a_gateway_s_request_id_in_its_log_leads_to_the_object(up):
    reads = "ferryman_consumer_lag_bytes{"
    until(lambda: reads in up.ask("/metrics", token="HIDDEN-ADMIN")[2].decode(), "the log is followed")
    with (up.root / "access.log").open("a") as log:
        log.write('trace-of-nginx "GET /logged?token=HIDDEN-QUERY HTTP/1.1" 404\n')
        log.write('trace-of-nginx "GET /broken?token=HIDDEN-QUERY\n')
    mine = '"request_id":"trace-of-nginx"'
    until(lambda: lines(up, mine), "the worker told of it")
    (line,) = lines(up, mine)
    assert (line["event"], line["outcome"], line["key"]) == ("item_done", "stored", "logged")
    assert line["attempt"] == stored_attempt(up, "logged")


def test_no_log_holds_a_secret_or_a_query_string(up):
    """Last in the file: after every kind of request above, one that fails, and a wrong token."""
    fetch(urllib.request.Request(f"{up.gateway}/site/nowhere?sig=HIDDEN-QUERY"), PATIENCE_S)
    fetch(urllib.request.Request(f"{up.admin}/?token=HIDDEN-ADMIN"), PATIENCE_S)
    fetch(urllib.request.Request(f"{up.admin}/%ff?token=HIDDEN-ADMIN"), PATIENCE_S)
    assert up.output.count("{") > 10
    texts = [up.output, *(path.read_text(errors="replace") for path in (up.data_dir / "logs").iterdir())]
    assert not [line for text in texts for line in text.splitlines() if "HIDDEN" in line]
