"""What a worker process must be told: store, broker, origins, limits.

Owns the shape of these sections of config.yaml; `scheduler.config.settings` adds its own and loads the file.
Unknown keys are refused. Units are in the names.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import orjson
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator

from workers.broker_address import check_broker_url
from workers.windows import parse_bytes_per_s, parse_requests_per_s, parse_window, parse_window_line

MIB = 1024 * 1024


class Section(BaseModel):
    """A part of config.yaml: frozen, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


def _network(value: str) -> str:
    return str(ipaddress.ip_network(value, strict=False))


Network = Annotated[str, AfterValidator(_network)]


def _check_endpoint(url: str) -> None:
    """Refuse an endpoint that is none; what is shown of it holds no user info.

    Raises:
        ValueError: says what is wrong.
    """
    if "@" in url:
        msg = "endpoint: user info in a URL is refused; use access_key_id and secret_access_key"
        raise ValueError(msg)
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        msg = f"endpoint {url!r} must be `embedded` or start with http:// or https://, host and port"
        raise ValueError(msg)


class StoreSettings(Section):
    """The S3-compatible destination."""

    #: URL of the S3 endpoint, or `embedded` for a SeaweedFS child process.
    endpoint: str = "embedded"
    #: Region that requests are signed for.
    region: str = "us-east-1"
    #: Unset: boto3's own chain (environment, profile, instance role), refreshed by it.
    access_key_id: str | None = None
    #: Secret of `access_key_id`, here; or
    secret_access_key: SecretStr | None = None
    #: in a file.
    secret_access_key_file: Path | None = None
    #: Of temporary credentials, here; or
    session_token: SecretStr | None = None
    #: in a file.
    session_token_file: Path | None = None
    #: Profile of the AWS configuration files.
    profile: str | None = None
    #: `path`: /bucket/key; `virtual`: bucket.endpoint/key.
    addressing: Literal["path", "virtual"] = "path"
    #: PEM bundle of a private authority.
    ca_file: Path | None = None
    #: S3 storage class, canned ACL and expected bucket owner, sent with every write when set.
    storage_class: str | None = None
    #: Canned ACL of new objects.
    acl: str | None = None
    #: Account that must own the bucket.
    expected_bucket_owner: str | None = None
    #: Server-side encryption: none, AES256 (SSE-S3), aws:kms (SSE-KMS) or customer (SSE-C).
    sse: Literal["none", "AES256", "aws:kms", "customer"] = "none"
    #: Key of `sse: aws:kms`.
    sse_kms_key_id: str | None = None
    #: Base64 of the 32-byte customer key.
    sse_customer_key: SecretStr | None = None
    #: The same, from a file.
    sse_customer_key_file: Path | None = None
    #: Create a missing bucket at start.
    create_buckets: bool = True
    #: `auto` proves at start what the store obeys; the others skip the proof.
    create_only: Literal["auto", "if-none-match", "oss", "cos", "check-then-write"] = "auto"
    #: Send object tags (F46); off for stores that refuse them.
    object_tags: bool = True
    #: Objects up to this are one PUT; larger ones go in parts of it.
    part_size_bytes: Annotated[int, Field(ge=5 * MIB, le=5 * 1024 * MIB)] = 8 * MIB
    #: Demand one part size even where the length is unknown.
    uniform_parts: bool = False
    #: Parts of one object that are sent at once. More than two objects in parts share twice as many, each at
    #: least one.
    part_concurrency: Annotated[int, Field(ge=1, le=64)] = 2
    #: Until a connection stands.
    connect_timeout_s: Annotated[float, Field(gt=0)] = 5.0
    #: Without a byte from the store.
    read_timeout_s: Annotated[float, Field(gt=0)] = 60.0
    #: Connections of one process.
    max_connections: Annotated[int, Field(ge=1, le=4096)] = 256
    #: Repetitions of a request that failed in passing.
    max_retries: Annotated[int, Field(ge=0, le=20)] = 5

    @model_validator(mode="after")
    def _consistent(self) -> StoreSettings:
        if self.endpoint != "embedded":
            _check_endpoint(self.endpoint)
        for name in ("secret_access_key", "session_token", "sse_customer_key"):
            if getattr(self, name) is not None and getattr(self, f"{name}_file") is not None:
                msg = f"{name} and {name}_file exclude each other"
                raise ValueError(msg)
        has_secret = self.secret_access_key is not None or self.secret_access_key_file is not None
        if (self.access_key_id is not None) != has_secret:
            msg = "access_key_id and secret_access_key go together"
            raise ValueError(msg)
        if self.sse == "customer" and self.sse_customer_key is None and self.sse_customer_key_file is None:
            msg = "sse: customer needs sse_customer_key or sse_customer_key_file"
            raise ValueError(msg)
        return self


