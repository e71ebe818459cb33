"""The whole system as real processes on this machine, with a cable between any two that talk.

Owns how each part is started, hit and started again. The store's key looks like one that Ferryman generated:
it makes all cables lead to one and the same store in its eyes.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import redis
import yaml

from scheduler.config.ports import free_ports
from support.installation import descendants, ferryman, plain_environment
from support.store.seaweed import weed_arguments
from support.valkey import valkey_arguments
from torture.around.bucket import OldBucket
from torture.around.network import Cable, Loop
from torture.around.origins import OldServer
from torture.disk import Disk
from torture.layout import ACCESS_KEY, BUDGET, SECRET_KEY, TOKEN, settings_of
from torture.schedule import DOORS, LINKS, OLDER, ORIGINS, PARTS, SERVERS

if TYPE_CHECKING:
    from torture.oracle import Oracle

#: Seconds between two requests of one client, on average, where nothing else is said.
PAUSE_S: Final = 0.04
#: What runs inside each part.
_INSIDE: Final = Path(__file__).parent / "inside"


class System:
    """All parts; use as a context. `tree` is where the code that runs is taken from; None: from here.

    `older` is that of a version before; `pause_s` what people leave between two requests, on average.
    """

    def __init__(
        self,
        root: Path,
        oracle: Oracle,
        *,
        seed: int,
        tree: Path | None = None,
        older: Path | None = None,
        pause_s: float = PAUSE_S,
    ) -> None:
        self.root = root
        self.pause_s = pause_s
        self.oracle = oracle
        self.loop = Loop()
        self.origins: dict[str, OldServer] = {}
        self.cables: dict[str, Cable] = {}
        self.disk = Disk(root)
        self._seed = seed
        self._tree = tree
        self._older = older
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        redis_port, *store_ports, gateway_a, gateway_b, self.admin_a, self.admin_b = free_ports(17)
        self._redis_port, self._store_ports = redis_port, store_ports
        #: Where each door really is; people come by `doors`.
        self._behind = dict(zip(DOORS, (gateway_a, gateway_b, self.admin_a, self.admin_b), strict=True))

    # ------------------------------------------------------------------ start and end

    def __enter__(self) -> Self:
        for name in ("redis", "store"):
            (self.root / name).mkdir(parents=True)
        self.disk.mount()
        self.loop.run(self._lay())
        self._configure()
        for name in ("redis", "store"):
            self.start(name)
        self._until_ready(lambda: bool(self.direct_redis(0).ping()), "redis")
        self._until_ready(self._store_answers, "store")
        for name in PARTS:
            self.start(name)
        for port in (self.admin_a, self.admin_b):
            self._until_ready(lambda port=port: self.ask(port, "/readyz")[0] == 200, f"front at {port}")
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(30)
        for pid in self.orphans():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.loop.stop()
        self.disk.unmount()

    async def _lay(self) -> None:
        for name in ORIGINS:
            kind = OldBucket if name == "bucket" else OldServer
            self.origins[name] = kind(name, self.oracle, seed=self._seed, budget=BUDGET)
            await self.origins[name].start()
        self.oracle.behind = self.bucket.had
        ports = {"redis": self._redis_port, "store": self._store_ports[0]}
        ports |= {name: origin.port for name, origin in self.origins.items()} | self._behind
        for link in LINKS:
            cable = Cable(link, ("127.0.0.1", ports[link.partition(">")[2]]))
            await cable.lay()
            self.cables[link] = cable

    def _configure(self) -> None:
        settings = settings_of(self.root, self.disk, self.origins)
        (self.root / "config.yaml").write_text(yaml.safe_dump(settings))

    @property
    def bucket(self) -> OldBucket:
        """The origin that is written back to."""
        found = self.origins["bucket"]
        assert isinstance(found, OldBucket)
        return found

    # ------------------------------------------------------------------ processes

    def start(self, name: str) -> None:
        """Start a part or server that does not run."""
        if name in self._processes and self._processes[name].poll() is None:
            return
        command, environment = self._command(name)
        out_of = self.root / f"{name}.log" if name in SERVERS else self.disk.log_of(name)
        with out_of.open("ab") as out:
            self._processes[name] = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environment,
                cwd=self.root, start_new_session=True,
            )  # fmt: skip

    def environment(self, part: str | None = None, *, tree: Path | None = None) -> dict[str, str]:
        """Of a process of ours; without a part its ways are never broken."""
        tree = tree or self._tree
        plain = plain_environment()
        ports = {"redis": self._redis_port, "store": self._store_ports[0]}
        if part is not None:
            ports = {server: self.cables[f"{part}>{server}"].port for server in ports}
            ways = [f"{one.port}={self.cables[f'{part}>{name}'].port}" for name, one in self.origins.items()]
        paths = [str(tree)] if tree is not None else []
        if part is not None:
            plain |= {
                "TORTURE_CLOCK": str(self._clock(part)),
                "TORTURE_DATA": str(self.disk.data),
                "TORTURE_SYNCED": str(self.disk.synced),
                "TORTURE_WAYS": ",".join(ways),
            }
            paths.append(str(_INSIDE))
        if paths:
            plain["PYTHONPATH"] = os.pathsep.join(paths)
        return plain | {
            "FERRYMAN_CONFIG": str(self.root / "config.yaml"),
            "FERRYMAN_STORE__ENDPOINT": f"http://127.0.0.1:{ports['store']}",
            "FERRYMAN_BROKER__URL": f"redis://127.0.0.1:{ports['redis']}/0",
        }

    def _command(self, name: str) -> tuple[list[str], dict[str, str]]:
        if name == "redis":
            arguments = valkey_arguments(self.root / "redis", self._redis_port, appendfsync="always")
            return arguments, dict(os.environ)
        if name == "store":
            keys = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
            return weed_arguments(self.root / "store", self._store_ports), {
                **os.environ, **keys, "GOMEMLIMIT": "512MiB", "TMPDIR": str(self.root),
            }  # fmt: skip
        arguments = {
            "front-a": _front(self._behind["front-a"], self.admin_a),
            "front-b": _front(self._behind["front-b"], self.admin_b),
            "hot": _worker("hot"),
            "cold": _worker("cold"),
            "consumer": ["consume"],
            "scan": ["scan", "serve"],
            "older-hot": _worker("hot"),
            "older-cold": _worker("cold"),
        }[name]
        if name in OLDER:  # in the place of the new one's machine
            return ferryman(*arguments), self.environment(name.removeprefix("older-"), tree=self._older)
        return ferryman(*arguments), self.environment(name)

    def command(
        self, *arguments: str, timeout_s: float = 120.0, part: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command of ours, over ways that never break or those of a part; 124: not in time."""
        try:
            return subprocess.run(
                ferryman(*arguments), env=self.environment(part), cwd=self.root, check=False,
                capture_output=True, text=True, timeout=timeout_s, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        except subprocess.TimeoutExpired as late:
            return subprocess.CompletedProcess(late.cmd, 124, f"not within {timeout_s:.0f} s", "")

    def signal(self, name: str, number: int) -> None:
        """To the part and all its children."""
        with contextlib.suppress(ProcessLookupError, KeyError):
            os.killpg(self._processes[name].pid, number)

    def tell_tasks(self) -> None:
        """Each part writes into its log where its tasks wait."""
        for name in PARTS:
            self.signal(name, signal.SIGUSR2)
        time.sleep(2.0)

    def terminate(self, name: str) -> None:
        """As an orderly stop: to the parent only, which ends its children."""
        self._processes[name].terminate()

    def gone(self, name: str, timeout_s: float = 40.0) -> bool:
        """Whether it ends in time."""
        try:
            self._processes[name].wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def ended_with(self, name: str) -> int | None:
        """Its exit code; None while it runs."""
        return self._processes[name].poll()

    def runs(self, name: str) -> bool:
        """Whether it has not ended."""
        return self._processes[name].poll() is None

    def orphans(self) -> dict[int, str]:
        """Processes of ours whose part has ended, by their id: what each runs."""
        ours = f"FERRYMAN_CONFIG={self.root / 'config.yaml'}".encode()
        kept = descendants(os.getpid())
        found = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal() and int(entry.name) not in kept:
                with contextlib.suppress(OSError):
                    if ours in (entry / "environ").read_bytes().split(b"\0"):
                        command = (entry / "cmdline").read_bytes().replace(b"\0", b" ")
                        found[int(entry.name)] = command.decode(errors="replace")
        return found

    # ------------------------------------------------------------------ what else can be hit

    def direct_redis(self, database: int) -> redis.Redis:
        """Past all cables; one that is frozen is not waited for, as the next faults are due."""
        return redis.Redis(
            port=self._redis_port, db=database, socket_timeout=1, socket_connect_timeout=1, retry=None
        )

    def power_cut(self, seconds: float) -> None:
        """Redis comes back with what it had `seconds` ago; the oracle is told before anybody can ask it."""
        kept, place = self.root / "redis.kept", self.root / "redis" / "appendonlydir"
        shutil.rmtree(kept, ignore_errors=True)
        at = self.oracle.forgets()  # before the copy: more may be lost, never less
        shutil.copytree(place, kept)
        time.sleep(seconds)
        self.signal("redis", signal.SIGKILL)
        self.gone("redis")
        shutil.rmtree(place)
        shutil.move(kept, place)
        # What was promised or deleted meanwhile is forgotten; docs/reliability.md says so of `everysec`.
        self.oracle.forgotten(at)
        self.start("redis")

    def _clock(self, part: str) -> Path:
        return self.root / f"clock.{part}"

    def set_clock(self, part: str, wrong_s: float) -> None:
        """From now on the part and its children believe that it is so much later."""
        beside = self.root / f"clock.{part}.new"
        beside.write_text(str(wrong_s))
        beside.replace(self._clock(part))

    def lose_power(self, part: str) -> None:
        """Of what the part kept only that is left which had been flushed to the disk."""
        self.signal(part, signal.SIGKILL)
        self.gone(part)
        self.disk.lose_power()

    # ------------------------------------------------------------------ questions

    def door(self, name: str) -> int:
        """The port by which people come to a front; its way may be broken."""
        return self.cables[f"people>{name}"].port

    def ask(self, port: int, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """The admin side; -1 when nobody answers, or not to the end."""
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/x-ndjson"}
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data=body, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, b""
        except (OSError, http.client.HTTPException):
            return -1, b""

    @property
    def store_endpoint(self) -> str:
        """Past all cables."""
        return f"http://127.0.0.1:{self._store_ports[0]}"

    def _store_answers(self) -> bool:
        try:
            urllib.request.urlopen(self.store_endpoint, timeout=1).close()
        except urllib.error.HTTPError as error:
            with error:
                return error.code == 403
        return True

    def _until_ready(self, ready: Any, what: str) -> None:
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError, redis.RedisError):
                if ready():
                    return
            if time.monotonic() > deadline:
                raise TimeoutError(f"{what} is not ready; see {self.root}")
            time.sleep(0.1)


def _worker(lane: str) -> list[str]:
    return ["worker", "--lane", lane, "--processes", "1"]


def _front(gateway: int, admin: int) -> list[str]:
    return ["front", "--gateway-listen", f"127.0.0.1:{gateway}", "--admin-listen", f"127.0.0.1:{admin}"]
