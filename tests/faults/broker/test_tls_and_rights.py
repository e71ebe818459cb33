"""TLS with client certificates, and users who may no more than they need."""

from __future__ import annotations

import shutil
import signal

import pytest
from redis.exceptions import RedisError

from scheduler.config.settings import Settings
from scheduler.doctor import redis as doctor
from scheduler.doctor.rights import acl_rules
from support.certificates import Authority
from support.fleet import SENTINEL_PASSWORD, Fleet
from support.real import skip_or_fail
from support.valkey import running_valkey
from workers.broker.clients import connect, connect_blocking
from workers.settings import BrokerSettings

pytestmark = [pytest.mark.real, pytest.mark.timeout(180)]


@pytest.fixture
def authority(tmp_path):
    (tmp_path / "pki").mkdir()
    return Authority(tmp_path / "pki")


@pytest.mark.slow
async def test_servers_and_sentinels_behind_tls_want_a_certificate_of_ours(tmp_path, authority):
    if shutil.which("redis-server") is None:
        skip_or_fail("redis-server is not installed")
    certificate, key = authority.issue("client")
    with Fleet(tmp_path / "fleet", authority=authority) as fleet:
        broker = BrokerSettings(
            url=fleet.url(), sentinel_password=SENTINEL_PASSWORD, ca_file=authority.ca,
            certificate_file=certificate, key_file=key, min_replicas=1,
        )  # fmt: skip
        direct = broker.model_copy(update={"url": f"rediss://:of-the-servers@localhost:{fleet.servers[0]}/0"})
        for settings in (broker, direct):
            redis, blocking = connect(settings), connect_blocking(settings)
            try:
                assert await redis.set("ferryman:x", "1")
                assert blocking.get("ferryman:x") == b"1"
            finally:
                await redis.aclose()
                blocking.close()
        found = await doctor.check(Settings(broker=broker, data_dir=tmp_path))
        assert [one for one in found if one.level == "failed"] == []
        for missing in ({"certificate_file": None, "key_file": None}, {"ca_file": None}):
            redis = connect(direct.model_copy(update=missing))
            try:
                with pytest.raises((RedisError, OSError)):
                    await redis.ping()
            finally:
                await redis.aclose()
        fleet.signal(fleet.servers[0], signal.SIGKILL)
        fleet.wait_for_primary(fleet.servers[1])
        redis = connect(broker)
        try:
            assert await redis.get("ferryman:x") == "1"
        finally:
            await redis.aclose()


@pytest.fixture
def server():
    with running_valkey() as url:
        yield url


@pytest.mark.parametrize(
    ("but", "lacking"),
    [
        ("", ""),
        ("-keys", "+keys"),
        ("-script|load", "+script|load"),
        ("-@hash -wait", "+wait +hset +hget"),
        ("-info", "+info"),
        ("-evalsha -eval", "+eval +evalsha"),
        ("resetkeys ~ferryman", "~ferryman:*"),
        ("resetkeys ~ferryman:*", "~ferryman"),
    ],
)
async def test_doctor_names_the_right_that_a_user_lacks(tmp_path, server, but, lacking):
    admin = connect_blocking(BrokerSettings(url=server))
    try:
        admin.execute_command(
            "ACL", "SETUSER", "f", "on", ">pw", *acl_rules("ferryman").split(), *but.split()
        )
        admin.execute_command("ACL", "LOG", "RESET")
    finally:
        admin.close()
    broker = BrokerSettings(url=server.replace("redis://", "redis://f:pw@"))
    found = {one.check: one for one in await doctor.check(Settings(broker=broker, data_dir=tmp_path))}
    rights = found["rights"]
    if not lacking:
        assert rights.level == "ok"
        assert [one for one in found.values() if one.level == "failed"] == []
        return
    assert rights.level == "failed"
    assert f"the user lacks {lacking}" in rights.message
    assert rights.remedy.endswith(acl_rules("ferryman"))
