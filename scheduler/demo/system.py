"""The demo's installation: its directory, its configuration, and `ferryman up` as a child process.

Owns ports and files of one demo run. What is shown with them is `steps`'.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from typing import IO, TYPE_CHECKING

import httpx
import yaml

import workers.lifeline
from scheduler.config.data_dir import TOKEN_FILE, read_json
from scheduler.machine.embedded import CREDENTIALS_FILE
from workers.errors import FerrymanError

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any, Self

#: Seconds that everything may take to be up, on a slow machine.
_START_S = 180.0
_STOP_S = 60.0
#: What a demo directory holds that this program made; only such a directory is emptied.
_MARK = ".ferryman-demo"


class DemoFailed(FerrymanError):
    """Something in the demo was not as it must be."""


class System:
    """A running `ferryman up` on its own directory and ports; leaving the context stops it in order."""

    def __init__(self, root: Path, *, gateway: int, admin: int) -> None:
        self.root = root
        self.data_dir = root / "data"
        self.config = root / "config.yaml"
        self.log = root / "up.log"
        self.gateway = f"http://127.0.0.1:{gateway}"
        self.admin = f"http://127.0.0.1:{admin}"
        self._ports = (gateway, admin)
        self._process: subprocess.Popen[bytes] | None = None
        self._output: IO[bytes] | None = None

    @property
    def token(self) -> str:
        """The admin token, as `ferryman up` generated it."""
        return (self.data_dir / TOKEN_FILE).read_text(encoding="utf-8").strip()

    def client_key(self) -> tuple[str, str] | None:
        """Id and secret of the S3 clients' key, as `ferryman up` generated it."""
        found = read_json(self.data_dir / CREDENTIALS_FILE)
        if "client_access_key_id" not in found:
            return None
        return str(found["client_access_key_id"]), str(found["client_secret_access_key"])

    def write_config(self, sections: dict[str, Any], *, notice: str = "") -> None:
        """Write config.yaml: these sections, our own addresses, and what the page says at its top."""
        gateway, admin = self._ports
        document = {
            "data_dir": str(self.data_dir),
            "gateway": {"listen": f"127.0.0.1:{gateway}"},
            "admin": {"listen": f"127.0.0.1:{admin}", "notice": notice},
            **sections,
        }
        text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
        self.config.write_text(f"# Written by `ferryman demo`.\n{text}", encoding="utf-8")

    async def __aenter__(self) -> Self:
        self._output = self.log.open("wb")
        self._process = subprocess.Popen(  # noqa: ASYNC220 -- once, and its end is polled
            [
                sys.executable, "-I", "-S", workers.lifeline.__file__, str(os.getpid()),
                *self.command("up"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )  # fmt: skip
        try:
            await self._wait_until_up()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def command(self, name: str, *arguments: str) -> list[str]:
        """The command line of `ferryman NAME --config …`."""
        return [sys.executable, "-P", "-m", "scheduler.cli", name, *arguments, "--config", str(self.config)]

    async def run(self, name: str, *arguments: str, timeout_s: float = 120.0) -> str:
        """Run a command as an operator would; its standard output.

        Raises:
            DemoFailed: it ended with another code than 0, with what it said.
        """
        process = await asyncio.create_subprocess_exec(
            *self.command(name, *arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        try:
            out, err = await asyncio.wait_for(process.communicate(), timeout_s)
        except TimeoutError:
            process.kill()
            await process.wait()
            msg = f"`ferryman {name} {' '.join(arguments)}` did not end within {timeout_s:.0f} s"
            raise DemoFailed(msg) from None
        if process.returncode != 0:
            said = (err or out).decode(errors="replace").strip()
            msg = f"`ferryman {name} {' '.join(arguments)}` ended with {process.returncode}:\n{said}"
            raise DemoFailed(msg)
        return out.decode()

    def tail(self, lines: int = 30) -> str:
        """The last lines that `ferryman up` said."""
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])

    async def stop(self) -> int | None:
        """SIGINT as Ctrl-C sends it, and wait; the exit code."""
        process = self._process
        if process is None:
            return None
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            deadline = asyncio.get_running_loop().time() + _STOP_S
            while process.poll() is None:
                if asyncio.get_running_loop().time() > deadline:
                    process.kill()
                    process.wait()
                    break
                await asyncio.sleep(0.05)
        if self._output is not None:
            self._output.close()
        return process.returncode

    async def _wait_until_up(self) -> None:
        assert self._process is not None
        deadline = asyncio.get_running_loop().time() + _START_S
        async with httpx.AsyncClient(timeout=5.0, trust_env=False) as client:
            while True:
                if self._process.poll() is not None:
                    msg = f"`ferryman up` ended with {self._process.returncode}:\n{self.tail()}"
                    raise DemoFailed(msg)
                with contextlib.suppress(httpx.HTTPError):
                    alive = await client.get(f"{self.admin}/healthz")
                    if alive.status_code == 200 and "Ctrl-C stops" in self.tail():
                        return
                if asyncio.get_running_loop().time() > deadline:
                    msg = f"`ferryman up` was not ready within {_START_S:.0f} s:\n{self.tail()}"
                    raise DemoFailed(msg)
                await asyncio.sleep(0.1)


def fresh_directory(root: Path) -> None:
    """An empty demo directory; what an earlier demo left in it is removed.

    Raises:
        DemoFailed: the directory holds something that no demo made, or cannot be written.
    """
    try:
        _make_fresh(root)
    except OSError as error:
        raise DemoFailed(f"{root}: {error.strerror}; choose another with --dir") from error


def _make_fresh(root: Path) -> None:
    if root.exists() and any(root.iterdir()):
        if not (root / _MARK).exists():
            msg = f"{root} is not empty and was not made by a demo: choose another with --dir"
            raise DemoFailed(msg)
        shutil.rmtree(root)
    root.mkdir(parents=True, exist_ok=True)
    (root / _MARK).touch()


def port_or_free(preferred: int) -> int:
    """The preferred loopback port when nobody has it, else any free one."""
    for port in (preferred, 0):
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
            found: int = sock.getsockname()[1]
            return found
    msg = "no free port on 127.0.0.1"
    raise DemoFailed(msg)
