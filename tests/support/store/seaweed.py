"""A real SeaweedFS for the tests: `weed mini` from its wheel, every port given by name."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from scheduler.config.ports import free_ports
from support.processes import ServerDidNotStart, running

if TYPE_CHECKING:
    from collections.abc import Iterator

WEED = Path(sys.prefix) / "bin" / "weed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seaweed:
    """Where the server is and how to sign for it."""

    endpoint: str
    access_key_id: str
    secret_access_key: str
    #: Process id, for tests that stop or measure it.
    pid: int
    #: Base URL of its master server.
    master: str

    def make_room(self, bucket: str) -> None:
        """Have a volume for a bucket that is not there yet: its first object would wait 0.2 s for one."""
        order = f"{self.master}/vol/grow?collection={bucket}&replication=000&count=1"
        with urllib.request.urlopen(order, timeout=30):
            pass


def _ready(endpoint: str) -> bool:
    # An anonymous request is answered 403 once the gateway has its identities and its filer.
    try:
        with urllib.request.urlopen(endpoint, timeout=1):
            return True
    except urllib.error.HTTPError as error:
        with error:
            return error.code == 403
    except (OSError, ValueError):
        return False


def weed_arguments(directory: Path, ports: list[int]) -> list[str]:
    """The command line; needs 12 ports, the first is the S3 endpoint's."""
    (
        s3,
        s3_grpc,
        master,
        master_grpc,
        volume,
        volume_grpc,
        filer,
        filer_grpc,
        admin,
        admin_grpc,
        debug,
        public,
    ) = ports
    return [
        str(WEED), "-alsologtostderr=false", "-logtostderr=true", "mini",
        f"-dir={directory}",
        "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false", "-webdav=false", "-admin.ui=false",
        "-s3.port.iceberg=0", "-s3.port.lance=0", "-volume.max=4000", "-master.volumeSizeLimitMB=256",
        f"-s3.port={s3}", f"-s3.port.grpc={s3_grpc}",
        f"-master.port={master}", f"-master.port.grpc={master_grpc}",
        f"-volume.port={volume}", f"-volume.port.grpc={volume_grpc}", f"-volume.port.public={public}",
        f"-filer.port={filer}", f"-filer.port.grpc={filer_grpc}",
        f"-admin.port={admin}", f"-admin.port.grpc={admin_grpc}", f"-debug.port={debug}",
        f"-filer.localSocket={directory}/filer.sock", f"-s3.localSocket={directory}/s3.sock",
    ]  # fmt: skip


@contextlib.contextmanager
def running_seaweed() -> Iterator[Seaweed]:
    """A fresh, empty store that ends with the block (and with this process, however it ends)."""
    key, secret = "ferryman-test", "ferryman-test-secret"
    for last in (False, False, True):
        with tempfile.TemporaryDirectory(prefix="seaweed-") as name, contextlib.ExitStack() as stack:
            ports = free_ports(12)
            endpoint = f"http://127.0.0.1:{ports[0]}"
            env = {
                **os.environ,
                "AWS_ACCESS_KEY_ID": key,
                "AWS_SECRET_ACCESS_KEY": secret,
                "GOMEMLIMIT": "512MiB",
                "TMPDIR": name,
            }
            try:
                process = stack.enter_context(
                    running(
                        weed_arguments(Path(name), ports),
                        log=Path(name) / "weed.log",
                        ready=lambda at=endpoint: _ready(at),
                        env=env,
                    ),
                )
            except ServerDidNotStart:
                if last:  # twice unlucky is a port that another process took in between; thrice is a fault
                    raise
                continue
            yield Seaweed(
                endpoint=endpoint,
                access_key_id=key,
                secret_access_key=secret,
                pid=process.pid,
                master=f"http://127.0.0.1:{ports[2]}",
            )
            return
