"""What a store is used for beside single objects: races for a key on every store; rights, addresses, TLS,
encryption, versions and locks on a real Ceph RGW.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from scheduler.config.settings import Settings
from scheduler.doctor import store as doctor
from scheduler.doctor.model import Level
from support.store.ceph import KMS_KEY, add_user
from support.store.known import access_of, client_of, stores
from support.store.stores import MIB, put, read, store_at
from workers.errors import StoreUnavailable
from workers.settings import LimitSettings
from workers.store.guarantees import CreateOnly
from workers.store.known_stores import CEPH, SEAWEEDFS
from workers.store.wire.signing import sha256_hex

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from support.store.ceph import Ceph
    from workers.store.client import ObjectStore

pytestmark = pytest.mark.real
slow = pytest.mark.slow

#: Tries of a race, each a little later than the one before.
TRIES = 24


@pytest.mark.parametrize("known", stores(SEAWEEDFS))
@pytest.mark.parametrize(
    ("size", "part_size_bytes"),
    [
        pytest.param(1000, 5 * MIB, id="small"),
        pytest.param(6 * MIB, 5 * MIB, id="large", marks=slow),
        pytest.param(6 * MIB, 16 * MIB, id="large-below-the-part-size", marks=slow),
    ],
)
async def test_a_user_who_writes_in_the_last_moment_keeps_his_bytes(
    request, bucket, known, size, part_size_bytes
):
    """Guarantee 2: who was told that his create-only PUT was first finds his bytes."""
    async with (
        client_of(known, request, part_size_bytes=part_size_bytes) as store,
        client_of(known, request) as theirs,
    ):
        await store.ensure_bucket(bucket)
        await store.guarantees(bucket)
        await put(store, bucket, "warm", b"x" * size)
        began = asyncio.get_running_loop().time()
        await put(store, bucket, "measured", b"x" * size)
        takes_s = asyncio.get_running_loop().time() - began

        async def user(key: str, after_s: float) -> bool:
            await asyncio.sleep(after_s)
            answer = await theirs.transport.exchange(
                "PUT",
                bucket,
                key,
                headers={"if-none-match": "*"},
                body=b"the user's",
                payload_sha256=sha256_hex(b"the user's"),
                accept=frozenset({409, 412}),
            )
            return answer.status < 300

        both, lost = 0, 0
        for number in range(TRIES):
            key = f"raced-{number}"
            ours, first = await asyncio.gather(
                put(store, bucket, key, b"x" * size), user(key, takes_s * 1.1 * number / TRIES)
            )
            both += ours.created and first
            lost += first and await read(theirs, bucket, key) != b"the user's"
            assert ours.created or first, "one of them was first"
        in_parts = size > part_size_bytes and known.deviates("multipart_race")
        weak = in_parts or known.deviates("create_only") or known.deviates("write_race")
        assert weak or (both, lost) == (0, 0)


@slow
async def test_parts_that_do_not_fit_one_put_are_looked_at_before_their_completion(request, bucket):
    """What is left of the race is milliseconds, and doctor says so with the remedy."""
    narrow = LimitSettings(memory_bytes=64 * MIB, spool_bytes=0)
    async with client_of(CEPH, request, limits=narrow) as store:
        await store.ensure_bucket(bucket)
        await put(store, bucket, "taken", b"the user's")
        assert not (await put(store, bucket, "taken", b"x" * 11 * MIB)).created
        commit = await put(store, bucket, "free", b"x" * 11 * MIB)
        assert commit.created
        assert commit.etag.endswith("-3")
        assert await read(store, bucket, "taken") == b"the user's"


async def findings(known, request, bucket, **store):
    settings = Settings.model_validate(
        {"store": {**access_of(known, request), **store}, "buckets": {bucket: {}}}
    )
    return await doctor.check(settings)


@pytest.mark.parametrize("known", stores(SEAWEEDFS))
async def test_doctor_prints_the_row_of_the_store_that_it_sees(request, bucket, known):
    async with client_of(known, request) as store:
        await store.ensure_bucket(bucket)
    found = await findings(known, request, bucket)
    told = [one for one in found if one.check == "known"]
    assert [one.level for one in told] == [Level.OK]
    assert told[0].message.startswith(f"looks like {known.name}, which was run as {known.version}")
    for deviation in known.deviations:
        assert deviation.what.replace("`", "") in told[0].message
    (create_only,) = [one for one in found if one.check == "create_only"]
    weak = known.deviates("create_only") or known.deviates("multipart_create_only")
    assert create_only.level is (Level.WARNING if weak else Level.OK)


# ---------------------------------------------------------------- rights


@asynccontextmanager
async def limited(ceph: Ceph, bucket: str, *actions: str) -> AsyncIterator[ObjectStore]:
    """A user who may do nothing in the bucket but these."""
    name = f"u{os.urandom(6).hex()}"
    await asyncio.to_thread(add_user, ceph.conf, name, name.upper(), "limited-secret")
    policy = json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Principal": {"AWS": [f"arn:aws:iam:::user/{name}"]},
                    "Action": [f"s3:{action}" for action in actions],
                    "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"],
                }
            ],
        }
    ).encode()
    async with owner_of(ceph) as owner:
        await owner.ensure_bucket(bucket)
        await owner.transport.exchange(
            "PUT", bucket, query=[("policy", "")], body=policy, payload_sha256=sha256_hex(policy)
        )
    async with store_at(
        ceph.endpoint, access_key_id=name.upper(), secret_access_key="limited-secret", create_buckets=False
    ) as store:
        yield store


def owner_of(ceph: Ceph, **settings) -> ObjectStore:
    given = {"access_key_id": ceph.access_key_id, "secret_access_key": ceph.secret_access_key, **settings}
    return store_at(given.pop("endpoint", ceph.endpoint), **given)


@slow
async def test_who_may_write_and_read_but_not_list_moves_objects_and_is_told_what_is_missing(
    request, ceph, bucket
):
    async with limited(ceph, bucket, "PutObject", "GetObject", "DeleteObject") as store:
        found = await store.guarantees(bucket)
        assert (found.create_only, found.missing_key_status) == (CreateOnly.IF_NONE_MATCH, 403)
        assert (await put(store, bucket, "k", b"one")).created
        assert not (await put(store, bucket, "k", b"two")).created
        assert await read(store, bucket, "k") == b"one"
        key = {
            "access_key_id": store.settings.access_key_id,
            "secret_access_key": store.settings.secret_access_key.get_secret_value(),
        }
    told = {one.check: one for one in await findings(CEPH, request, bucket, **key)}
    assert told["missing_key"].level is Level.FAILED
    assert "s3:ListBucket" in told["missing_key"].remedy
    assert "s3:ListBucket" in told["permissions"].message


@slow
async def test_who_may_list_but_not_delete_moves_objects_and_leaves_the_self_tests_small_ones(
    request, ceph, bucket
):
    async with limited(
        ceph, bucket, "PutObject", "GetObject", "ListBucket", "ListBucketMultipartUploads"
    ) as store:
        found = await store.guarantees(bucket)
        assert (found.create_only, found.missing_key_status) == (CreateOnly.IF_NONE_MATCH, 404)
        assert (await put(store, bucket, "k", b"one")).created
        assert not (await put(store, bucket, "k", b"two")).created
        assert (await put(store, bucket, "l", b"x" * 6 * MIB)).created
        keys = [listed.key async for page in store.list(bucket, "") for listed in page.objects]
        left = [key for key in keys if key.startswith(".ferryman/probe/")]
        assert sorted(set(keys) - set(left)) == ["k", "l"]
        assert left
        key = {
            "access_key_id": store.settings.access_key_id,
            "secret_access_key": store.settings.secret_access_key.get_secret_value(),
        }
    told = {one.check: one for one in await findings(CEPH, request, bucket, **key)}
    assert "s3:DeleteObject" in told["permissions"].message


# ---------------------------------------------------------------- addresses and TLS


@pytest.fixture
def names_below_localhost(monkeypatch):
    found = socket.getaddrinfo

    def resolve(host, port, *rest, **named):
        return found("127.0.0.1" if str(host).endswith(".localhost") else host, port, *rest, **named)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)


async def moves(store: ObjectStore, bucket: str) -> None:
    """Objects of either size go in once and come back."""
    await store.ensure_bucket(bucket)
    for key, body in (("a b/ü.txt", b"small"), ("large", os.urandom(6 * MIB))):
        assert (await put(store, bucket, key, body)).created
        assert not (await put(store, bucket, key, b"another")).created
        assert await read(store, bucket, key) == body
    keys = [listed.key async for page in store.list(bucket, "") for listed in page.objects]
    assert keys == ["a b/ü.txt", "large"]


@slow
@pytest.mark.usefixtures("names_below_localhost")
async def test_virtual_hosted_addresses_name_the_bucket_in_the_host(ceph, bucket):
    endpoint = ceph.endpoint.replace("127.0.0.1", "s3.localhost")
    async with owner_of(ceph, endpoint=endpoint, addressing="virtual") as store:
        await moves(store, bucket)


@slow
@pytest.mark.usefixtures("names_below_localhost")
@pytest.mark.parametrize("addressing", ["path", "virtual"])
async def test_tls_with_a_private_authority_is_trusted_when_it_is_named(ceph, bucket, addressing):
    tls = {"endpoint": ceph.endpoint_tls, "addressing": addressing}
    async with owner_of(ceph, ca_file=ceph.ca_file, **tls) as store:
        await moves(store, bucket)
    async with owner_of(ceph, max_retries=0, **tls) as store:
        with pytest.raises(StoreUnavailable, match="certificate"):
            await store.head(bucket, "large")


# ---------------------------------------------------------------- encryption, versions, locks


@slow
@pytest.mark.usefixtures("names_below_localhost")
@pytest.mark.parametrize(
    "sse",
    [
        {"sse": "aws:kms", "sse_kms_key_id": KMS_KEY},
        {"sse": "customer", "sse_customer_key": base64.b64encode(b"k" * 32).decode()},
    ],
    ids=["kms", "customer"],
)
async def test_encrypted_objects_are_written_once_and_come_back(ceph, bucket, sse):
    async with owner_of(ceph, endpoint=ceph.endpoint_tls, ca_file=ceph.ca_file, **sse) as store:
        await moves(store, bucket)
        answer = await store.transport.exchange("HEAD", bucket, "large", headers=store.read_headers)
        said = {name.lower(): value for name, value in answer.headers.items()}
        name = "x-amz-server-side-encryption"
        assert said.get(name) == "aws:kms" or said.get(f"{name}-customer-algorithm") == "AES256"


async def versions_of(store: ObjectStore, bucket: str, key: str) -> int:
    answer = await store.transport.exchange("GET", bucket, query=[("prefix", key), ("versions", "")])
    return answer.body.count(b"<Version>")


@slow
async def test_a_locked_bucket_gets_one_version_of_an_object(ceph, bucket):
    """Object lock with a default retention; a bucket with a lock keeps versions."""
    async with owner_of(ceph) as store:
        await store.transport.exchange("PUT", bucket, headers={"x-amz-bucket-object-lock-enabled": "true"})
        lock = (
            b"<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention>"
            b"<Mode>GOVERNANCE</Mode><Days>1</Days></DefaultRetention></Rule></ObjectLockConfiguration>"
        )
        await store.transport.exchange(
            "PUT", bucket, query=[("object-lock", "")], body=lock, payload_sha256=sha256_hex(lock)
        )
        assert (await store.guarantees(bucket)).versioned
        for key, body in (("k", b"one"), ("l", b"x" * 6 * MIB)):
            assert (await put(store, bucket, key, body)).created
            assert not (await put(store, bucket, key, b"two")).created
            assert await read(store, bucket, key) == body
            assert await versions_of(store, bucket, key) == 1
