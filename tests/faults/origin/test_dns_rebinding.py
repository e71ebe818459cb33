"""Names whose answer changes between two look-ups, resolved by the system and asked over real sockets.

A program in a network of its own, where a resolver of ours answers and public addresses are the machine's.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from support.origin.fetching import QUICK, rig
from support.real import skip_or_fail
from workers.errors import AddressRefused, OriginsExhausted
from workers.plan import FetchPlan, Origin, OriginGroup
from workers.settings import OriginSettings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

pytestmark = pytest.mark.real

PUBLIC, INNER, METADATA = "93.184.216.34", "127.0.0.1", "169.254.169.254"
#: A public address at which nobody listens.
CLOSED = "93.184.216.35"
#: Name -> what each look-up of it answers; the last one from then on.
NAMES: Mapping[str, list[list[str]]] = {
    "turns.example": [[PUBLIC], [INNER]],
    "metadata.example": [[PUBLIC], [METADATA]],
    "back.example": [[INNER], [PUBLIC]],
    "both.example": [[INNER, CLOSED, METADATA]],
    "inner.example": [[INNER]],
    "redirects.example": [[PUBLIC]],
    "late.example": [[PUBLIC], [INNER]],
}
_RUN = (
    "ip link set lo up && ip address add {public}/32 dev lo && ip address add {closed}/32 dev lo && "
    "ip address add {metadata}/32 dev lo && mount --bind {folder}/resolv.conf /etc/resolv.conf && "
    "exec {python} {file}"
)


def test_a_name_that_turns_inwards_after_its_first_look_up_is_not_followed(tmp_path):
    """B11; what is judged is the address that is connected to, at every connection."""
    found = _in_a_network_of_its_own(tmp_path)
    assert found["turns.example"] == ["public", "refused", "refused"]
    assert found["metadata.example"] == ["public", "refused", "refused"]
    assert found["back.example"] == ["refused", "public", "public"]
    assert found["both.example"] == ["refused", "refused", "refused"]
    assert found["inner.example"] == ["refused"] * 3
    assert found["redirects.example"] == ["refused"] * 3  # it names late.example, whose second look-up it is
    assert found["asked within"] == 0
    assert found["looked up"]["turns.example"] >= 3
    # Where the configuration allows that network, it is the same name that is followed.
    assert found["allowed"] == ["public", "within", "within"]
    assert found["allowed, metadata"] == ["public", "refused", "refused"]


def _in_a_network_of_its_own(folder: Path) -> dict[str, Any]:
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        skip_or_fail("unshare and ip are needed (apt-get install util-linux iproute2)")
    (folder / "resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
    script = _RUN.format(
        public=PUBLIC, closed=CLOSED, metadata=METADATA, folder=folder, python=sys.executable, file=__file__
    )
    rights = [] if os.geteuid() == 0 else ["--map-root-user"]
    done = subprocess.run(
        ["unshare", "--net", "--mount", *rights, "sh", "-c", script],
        capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    if done.returncode != 0 and "unshare failed" in done.stderr:
        # A right, which no package brings.
        pytest.skip(f"no network of its own here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


# ---------------------------------------------------------------- within that network


class Resolver(threading.Thread):
    """A name server of one answer after the other (RFC 1035), over UDP."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 53))
        self.looked_up: dict[str, int] = {}

    def run(self) -> None:
        while True:
            query, client = self.socket.recvfrom(4096)
            end = query.index(b"\0", 12)
            labels, at = [], 12
            while at < end:
                labels.append(query[at + 1 : at + 1 + query[at]].decode())
                at += 1 + query[at]
            name, (kind,) = ".".join(labels), struct.unpack("!H", query[end + 1 : end + 3])
            known = NAMES.get(name)
            answers = b""
            if known is not None and kind in {1, 28}:
                turn = self.looked_up.get(name, 0)
                now = known[min(turn, len(known) - 1)]
                if kind == 1:
                    self.looked_up[name] = turn + 1
                packed = [_packed(one) for one in now]
                answers = b"".join(
                    struct.pack("!HHHIH", 0xC00C, kind, 1, 0, len(one)) + one
                    for one in packed
                    if len(one) == (4 if kind == 1 else 16)
                )
            count = answers.count(b"\xc0\x0c")
            flags = 0x8180 if known is not None else 0x8183
            head = query[:2] + struct.pack("!HHHHH", flags, 1, count, 0, 0)
            self.socket.sendto(head + query[12 : end + 5] + answers, client)


def _packed(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def _serve(address: str, said: bytes) -> list[str]:
    """An origin on port 80 of an address; what it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            redirect = self.path == "/redirect"
            self.send_response(302 if redirect else 200)
            if redirect:
                self.send_header("Location", "http://late.example/x")
            self.send_header("Content-Length", "0" if redirect else str(len(said)))
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(b"" if redirect else said)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer((address, 80), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return asked


async def _ask(one: Any, name: str, path: str = "x") -> str:
    group = OriginGroup(primary=Origin(host=name, scheme="http"))
    plan = FetchPlan(bucket="b", rule="r", groups=(group,), timeouts=QUICK)
    for pool in one.client._pools.values():
        pool.connector.clear_dns_cache()
    try:
        body: bytes = (await one.get(plan, path)).body
    except OriginsExhausted as error:
        return "refused" if isinstance(error.last, AddressRefused) else repr(error.last)
    return body.decode()


async def _main() -> dict[str, Any]:
    resolver = Resolver()
    resolver.start()
    _serve(PUBLIC, b"public")
    within = [*map(_serve, (INNER, METADATA), (b"within", b"metadata"))]
    found: dict[str, Any] = {}
    async with rig() as one:
        await _ask(one, "late.example")  # its first look-up
        for name in NAMES.keys() - {"late.example"}:
            path = "redirect" if name == "redirects.example" else "x"
            found[name] = [await _ask(one, name, path) for _ in range(3)]
    found["asked within"] = sum(map(len, within))
    found["looked up"] = dict(resolver.looked_up)
    resolver.looked_up.clear()
    async with rig(OriginSettings(allow_networks=("127.0.0.0/8",))) as one:
        found["allowed"] = [await _ask(one, "turns.example") for _ in range(3)]
        found["allowed, metadata"] = [await _ask(one, "metadata.example") for _ in range(3)]
    return found


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(_main())) + "\n")
