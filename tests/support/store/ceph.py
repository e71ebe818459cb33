"""A real Ceph object gateway for the tests: monitor, manager, one OSD and RGW from Debian's packages.

Everything lies below one temporary directory, listens on the loopback address, runs in the foreground as a
child of the tests, and ends with them. From nothing to the first request it takes about 20 s.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.request
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from scheduler.config.ports import free_ports
from support.processes import running

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

#: What Debian 12 has it all in (16.2); `.ci/run` installs them.
PACKAGES = ("radosgw", "ceph-mon", "ceph-mgr", "ceph-osd", "ceph-common")
_PROGRAMS = ("ceph-mon", "ceph-mgr", "ceph-osd", "radosgw", "radosgw-admin", "monmaptool", "ceph")
_COMMAND_S = 90.0

_CONF = """\
[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{mon}/0]
public network = 127.0.0.0/8
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind ipv6 = false
auth cluster required = none
auth service required = none
auth client required = none
auth supported = none
run dir = {home}
admin socket = {home}/$name.asok
pid file =
log file = {home}/$name.log
crash dir = {home}/crash
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pgp num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon warn on pool no redundancy = false
mon max pg per osd = 1000
mon data avail warn = 1
mon data avail crit = 1
[mon.a]
mon data = {home}/mon.a
[mgr.x]
mgr data = {home}/mgr.x
mgr initial modules =
[osd.0]
osd data = {home}/osd.0
osd objectstore = bluestore
bluestore block create = true
bluestore block size = {block_bytes}
bluestore block db create = false
osd memory target = 939524096
[client.rgw]
rgw data = {home}/rgw
# It alone asks for a secure connection to the monitor, which needs cephx; else it waits for ever.
ms mon client mode = crc
auth client required = none
rgw frontends = beast endpoint=127.0.0.1:{rgw} ssl_endpoint=127.0.0.1:{rgw_tls} \
ssl_certificate={certificate} ssl_private_key={key}
rgw thread pool size = 64
rgw dns name = s3.localhost
rgw enable usage log = false
rgw crypt require ssl = false
rgw crypt s3 kms backend = testing
rgw crypt s3 kms encryption keys = {kms_key}={kms_secret}
"""

#: The file is sparse: it takes what is written.
_BLOCK_BYTES = 20 * 2**30
#: A key that `sse: aws:kms` may name.
KMS_KEY = "testkey-1"
_KMS_SECRET = "YmluCmJvb3N0CmJvb3N0LWJ1aWxkCmNlcGguY29uZgo="


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceph:
    """Where the gateway is and how to sign for it."""

    #: As `ceph --version` says it, `16.2.15` for example.
    version: str
    endpoint: str
    #: The same gateway by TLS; its certificate is for `s3.localhost` and all names below.
    endpoint_tls: str
    ca_file: Path
    access_key_id: str
    secret_access_key: str
    #: Configuration file, for `radosgw-admin`.
    conf: Path


def missing_programs() -> list[str]:
    """What of it is not installed."""
    return [name for name in _PROGRAMS if shutil.which(name) is None]


@contextlib.contextmanager
def running_ceph() -> Iterator[Ceph]:
    """A fresh, empty gateway that ends with the block (and with this process, however it ends)."""
    from support.certificates import Authority

    with tempfile.TemporaryDirectory(prefix="ceph-") as name, contextlib.ExitStack() as stack:
        home = Path(name)
        mon_port, rgw_port, tls_port = free_ports(3)
        for one in ("mon.a", "mgr.x", "osd.0", "rgw", "crash"):
            (home / one).mkdir()
        authority = Authority(home)
        certificate, key = authority.issue("rgw", "s3.localhost", "*.s3.localhost")
        conf = home / "ceph.conf"
        fsid = str(uuid.uuid4())
        conf.write_text(
            _CONF.format(
                fsid=fsid, home=home, mon=mon_port, rgw=rgw_port, rgw_tls=tls_port, block_bytes=_BLOCK_BYTES,
                certificate=certificate, key=key, kms_key=KMS_KEY, kms_secret=_KMS_SECRET,
            )
        )  # fmt: skip
        env = {**os.environ, "CEPH_CONF": str(conf)}

        def daemon(command: Sequence[str], log: str, ready: Sequence[str], wanted: str) -> None:
            stack.enter_context(
                running(
                    [*command, "-c", str(conf), "-f"],
                    log=home / f"{log}.out",
                    ready=lambda: wanted in _said(ready, env),
                    env=env,
                    timeout_s=_COMMAND_S,
                )
            )

        address = f"[v2:127.0.0.1:{mon_port}]"
        monmap = str(home / "monmap")
        _run(["monmaptool", "--create", "--clobber", "--fsid", fsid, "--addv", "a", address, monmap], env)
        _run(["ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap], env)
        daemon(["ceph-mon", "-i", "a"], "mon", ["ceph", "--connect-timeout", "5", "mon", "stat"], "a=")
        daemon(["ceph-mgr", "-i", "x"], "mgr", ["ceph", "--connect-timeout", "5", "mgr", "stat"], '"x"')
        osd = str(uuid.uuid4())
        _run(["ceph", "osd", "new", osd, "0"], env)
        _run(["ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd], env)
        daemon(["ceph-osd", "-i", "0"], "osd", ["ceph", "--connect-timeout", "5", "osd", "stat"], "1 up")
        endpoint = f"http://127.0.0.1:{rgw_port}"
        stack.enter_context(
            running(
                ["radosgw", "-n", "client.rgw", "-c", str(conf), "-f"],
                log=home / "rgw.out",
                ready=lambda: _answers(endpoint),
                env=env,
                timeout_s=_COMMAND_S,
            )
        )
        access, secret = "FERRYMANTEST", "ferryman-test-secret"
        add_user(conf, "ferryman", access, secret)
        yield Ceph(
            version=_version(env),
            endpoint=endpoint,
            endpoint_tls=f"https://s3.localhost:{tls_port}",
            ca_file=authority.ca,
            access_key_id=access,
            secret_access_key=secret,
            conf=conf,
        )


def add_user(conf: Path, name: str, access: str, secret: str) -> None:
    """One more user of the gateway, who owns nothing yet."""
    _run(
        [
            "radosgw-admin", "-c", str(conf), "-n", "client.rgw", "user", "create", "--uid", name,
            "--display-name", name, "--access-key", access, "--secret-key", secret,
        ],
        {**os.environ, "CEPH_CONF": str(conf)},
    )  # fmt: skip


def _run(command: Sequence[str], env: dict[str, str]) -> None:
    done = subprocess.run(command, env=env, capture_output=True, timeout=_COMMAND_S, check=False)
    if done.returncode:
        said = (done.stdout + done.stderr)[-2000:].decode(errors="replace")
        raise RuntimeError(f"{' '.join(command)}: exit {done.returncode}\n{said}")


def _said(command: Sequence[str], env: dict[str, str]) -> str:
    try:
        done = subprocess.run(command, env=env, capture_output=True, timeout=20, check=False)
    except subprocess.TimeoutExpired:
        return ""
    return done.stdout.decode(errors="replace")


def _version(env: dict[str, str]) -> str:
    found = re.search(r"version (\d+(?:\.\d+)+)", _said(["ceph", "--version"], env))
    return found[1] if found else "unknown"


def _answers(endpoint: str) -> bool:
    try:
        with urllib.request.urlopen(endpoint, timeout=1):
            return True
    except urllib.error.HTTPError as error:
        with error:
            return error.code < 500
    except (OSError, ValueError):
        return False
