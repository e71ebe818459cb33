"""The shape of config.yaml.

Owns the sections of the control plane, with their defaults and what must hold between them. Reads no file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, SecretStr, field_validator, model_validator

from workers.origin.wire.addresses import is_loopback
from workers.secret_values import reveal
from workers.settings import (
    BrokerSettings,
    LimitSettings,
    Network,
    OriginSettings,
    Section,
    StoreSettings,
    WorkerSettings,
)


def split_listen(value: str) -> tuple[str, int]:
    """`host:port` or `[v6]:port` as (host, port); port 0 lets the system choose.

    Raises:
        ValueError: not of that form, or the port is outside 0..65535.
    """
    host, separator, port = value.rpartition(":")
    if not separator or not host or not port.isdecimal() or int(port) > 65535:
        msg = f"{value!r} is not host:port (for example 127.0.0.1:8080)"
        raise ValueError(msg)
    return host.removeprefix("[").removesuffix("]"), int(port)


def _listen(value: str) -> str:
    split_listen(value)
    return value


Listen = Annotated[str, AfterValidator(_listen)]


Permission = Literal["read", "list", "write", "delete", "manage"]


class AccessKey(Section):
    """A client's key pair: it signs S3 calls, reads of `signed` buckets, and rule documents."""

    #: Name of the key pair, as clients send it.
    id: Annotated[str, Field(min_length=1)]
    #: Its secret, here; or
    secret: SecretStr | None = None
    #: in a file.
    secret_file: Path | None = None
    #: What S3 calls signed with it may do; unset: read, and rule documents, which else take `manage`.
    may: Annotated[tuple[Permission, ...], Field(min_length=1)] | None = None
    #: Buckets it is for; unset: all. Those that are not under `buckets:` take `manage`.
    buckets: Annotated[tuple[str, ...], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _one_secret(self) -> AccessKey:
        if (self.secret is None) == (self.secret_file is None):
            msg = "give exactly one of secret and secret_file"
            raise ValueError(msg)
        return self

    def reveal(self) -> str:
        """The secret itself, read from its file when it is kept in one."""
        return reveal(self.secret, self.secret_file) or ""


class GatewaySettings(Section):
    """The object gateway."""

    #: Address of the gateway; port 0 takes any free one.
    listen: Listen = "127.0.0.1:8080"
    #: Front processes that share the port (SO_REUSEPORT).
    processes: Annotated[int, Field(ge=1, le=64)] = 1
    access_keys: tuple[AccessKey, ...] = ()
    #: Made by `ferryman up` with the embedded store: a key that may everything. Leave it out.
    local_key: AccessKey | None = None
    #: Whether S3 clients see the metadata that Ferryman keeps for itself (`x-amz-meta-ferryman-*`).
    show_own_metadata: bool = False
    #: Networks whose X-Forwarded-* and X-Ferryman-Status headers are believed, as CIDR.
    trusted_proxies: tuple[Network, ...] = ()
    #: Names by which clients reach this gateway; an origin of that name is a loop.
    public_hosts: tuple[str, ...] = ()
    #: Domains below which the first label is the bucket (`site.objects.example`).
    domains: tuple[str, ...] = ()
    #: How long a follower waits for another process's pull of the same key (A24).
    herd_wait_s: Annotated[float, Field(ge=0)] = 10.0
    #: Request line and headers together; more is 431.
    max_header_bytes: Annotated[int, Field(ge=1024)] = 32 * 1024
    #: A client whose head has not come by then is cut.
    header_timeout_s: Annotated[float, Field(gt=0)] = 10.0
    #: An idle connection is kept for this long.
    keep_alive_s: Annotated[int, Field(ge=1)] = 75
    #: A client that takes nothing for this long is cut; the pull for the store goes on.
    client_stall_s: Annotated[float, Field(gt=0)] = 60.0
    #: How long a client waits for a store that does not answer; then it gets 503.
    lookup_s: Annotated[float, Field(gt=0)] = 10.0
    #: How long a Proxy rule lets a slow store delay its redirect.
    proxy_lookup_s: Annotated[float, Field(gt=0)] = 2.0
    #: What a running pull keeps in memory for its readers before it goes to disk (`limits.spool_bytes`).
    fill_memory_bytes: Annotated[int, Field(ge=64 * 1024)] = 4 * 1024 * 1024
    #: Keys remembered as absent, per process.
    absent_cache_size: Annotated[int, Field(ge=0)] = 100_000
    #: Distinct missing keys a second that one client address may cause; 0 = unbounded.
    misses_per_client_per_s: Annotated[float, Field(ge=0)] = 1000.0
    #: The same for all clients of a process together; 0 = unbounded.
    misses_per_s: Annotated[float, Field(ge=0)] = 5000.0

    @field_validator("access_keys")
    @classmethod
    def _ids_once(cls, value: tuple[AccessKey, ...]) -> tuple[AccessKey, ...]:
        ids = [key.id for key in value]
        twice = sorted({found for found in ids if ids.count(found) > 1})
        if twice:
            msg = f"the id {twice[0]!r} is given to two keys; each needs its own"
            raise ValueError(msg)
        return value


class AdminSettings(Section):
    """Miss events, rules, scans, health and metrics."""

    #: Address of the admin side; port 0 takes any free one.
    listen: Listen = "127.0.0.1:8081"
    #: Bearer token; generated on first start and kept in data_dir when unset.
    token: SecretStr | None = None
    #: The same, from a file.
    token_file: Path | None = None
    #: A second token, for walls and colleagues: who has it looks at everything and changes nothing.
    viewer_token: SecretStr | None = None
    #: The same, from a file.
    viewer_token_file: Path | None = None
    #: A sentence at the top of the page and of `status --watch`, such as which installation this is.
    notice: str = Field(default="", max_length=300)


class MetricsSettings(Section):
    """Where processes without a gateway or admin side answer /metrics, /healthz and /readyz; unset: nowhere.

    Metrics of all processes of one machine that share data_dir are also in the admin side's /metrics.
    """

    #: Address of a front without its admin side (`--no-admin`).
    front_listen: Listen | None = None
    #: Address of each worker machine.
    worker_listen: Listen | None = None
    #: Address of a consumer.
    consumer_listen: Listen | None = None


class BucketSettings(Section):
    """One bucket that is served. Without `rules` its rule set is owned by the API."""

    #: Who may read: everybody, or only signed requests of `gateway.access_keys`.
    access: Literal["public", "signed"] = "public"
    #: What a hit gets: the object, a redirect to a presigned URL, or nothing (the gateway in front asks).
    hits: Literal["serve", "redirect", "off"] = "serve"
    #: Host names that mean this bucket.
    hosts: tuple[str, ...] = ()
    #: What S3 clients are listed: what the store has, or also what its rules would bring from S3 buckets.
    list: Literal["store", "union"] = "store"
    #: When an origin cannot be listed: 503, or only what the store has, with a header that says so.
    list_degraded: Literal["refuse", "store"] = "refuse"
    #: Rule documents in YAML form; validated by `scheduler.rules.yaml.document`.
    rules: tuple[Any, ...] | None = None


class ConsumeSettings(Section):
    """One log to follow."""

    #: File or pattern of files, `-` for standard input; `udp:HOST:PORT` or `unix:PATH` for syslog.
    path: str
    #: Name of the format, a pasted log format, or `auto`.
    format: str = "auto"
    #: Bucket of the keys; unset: found by host or path, as the gateway does.
    bucket: str | None = None
    #: Host (without port) to bucket.
    hosts: dict[str, str] = {}
    #: Cut from the front of the request path before the key is taken.
    strip_prefix: str = ""
    #: Statuses that are a miss.
    statuses: tuple[Annotated[int, Field(ge=400, le=599)], ...] = (404,)
    #: Methods that are a miss.
    methods: tuple[str, ...] = ("GET",)
    #: Regular expressions on the key.
    include: tuple[str, ...] = ()
    #: Regular expressions of keys that are not taken.
    exclude: tuple[str, ...] = ()
    #: Whether misses of crawlers count.
    bots: bool = True
    #: For `json`: our field name to theirs.
    fields: dict[str, str] = {}
    #: Where a log without a checkpoint is begun.
    start: Literal["checkpoint", "start", "end"] = "checkpoint"


class ScanSettings(Section):
    """A named scan and where its inventory comes from."""

    #: Destination.
    bucket: str
    #: One of the inventory sources, for example `{manifest: urls.csv}`.
    inventory: dict[str, Any] = {}
    #: Only keys that begin so.
    prefix: str = ""
    #: An inventory without any key is meant; without this it opens no gate.
    allow_empty: bool = False
    #: A scan or a verification stops when more than this share of its keys is absent at the origin; 1: never.
    max_absent: Annotated[float, Field(ge=0, le=1)] = 0.9


class CompatSettings(Section):
    """Where the vendors disagree with themselves (SEMANTICS.md section 10)."""

    #: D9: ignore HttpRedirectCode with Mirror, with a warning.
    redirect_code_with_mirror: bool = False


class LogSettings(Section):
    """How the processes log."""

    #: `auto`: a console for a person, JSON when nobody is looking.
    format: Literal["auto", "console", "json"] = "auto"
    #: The least that is logged.
    level: Literal["debug", "info", "warning", "error"] = "info"


class Settings(Section):
    """The whole of config.yaml."""

    gateway: GatewaySettings = GatewaySettings()
    admin: AdminSettings = AdminSettings()
    metrics: MetricsSettings = MetricsSettings()
    store: StoreSettings = StoreSettings()
    broker: BrokerSettings = BrokerSettings()
    origin: OriginSettings = OriginSettings()
    limits: LimitSettings = LimitSettings()
    buckets: dict[str, BucketSettings] = {}
    consume: tuple[ConsumeSettings, ...] = ()
    scans: dict[str, ScanSettings] = {}
    #: Where reports are written in the store; unset: the bucket of the scan, under `.ferryman/`.
    report_bucket: str | None = None
    compat: CompatSettings = CompatSettings()
    log: LogSettings = LogSettings()
    #: What must be remembered on this machine: embedded parts, checkpoints, spools, reports, generated
    #: secrets.
    data_dir: Path = Path(".ferryman")

    @field_validator("buckets")
    @classmethod
    def _bucket_names(cls, value: dict[str, BucketSettings]) -> dict[str, BucketSettings]:
        for name in value:
            if not 3 <= len(name) <= 63 or not all(c.isascii() and (c.isalnum() or c in ".-") for c in name):
                msg = f"bucket name {name!r}: 3 to 63 of a-z, 0-9, dot and hyphen"
                raise ValueError(msg)
        return value

    @model_validator(mode="after")
    def _guarded_rule_api(self) -> Settings:
        # W13: a rule decides where the service connects, so an open rule API stays on loopback.
        if not self.gateway.access_keys and self.admin.token is None and self.admin.token_file is None:
            for section, listen in (("gateway", self.gateway.listen), ("admin", self.admin.listen)):
                if not is_loopback(split_listen(listen)[0]):
                    msg = (
                        f"{section}.listen {listen!r} is not loopback: set admin.token (or admin.token_file) "
                        "or gateway.access_keys, because whoever reaches the rule API decides where "
                        "Ferryman connects"
                    )
                    raise ValueError(msg)
        return self

    def client_keys(self) -> tuple[AccessKey, ...]:
        """Every key pair that a client may sign with."""
        local = self.gateway.local_key
        return self.gateway.access_keys if local is None else (*self.gateway.access_keys, local)

    def own_listeners(self) -> tuple[tuple[str, int], ...]:
        """(host, port) of the gateway and the admin side as far as they are said: no origin may be there.

        Defaults do not count: a machine that only runs workers may have its origin on port 8080.
        """
        said = [
            section.listen for section in (self.gateway, self.admin) if "listen" in section.model_fields_set
        ]
        return tuple(pair for pair in map(split_listen, said) if pair[1])

    def worker(self, *, instance: str = "") -> WorkerSettings:
        """The part a worker process is given."""
        return WorkerSettings(
            store=self.store,
            broker=self.broker,
            origin=self.origin,
            limits=self.limits,
            data_dir=self.data_dir,
            public_hosts=self.gateway.public_hosts,
            listeners=self.own_listeners(),
            instance=instance,
        )
