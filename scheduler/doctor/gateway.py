"""Whether an S3 client can write, read, list and delete through the gateway that runs: one object does so.

Owns the probe, a key of its own in every configured bucket; whatever step fails, nothing of it is left in the
store or in the ledger, its tombstone included.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from redis.exceptions import RedisError

from scheduler.config.settings import split_listen
from scheduler.doctor.model import Subject
from scheduler.rules.write_back import writes_back
from workers.errors import StoreError, described
from workers.settings import StoreSettings
from workers.store.client import ObjectStore
from workers.store.wire.answers import failure, field, parse
from workers.store.wire.signing import sha256_hex

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from scheduler.config.settings import AccessKey, Settings
    from scheduler.doctor.model import Finding
    from scheduler.rules.model import RuleSet
    from workers.ledger.ledger import Ledger
    from workers.store.model import StoreAnswer

#: What the probe's keys begin with; nothing of them stays.
PROBE_PREFIX: Final = "ferryman-doctor-probe/"
_BODY: Final = b"ferryman doctor"
_NEEDED: Final = frozenset({"read", "list", "write", "delete"})
_STEP_TIMEOUT_S: Final = 20.0
_CONNECT_TIMEOUT_S: Final = 3.0
_RESTART: Final = "the gateway that runs knows other keys than this configuration: start it anew"
#: What to do, by the code of the gateway's answer.
_REMEDIES: Final = {
    "InvalidAccessKeyId": _RESTART,
    "SignatureDoesNotMatch": _RESTART,
    "AccessDenied": _RESTART,
    "NoSuchBucket": "the gateway that runs does not have this bucket: start it anew",
    "RequestTimeTooSkewed": "set the clock of this machine by NTP",
    "ServiceUnavailable": "the gateway does not reach store or Redis: see the lines above, and its log",
    "SlowDown": "Redis does not answer the gateway, or the key is being fetched: see its log",
}
_ELSE: Final = "look for the request id in the gateway's log: it says what the store answered"


async def check(settings: Settings, ledger: Ledger, sets: Mapping[str, RuleSet]) -> list[Finding]:
    """The findings about every configured bucket."""
    found = Subject("gateway")
    keys = settings.client_keys()
    if not keys:
        found.ok("s3", "no gateway.access_keys: nobody can sign, so there is no S3 endpoint to try")
        return found.findings
    host, port = split_listen(settings.gateway.listen)
    host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    if not await _listens(host, port):
        message = f"skipped: no gateway listens on {settings.gateway.listen}"
        found.ok("s3", f"{message}; run this again while `ferryman up` or a front runs")
        return found.findings
    endpoint = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    for bucket in settings.buckets:
        key = _able(keys, bucket)
        if key is None:
            message = "no access key may read, list, write and delete here, so nothing was tried"
            found.ok("s3", message, of=bucket)
            continue
        name = f"{PROBE_PREFIX}{uuid.uuid4().hex}"
        ruleset = sets.get(bucket)
        if ruleset is not None and writes_back(ruleset, name) is not None:
            found.ok("s3", "a rule writes back to its origin, so nothing was tried", of=bucket)
            continue
        await _try(found, settings, ledger, Client(endpoint=endpoint, key=key, bucket=bucket), name)
    return found.findings


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """Somebody who signs by one key, and the bucket that is tried."""

    endpoint: str
    key: AccessKey
    bucket: str


def _able(keys: tuple[AccessKey, ...], bucket: str) -> AccessKey | None:
    return next(
        (
            key
            for key in keys
            if set(key.may or ()) >= _NEEDED and (key.buckets is None or bucket in key.buckets)
        ),
        None,
    )


async def _listens(host: str, port: int) -> bool:
    try:
        async with asyncio.timeout(_CONNECT_TIMEOUT_S):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


async def _try(found: Subject, settings: Settings, ledger: Ledger, client: Client, name: str) -> None:
    """Write, read, list and delete the probe; the first step that fails is the finding."""
    bucket = client.bucket
    noted_before = await _noted(ledger, bucket)
    versions: list[str] = []
    try:
        async with ObjectStore(
            StoreSettings.model_validate(
                {
                    "endpoint": client.endpoint,
                    "region": settings.store.region,
                    "access_key_id": client.key.id,
                    "secret_access_key": client.key.reveal(),
                    "max_retries": 0,
                }
            ),
            settings.limits,
        ) as through:
            for step, ask, says in _steps(through, bucket, name):
                try:
                    async with asyncio.timeout(_STEP_TIMEOUT_S):
                        answer = await ask()
                except (StoreError, TimeoutError) as error:
                    remedy = f"see that the process on {settings.gateway.listen} is Ferryman and answers"
                    found.failed("s3", f"a signed {step} fails: {described(error)}", remedy, of=bucket)
                    return
                versions += [v for v in (answer.headers.get("x-amz-version-id"),) if v and v != "null"]
                if answer.status >= 300:
                    refusal = failure(answer, what=f"a signed {step} by {client.key.id}")
                    request_id = answer.headers.get("x-amz-request-id", "none")
                    message = f"{refusal} (request id {request_id})"
                    found.failed("s3", message, _REMEDIES.get(refusal.code or "", _ELSE), of=bucket)
                    return
                if not says(answer):
                    message = (
                        f"a signed {step} is answered {answer.status} with something else than was written"
                    )
                    remedy = "see that nothing between here and the gateway changes or caches answers"
                    found.failed("s3", message, remedy, of=bucket)
                    return
        message = (
            f"{client.key.id} wrote, read, listed and deleted {PROBE_PREFIX}…, signed, through the gateway"
        )
        found.ok("s3", message, of=bucket)
    finally:
        await _clean(settings, ledger, bucket, name, versions, noted_before)


def _steps(
    through: ObjectStore, bucket: str, name: str
) -> tuple[tuple[str, Callable[[], Awaitable[StoreAnswer]], Callable[[StoreAnswer], bool]], ...]:
    """Each with how it is asked, and whether an answer below 300 is the right one."""
    send = through.transport.once
    listing = f"list-type=2&prefix={name.replace('/', '%2F')}"

    def listed(answer: StoreAnswer) -> bool:
        return name in {field(one, "Key") for one in parse(answer, what="LIST").iterfind("{*}Contents")}

    return (
        (
            "PUT",
            lambda: send("PUT", bucket, name, headers={}, body=_BODY, payload_sha256=sha256_hex(_BODY)),
            lambda _: True,
        ),
        ("GET", lambda: send("GET", bucket, name, headers={}), lambda answer: answer.body == _BODY),
        ("LIST", lambda: send("GET", bucket, "", headers={}, query=listing), listed),
        ("DELETE", lambda: send("DELETE", bucket, name, headers={}), lambda _: True),
    )


async def _noted(ledger: Ledger, bucket: str) -> bool:
    try:
        return await ledger.claims.tombstoned_until(bucket) is not None
    except (RedisError, OSError):
        return True


async def _clean(
    settings: Settings, ledger: Ledger, bucket: str, name: str, versions: list[str], noted_before: bool
) -> None:
    """Take away what the steps left, past the gateway."""
    with contextlib.suppress(StoreError):
        async with ObjectStore(settings.store, settings.limits) as store:
            await store.delete(bucket, name)
            for version in dict.fromkeys(versions):
                await store.transport.exchange(
                    "DELETE", bucket, name, query=[("versionId", version)], accept=frozenset({404})
                )
    with contextlib.suppress(RedisError, OSError):
        await ledger.claims.remove_tombstones(bucket, [name])
        until = None if noted_before else await ledger.claims.tombstoned_until(bucket)
        if until is not None and not await ledger.claims.tombstones(bucket, limit=1):
            await ledger.claims.forget_tombstoned(bucket, until)
