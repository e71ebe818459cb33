"""The misbehaving origin does what it says, so that what is tested against it means something."""

import asyncio
import contextlib
import json
import urllib.request

import pytest
from click.testing import CliRunner

from scheduler.chaos.catalogue import CATALOGUE
from scheduler.chaos.content import generated_body
from scheduler.commands.chaos_origin import command
from support.origin.chaos import ChaosOrigin


async def wire(origin, target, *, method="GET", headers="", limit_s=2.0):
    """Everything that one request brings until the origin closes or falls silent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", origin.port)
    writer.write(f"{method} {target} HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode())
    got = b""
    with contextlib.suppress(TimeoutError, ConnectionError):
        async with asyncio.timeout(limit_s):
            while data := await reader.read(65536):
                got += data
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    head, _, body = got.partition(b"\r\n\r\n")
    return head.decode("latin-1"), body


CLOSE = "Connection: close\r\n"


@pytest.fixture
async def origin():
    async with ChaosOrigin() as made:
        yield made


async def test_a_good_answer_has_length_validators_and_ranges(origin):
    head, body = await wire(origin, "/ok,size=100/a", headers=CLOSE)
    assert "Content-Length: 100" in head
    assert "ETag:" in head
    assert body == origin.body("/a", 100) == generated_body("/a", 100)
    head, body = await wire(origin, "/ok,size=100/a", headers=CLOSE + "Range: bytes=-10\r\n")
    assert head.startswith("HTTP/1.1 206")
    assert body == origin.body("/a", 100)[-10:]


@pytest.mark.parametrize(
    ("target", "in_head", "body_bytes"),
    [
        ("/truncate,at=7,size=100/a", "Content-Length: 100", 7),
        ("/wrong_length,by=-3,size=10/a", "Content-Length: 7", 10),
        ("/close,size=10/a", "Connection: close", 10),
        ("/partial,first=1,last=3,size=10/a", "Content-Range: bytes 1-3/10", 3),
        ("/status,code=418,body=tea/a", "418", 3),
        ("/throttle/a", "Retry-After: 2", 11),
        ("/redirect_metadata/a", "Location: http://169.254.169.254/", 0),
        ("/gzip_mislabelled,size=10/a", "Content-Encoding: gzip", 10),
        ("/nothing", "404", 10),
    ],
)
async def test_a_behaviour_is_wrong_in_exactly_the_way_it_says(origin, target, in_head, body_bytes):
    head, body = await wire(origin, target, headers=CLOSE)
    assert in_head in head
    assert len(body) == body_bytes


async def test_head_gets_no_body_from_any_behaviour(origin):
    for name in ("ok", "truncate", "gzip_unasked", "chunked", "error_page", "right_digest"):
        head, body = await wire(origin, f"/{name}/a", method="HEAD", headers=CLOSE)
        assert head.startswith("HTTP/1.1 200"), name
        assert body in {b"", b"0\r\n\r\n"} or name != "ok"


async def test_a_script_plays_its_steps_and_repeats_the_last(origin):
    origin.put("/k", b"fine")
    origin.script("/k", "status,code=503", "ok")
    heads = [(await wire(origin, "/k", headers=CLOSE))[0] for _ in range(3)]
    assert [head[9:12] for head in heads] == ["503", "200", "200"]
    assert [entry.behaviour for entry in origin.asked("/k")] == ["status", "ok", "ok"]


async def test_every_behaviour_has_a_summary_and_survives_a_request(origin):
    for name, known in CATALOGUE.items():
        assert known.summary.endswith("."), name
        target = f"/{name},seconds=0.05,interval=0.001,limit=1000,count=5,size=50,n=1/a"
        await wire(origin, target, headers=CLOSE, limit_s=0.3)
    assert origin.count() == len(CATALOGUE)


def test_the_log_scripts_and_objects_are_reachable_from_outside():
    def call(method, path, document=None):
        data = json.dumps(document).encode() if document is not None else None
        request = urllib.request.Request(origin.url(path), method=method, data=data)
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.read()

    with ChaosOrigin() as origin:
        call("PUT", "/_chaos/objects", {"path": "/o", "body": "text", "headers": [["ETag", '"e"']]})
        call("PUT", "/_chaos/scripts", {"path": "/s", "steps": ["ok,size=3"]})
        assert call("GET", "/o") == b"text"
        assert len(call("GET", "/s")) == 3
        log = json.loads(call("GET", "/_chaos/requests"))
        assert [(entry["path"], entry["status"], entry["sent_bytes"]) for entry in log] == [
            ("/o", 200, 4),
            ("/s", 200, 3),
        ]
        call("DELETE", "/_chaos/requests")
        assert json.loads(call("GET", "/_chaos/requests")) == []
        with pytest.raises(urllib.error.HTTPError) as caught:
            call("PUT", "/_chaos/scripts", {"path": "/s", "steps": ["no such thing"]})
        assert caught.value.code == 400
        caught.value.close()
        assert len(json.loads(call("GET", "/_chaos/behaviours"))) == len(CATALOGUE)


def test_files_below_a_folder_are_served_and_nothing_above_it(tmp_path):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "a.txt").write_text("inside")
    (tmp_path / "secret").write_text("outside")
    with ChaosOrigin(root=tmp_path / "site") as origin:
        with urllib.request.urlopen(origin.url("/a.txt"), timeout=5) as answer:
            assert answer.read() == b"inside"
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(origin.url("/%2e%2e/secret"), timeout=5)
        caught.value.close()


def test_the_command_lists_what_it_can_and_refuses_what_it_should():
    listed = CliRunner().invoke(command, ["--list"])
    assert listed.exit_code == 0
    assert "truncate" in listed.output
    named = json.loads(CliRunner().invoke(command, ["--list", "--json"]).output)
    assert {one["name"] for one in named} == set(CATALOGUE)
    for bad in (["--listen", "nowhere"], ["--listen", "0.0.0.0:0"], ["--script", "x=ok"]):
        assert CliRunner().invoke(command, bad).exit_code == 2
