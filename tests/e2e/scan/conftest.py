"""A cold worker process, a store, a queue and an origin for scans."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from scheduler.config.settings import Settings
from scheduler.machine.processes import LaneSize, worker_children
from scheduler.machine.startup import make_ready
from scheduler.machine.supervise import Supervisor
from scheduler.runtime import Services, open_services
from scheduler.scan.service import ScanService, scan_options
from support.installation import Origin, ferryman, plain_environment, running_origin
from support.processes import running
from support.store.fake_s3 import FakeS3, running_fake_s3
from support.store.known import access_of, stores
from workers.broker.clients import connect
from workers.plan import Lane
from workers.settings import BrokerSettings
from workers.store.known_stores import SEAWEEDFS

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def origin():
    with running_origin() as origin:
        yield origin


@dataclass(slots=True)
class Fleet:
    """Services of a control-plane process, and one worker process beside it."""

    settings: Settings
    services: Services
    supervisor: Supervisor
    origin: Origin
    bucket: str
    tmp_path: Path
    scans: ScanService = field(init=False)

    def __post_init__(self) -> None:
        self.scans = ScanService(self.services)

    def manifest(self, keys) -> str:
        path = self.tmp_path / "manifest.txt"
        path.write_text("".join(f"{key}\n" for key in keys))
        return str(path)

    async def start_worker(self) -> None:
        size = LaneSize(processes=1, threads=None)
        for child in worker_children(self.settings, [Lane.COLD], size):
            await self.supervisor.start(child)

    async def scan(self, name, keys=None, **options):
        """Run a scan to its end here; its report."""
        if keys is not None:
            options["inventory"] = {"manifest": self.manifest(keys)}
        given = {"bucket": self.bucket, **options}
        await self.scans.start(name, scan_options(self.settings, name, given))
        assert await self.scans.coordinate(name)
        return await self.report(name)

    async def report(self, name):
        return await self.scans.report(await self.scans.states.get(name))

    async def body(self, key):
        async with await self.services.store.get(self.bucket, key) as answer:
            if answer.status != 200:
                return None
            return b"".join([chunk async for chunk in answer.chunks()])

    async def put(self, key, body):
        await self.services.store.put_small(self.bucket, key, body, content_type="text/plain")


def installation(valkey_url, seaweed, data_dir, buckets):
    return {
        "store": {
            "endpoint": seaweed.endpoint,
            "access_key_id": seaweed.access_key_id,
            "secret_access_key": seaweed.secret_access_key,
        },
        # What a killed worker had comes back soon.
        "broker": {"url": valkey_url, "heartbeat_timeout_s": 10},
        "data_dir": str(data_dir),
        "limits": {"max_attempts": 2, "drain_s": 2},
        # The test's origin, also for rules of the API.
        "origin": {"allow_networks": ["127.0.0.0/8"]},
        "buckets": buckets,
    }


@contextlib.asynccontextmanager
async def running_fleet(valkey_url, seaweed, bucket, origin, tmp_path, *, worker, rules=None, sections=None):
    redis = connect(BrokerSettings(url=valkey_url))
    await redis.flushall()
    await redis.aclose()
    buckets = {bucket: {"rules": rules or [{"origins": [origin.url]}]}}
    given = installation(valkey_url, seaweed, tmp_path / "data", buckets)
    for name, more in (sections or {}).items():
        given[name] = {**given.get(name, {}), **more}
    settings = Settings.model_validate(given)
    async with open_services(settings) as services, Supervisor() as supervisor:
        await make_ready(services, who="test")
        fleet = Fleet(
            settings=settings,
            services=services,
            supervisor=supervisor,
            origin=origin,
            bucket=bucket,
            tmp_path=tmp_path,
        )
        if worker:
            await fleet.start_worker()
        yield fleet


@pytest.fixture(scope="module")
def standing_worker(valkey_url, seaweed, tmp_path_factory):
    """URL of a queue and a ledger that one cold worker serves for all tests of a file."""
    root, url = tmp_path_factory.mktemp("standing"), f"{valkey_url.removesuffix('/0')}/2"
    (root / "config.yaml").write_text(json.dumps(installation(url, seaweed, root / "data", {})))
    with running(
        ferryman("worker", "--lane", "cold", "--processes", "1", "--config", str(root / "config.yaml")),
        log=root / "worker.log",
        ready=lambda: True,  # jobs wait in the queue
        env=plain_environment(),
    ):
        yield url


@pytest.fixture
async def fleet(standing_worker, seaweed, bucket, origin, tmp_path):
    """A fleet with a worker that is no test's own: who kills or starts one takes `idle_fleet`."""
    async with running_fleet(standing_worker, seaweed, bucket, origin, tmp_path, worker=False) as fleet:
        yield fleet


@pytest.fixture
async def idle_fleet(valkey_url, seaweed, bucket, origin, tmp_path):
    """A fleet whose worker a test starts when it wants."""
    async with running_fleet(valkey_url, seaweed, bucket, origin, tmp_path, worker=False) as fleet:
        yield fleet


@pytest.fixture(params=stores(SEAWEEDFS))
async def fleet_on_every_store(request, valkey_url, bucket, origin, tmp_path):
    """A fleet on each store that is known; its row is `request.param`."""
    server = SimpleNamespace(**access_of(request.param, request))
    async with running_fleet(valkey_url, server, bucket, origin, tmp_path, worker=True) as fleet:
        yield request.param, fleet


@pytest.fixture
async def bytes_store():
    """A store in this process that lists by bytes and obeys `start-after`."""
    async with running_fake_s3(FakeS3()) as fake:
        yield fake


@pytest.fixture
async def bytes_fleet(valkey_url, bytes_store, bucket, origin, tmp_path):
    """A fleet on it, whose worker a test starts when it wants."""
    server = SimpleNamespace(
        endpoint=bytes_store.endpoint, access_key_id="key", secret_access_key="secret-of-it"
    )
    async with running_fleet(valkey_url, server, bucket, origin, tmp_path, worker=False) as fleet:
        yield fleet