class BrokerSettings(Section):
    """Redis or Valkey."""

    #: `redis://`, `rediss://` (TLS) or `unix://` URL of the queue database, `redis+sentinel://` of those who
    #: watch it (`rediss+sentinel://`: TLS to both; see operations.md), or `embedded`.
    url: str = "embedded"
    #: A file that holds the URL, for one with a password; it is read once, at start.
    url_file: Path | None = None
    #: PEM bundle of a private authority, for TLS; unset: the system's.
    ca_file: Path | None = None
    #: Client certificate for TLS, PEM.
    certificate_file: Path | None = None
    #: Its key, PEM; unset: in the same file.
    key_file: Path | None = None
    #: ACL user at the sentinels, when they have one. The URL's user and password are the servers'.
    sentinel_username: str | None = None
    #: Password at the sentinels, here; or
    sentinel_password: SecretStr | None = None
    #: in a file.
    sentinel_password_file: Path | None = None
    #: Replicas that must have received what is accepted (events, lines, scan batches, deletes) before it is
    #: called so: a fail-over to one of them loses none of it. 0: replication may lag behind.
    min_replicas: Annotated[int, Field(ge=0, le=16)] = 0
    #: Seconds that they are waited for; then it is not accepted.
    min_replicas_timeout_s: Annotated[float, Field(gt=0, le=5)] = 1.0
    #: Database of claims and ledger; must differ from the queue's (its maintenance runs KEYS).
    ledger_db: Annotated[int, Field(ge=0)] = 1
    #: A worker silent for this long is dead and its messages return.
    heartbeat_timeout_s: Annotated[float, Field(ge=5)] = 60.0
    #: Queued messages a lane may hold before producers are asked to wait.
    max_queue_depth: Annotated[int, Field(ge=1)] = 10_000
    #: Prefix of all keys in Redis; installations that share one need their own.
    namespace: str = "ferryman"

    @model_validator(mode="before")
    @classmethod
    def _read_url_file(cls, value: object) -> object:
        if not isinstance(value, dict) or value.get("url_file") is None:
            return value
        if value.get("url") is not None:
            msg = "url and url_file exclude each other"
            raise ValueError(msg)
        try:
            url = Path(str(value["url_file"])).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            msg = f"url_file {value['url_file']}: {error}"
            raise ValueError(msg) from error
        # From here on it is a URL like any other: child processes are given that.
        return {**value, "url": url, "url_file": None}

    @model_validator(mode="after")
    def _known_scheme(self) -> BrokerSettings:
        if self.url != "embedded":
            check_broker_url(self.url)
        tls = self.url.startswith("rediss")
        for name in ("ca_file", "certificate_file", "key_file"):
            if getattr(self, name) is not None and not tls:
                msg = f"{name} is for TLS: url must start with rediss:// or rediss+sentinel://"
                raise ValueError(msg)
        if self.key_file is not None and self.certificate_file is None:
            msg = "key_file needs certificate_file"
            raise ValueError(msg)
        if self.sentinel_password is not None and self.sentinel_password_file is not None:
            msg = "sentinel_password and sentinel_password_file exclude each other"
            raise ValueError(msg)
        return self


class CredentialSettings(Section):
    """How requests to a private origin are authenticated (F27)."""

    #: How the origin is signed in to.
    type: Literal["s3v4", "basic", "bearer", "client_certificate"]
    #: `s3v4`: key pair.
    access_key_id: str | None = None
    #: `s3v4`: its secret, here; or
    secret_access_key: SecretStr | None = None
    #: in a file.
    secret_access_key_file: Path | None = None
    #: `s3v4`: region that is signed for.
    region: str = "us-east-1"
    #: `s3v4`, for `list: union`: where the bucket's name stands; `auto`: in the host name at the endpoints of
    #: vendors that have it there, else first in the path.
    addressing: Literal["auto", "path", "virtual"] = "auto"
    #: `s3v4`, for `list: union`: order of its lists; `path`: by path component, as SeaweedFS has it, which
    #: `auto` knows.
    listing_order: Literal["auto", "bytes", "path"] = "auto"
    #: `basic`.
    username: str | None = None
    #: `basic`: here; or
    password: SecretStr | None = None
    #: in a file.
    password_file: Path | None = None
    #: `bearer`: here; or
    token: SecretStr | None = None
    #: in a file.
    token_file: Path | None = None
    #: `client_certificate`: PEM.
    certificate_file: Path | None = None
    #: `client_certificate`: its key, PEM; unset: in the same file.
    key_file: Path | None = None

    @model_validator(mode="after")
    def _complete(self) -> CredentialSettings:
        has = {name for name in type(self).model_fields if getattr(self, name) is not None}
        needs: dict[str, tuple[tuple[str, ...], ...]] = {
            "s3v4": (("access_key_id",), ("secret_access_key", "secret_access_key_file")),
            "basic": (("username",), ("password", "password_file")),
            "bearer": (("token", "token_file"),),
            "client_certificate": (("certificate_file",),),
        }
        for names in needs[self.type]:
            if not has.intersection(names):
                msg = f"type {self.type} needs {' or '.join(names)}"
                raise ValueError(msg)
        return self


def _bytes_per_s(value: object) -> object:
    return parse_bytes_per_s(value) if isinstance(value, str) else value


