"""deploy/compose: every name it uses is declared, secrets are files, nginx starts with what it is given."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from conftest import skip_or_fail
from scheduler.config.load import load_settings
from scheduler.rules.in_force.apply import read_file_rules

COMPOSE = Path(__file__).parents[2] / "deploy" / "compose"


@pytest.fixture(scope="module")
def compose() -> dict:
    return yaml.safe_load((COMPOSE / "compose.yaml").read_text(encoding="utf-8"))


def names(entries) -> set[str]:
    return {entry if isinstance(entry, str) else entry["source"] for entry in entries or ()}


def test_every_secret_config_network_volume_and_service_that_is_named_is_declared(compose):
    services = compose["services"]
    for name, service in services.items():
        assert names(service.get("secrets")) <= set(compose["secrets"]), name
        assert names(service.get("configs")) <= set(compose["configs"]), name
        assert set(service["networks"]) <= set(compose["networks"]), name
        assert set(service.get("depends_on", {})) <= set(services), name
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (COMPOSE / source).exists(), (name, source)
            elif not source.startswith("/"):
                assert source in compose["volumes"], (name, source)
    for name, service in services.items():
        for other, condition in service.get("depends_on", {}).items():
            own = "build" in services[other]
            assert condition == {"condition": "service_healthy"}
            assert own or "healthcheck" in services[other], (name, other)


def test_our_containers_are_read_only_without_rights_and_may_drain(compose):
    ours = [one for one in compose["services"].values() if one["image"].startswith("ferryman:")]
    assert len(ours) == 5
    for service in ours:
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert any("/var/lib/ferryman" in volume for volume in service["volumes"])
        assert service["stop_grace_period"] == "45s"
        assert not [key for key in service.get("environment", {}) if "SECRET" in key or "TOKEN" in key]


def test_only_loopback_is_published(compose):
    for service in compose["services"].values():
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:")


def test_what_asks_an_origin_has_a_way_out_and_nothing_else_of_ours_has(compose):
    for name in ("front-1", "front-2", "worker-hot", "worker-cold"):
        assert "outside" in compose["services"][name]["networks"]
    for name in ("consumer", "valkey", "store", "prometheus"):
        assert compose["services"][name]["networks"] == ["inside"]
    assert compose["networks"]["inside"] == {"internal": True}


@pytest.fixture(scope="module")
def secrets(tmp_path_factory) -> Path:
    """What secrets.sh makes."""
    directory = tmp_path_factory.mktemp("compose")
    shutil.copy(COMPOSE / "secrets.sh", directory)
    for _ in range(2):
        subprocess.run([str(directory / "secrets.sh")], check=True, capture_output=True)
    return directory / "secrets"


def test_secrets_are_made_once_each_and_are_those_that_compose_mounts(compose, secrets):
    declared = {Path(one["file"]).name for one in compose["secrets"].values()}
    assert {path.name for path in secrets.iterdir()} == declared
    before = {path.name: path.read_bytes() for path in secrets.iterdir()}
    subprocess.run([str(secrets.parent / "secrets.sh")], check=True, capture_output=True)
    assert {path.name: path.read_bytes() for path in secrets.iterdir()} == before
    assert secrets.stat().st_mode & 0o777 == 0o700
    password = before["valkey.conf"].split()[1].decode()
    assert before["broker-url"].decode() == f"redis://:{password}@valkey:6379/0\n"
    assert before["store-secret"] in before["s3.json"]
    ignored = (COMPOSE / ".gitignore").read_text(encoding="utf-8").split()
    assert "secrets/" in ignored


def test_the_configuration_is_valid_with_these_secrets(secrets, tmp_path):
    text = (COMPOSE / "config.yaml").read_text(encoding="utf-8").replace("/run/secrets", str(secrets))
    path = tmp_path / "config.yaml"
    path.write_text(text)
    settings = load_settings(path, env={})
    rulesets, _ = read_file_rules(settings)
    assert set(rulesets) == {"site"}
    assert settings.broker.url.startswith("redis://:")


def gateway(tmp_path: Path, port: int, store: str, fronts: str) -> Path:
    """nginx's configuration, as the container's start script writes it."""
    made = tmp_path / "default.conf"
    environment = {
        **os.environ,
        "SOURCE": str(COMPOSE.parent / "nginx" / "ferryman.conf"),
        "STORE": store, "FRONTS": fronts, "BUCKET": "assets", "SERVER_NAME": "files.example",
        "LISTEN": f"127.0.0.1:{port} default_server", "CONF": str(made),
        "ACCESS_LOG": str(tmp_path / "access.log"),
    }  # fmt: skip
    subprocess.run([str(COMPOSE / "gateway.sh")], check=True, env=environment)
    return made


def test_the_gateways_start_script_fills_in_every_marked_place(tmp_path):
    text = gateway(tmp_path, 8088, "store:8333", "front-1:8080 front-2:8080").read_text(encoding="utf-8")
    assert "server front-1:8080 max_fails=0; server front-2:8080 max_fails=0;" in text
    assert "server store:8333;" in text
    assert "http://ferryman_store/assets$request_uri" in text
    configured = re.sub(r"#.*", "", text)
    assert "127.0.0.1:8333" not in configured
    assert "www.example.com" not in configured
    variables = yaml.safe_load((COMPOSE / "compose.yaml").read_text())["services"]["gateway"]["environment"]
    assert set(variables) == {"STORE", "FRONTS", "BUCKET", "SERVER_NAME", "LISTEN", "CONF", "ACCESS_LOG"}


def test_nginx_accepts_the_configuration_that_the_start_script_writes(tmp_path):
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if nginx is None:
        skip_or_fail("nginx is not installed")
    made = gateway(tmp_path, 18999, "127.0.0.2:8333", "127.0.0.2:8080 127.0.0.3:8080")
    main = tmp_path / "nginx.conf"
    main.write_text(
        f"pid {tmp_path}/pid; error_log stderr; events {{}} http {{ include {made}; "
        + " ".join(f"{kind}_temp_path {tmp_path}/{kind};" for kind in ("client_body", "proxy", "fastcgi"))
        + f" uwsgi_temp_path {tmp_path}/u; scgi_temp_path {tmp_path}/s; }}\n"
    )
    done = subprocess.run(
        [nginx, "-t", "-c", str(main), "-p", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