def _requests_per_s(value: object) -> object:
    return parse_requests_per_s(value) if isinstance(value, str) else value


def _when(value: str) -> str:
    parse_window(value)
    return value


#: Bytes a second, as a number or as a text such as `20MB/s`.
BytesPerS = Annotated[float, BeforeValidator(_bytes_per_s)]
#: Requests a second, as a number or as a text such as `10/s`.
RequestsPerS = Annotated[float, BeforeValidator(_requests_per_s)]


class WindowSettings(Section):
    """Another budget for a part of the week, in local time: `when: "08:00-20:00 mon-fri"`.

    Also written in one line: `"08:00-20:00 mon-fri: 20MB/s, 10 requests/s, 4 connections"`. What a window
    leaves out stays as the budget says; a 0 closes the origin for its hours.
    """

    #: Hours and days, local time: `08:00-20:00 mon-fri`.
    when: Annotated[str, AfterValidator(_when)]
    #: Requests at once; 0: none.
    concurrency: Annotated[int, Field(ge=0)] | None = None
    #: Requests a second; 0: none.
    requests_per_s: Annotated[RequestsPerS, Field(ge=0)] | None = None
    #: Bytes a second, also as `20MB`; 0: none.
    bytes_per_s: Annotated[BytesPerS, Field(ge=0)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _one_line(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        line = parse_window_line(value)
        return {
            "when": line.when,
            "concurrency": line.concurrency,
            "requests_per_s": line.requests_per_s,
            "bytes_per_s": line.bytes_per_s,
        }


class BudgetSettings(Section):
    """What one origin host may be asked for by the whole fleet (F53, L15). None means unbounded."""

    #: Requests at once, over the whole fleet.
    concurrency: Annotated[int, Field(ge=1)] | None = None
    #: Requests a second, over the whole fleet.
    requests_per_s: Annotated[RequestsPerS, Field(gt=0)] | None = None
    #: Bytes a second, over the whole fleet; also as `20MB`.
    bytes_per_s: Annotated[BytesPerS, Field(gt=0)] | None = None
    #: The first that contains the time counts.
    windows: tuple[WindowSettings, ...] = ()


class OriginSettings(Section):
    """Rules of engagement with every origin."""

    #: Networks that may be connected to beyond public ones, as CIDR; needed always for link-local (B11).
    allow_networks: tuple[Network, ...] = ()
    credentials: dict[str, CredentialSettings] = {}
    #: By host as written in the rule; `default` for all others.
    budgets: dict[str, BudgetSettings] = {}
    #: Share of a budget's slots that cold work may never take.
    hot_share: Annotated[float, Field(ge=0, le=0.9)] = 0.25
    #: Lower concurrency when the origin shows distress (429, 503, timeouts, latency growth).
    adaptive: bool = True
    #: Authorities to trust instead of the system's, PEM.
    ca_file: Path | None = None
    #: Verify TLS certificates of origins.
    verify_tls: bool = True


class LimitSettings(Section):
    """Bounds of one process."""

    #: In-flight bytes of all transfers together.
    memory_bytes: Annotated[int, Field(ge=32 * MIB)] = 256 * MIB
    #: Disk for parts and followers that do not fit the memory budget.
    spool_bytes: Annotated[int, Field(ge=0)] = 4 * 1024 * MIB
    #: Items of one batch moved at the same time.
    item_concurrency: Annotated[int, Field(ge=1, le=512)] = 32
    #: Attempts of one item before it is a listed failure.
    max_attempts: Annotated[int, Field(ge=1, le=100)] = 5
    #: Refuse larger objects, when set (L12).
    max_object_bytes: Annotated[int, Field(ge=0)] | None = None
    #: Seconds between a stop signal and the return of unfinished items to the queue.
    drain_s: Annotated[float, Field(ge=0)] = 20.0


class WorkerSettings(Section):
    """Everything a worker process is given, resolved: no `embedded` is left in it."""

    store: StoreSettings
    broker: BrokerSettings
    origin: OriginSettings = OriginSettings()
    limits: LimitSettings = LimitSettings()
    data_dir: Path = Path(".ferryman")
    #: Names by which clients reach this fleet; an origin that resolves to them is a loop.
    public_hosts: tuple[str, ...] = ()
    #: (host, port) where this fleet listens; an origin there is a loop, too.
    listeners: tuple[tuple[str, int], ...] = ()
    #: Identity of this installation, sent as X-Ferryman-Hop (H11).
    instance: str = ""


def reveal_json(settings: BaseModel) -> str:
    """The settings as JSON *with* their secrets, for a child process; never log it."""
    return orjson.dumps(_revealed(settings)).decode()


def _revealed(value: object) -> object:
    match value:
        case SecretStr():
            return value.get_secret_value()
        case BaseModel():
            return {name: _revealed(getattr(value, name)) for name in type(value).model_fields}
        case dict():
            return {key: _revealed(entry) for key, entry in value.items()}
        case tuple() | list():
            return [_revealed(entry) for entry in value]
        case Path():
            return str(value)
        case _:
            return value
