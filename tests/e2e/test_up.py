"""`ferryman up` as a whole: real processes, real sockets, real signals."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import threading
import time

import boto3
import pytest

from scheduler.config.ports import free_ports
from support.installation import (
    PATIENCE_S,
    alive,
    descendants,
    ferryman,
    plain_environment,
    running_origin,
    running_up,
    until,
)

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def origin():
    with running_origin() as server:
        server.bodies.update({f"k{n}": b"body %d\n" % n for n in range(50)})
        yield server


@pytest.fixture(scope="module")
def shared(tmp_path_factory, origin):
    """One installation for all tests that leave it running."""
    with running_up(tmp_path_factory.mktemp("shared"), origin.url) as up:
        yield up


# ---------------------------------------------------------------- it serves


def test_metrics_say_what_was_done_and_nothing_else(shared, origin):
    """Each figure against what the clients did. First in the file: counts of others arrive a second late."""
    origin.bodies.update({f"metered/{n}": b"x" * 1000 for n in range(6)})
    host = origin.url.removeprefix("http://")
    before = figures(shared)
    for n in range(5):
        assert shared.get(f"/site/metered/{n}")[0] == 200
    for n in range(5):
        until(lambda n=n: shared.stored("site", f"metered/{n}"), "it is in the store")
        assert shared.get(f"/site/metered/{n}")[0] == 200
    nowhere = f'ferryman_origin_requests_total{{origin="{host}",status="404"}}'
    assert shared.get("/site/metered/never")[0] == 404
    until(lambda: figures(shared).get(nowhere, 0) == before.get(nowhere, 0) + 1, "the pull has ended")
    assert shared.get("/site/metered/never")[0] == 404
    assert shared.post_event("site", "metered/5")[0] == 202
    expected = {
        f'ferryman_origin_requests_total{{origin="{host}",status="200"}}': 6,
        nowhere: 1,
        'ferryman_gateway_requests_total{kind="origin",status="200"}': 5,
        'ferryman_gateway_requests_total{kind="hit",status="200"}': 5,
        'ferryman_gateway_requests_total{kind="absent",status="404"}': 2,
        "ferryman_negative_cache_hits_total": 1,
        'ferryman_transfer_bytes_sum{lane="front"}': 5000,
        'ferryman_transfer_bytes_sum{lane="hot"}': 1000,
        'ferryman_transfer_seconds_count{lane="front"}': 5,
        'ferryman_outcomes_total{outcome="stored",rule="rule-1"}': 6,
        # Six pulls of the front (one key was nowhere), one event.
        'ferryman_claims_total{result="claimed"}': 7,
        'ferryman_miss_events_total{result="accepted",source="http"}': 1,
    }

    def grown() -> dict[str, float]:
        now = figures(shared)
        return {name: now.get(name, 0) - before.get(name, 0) for name in expected}

    deadline = time.monotonic() + PATIENCE_S
    while grown() != expected and time.monotonic() < deadline:
        time.sleep(0.2)
    assert grown() == expected


def figures(up) -> dict[str, float]:
    """Every sample of /metrics."""
    lines = up.ask("/metrics", token=up.token)[2].decode().splitlines()
    return {
        name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")
    }


def test_an_event_makes_a_worker_fetch(shared, origin):
    status, answer = shared.post_event("site", "k2")
    assert (status, answer["accepted"]) == (202, 1)
    until(lambda: shared.stored("site", "k2"), "k2 is in the store")
    assert shared.get("/site/k2")[2] == b"body 2\n"
    assert origin.asked.count("k2") == 1


def test_a_client_reads_the_first_bytes_before_the_origin_has_sent_the_last(shared, origin):
    origin.bodies["streamed"] = os.urandom(400_000)
    half_sent, go_on = origin.gate("streamed")
    host, port = shared.gateway.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as client:
        client.sendall(b"GET /site/streamed HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert half_sent.wait(PATIENCE_S)
        received = b""
        while len(received) < 100_000:
            received += client.recv(65536)
        assert not go_on.is_set()
        go_on.set()
        while chunk := client.recv(65536):
            received += chunk
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert body == origin.bodies["streamed"]


@pytest.mark.parametrize("part", ["valkey", "store", "front"])
def test_a_killed_part_is_started_again_and_the_system_serves(shared, origin, part):
    before, after = f"{part}-before", f"{part}-after"
    origin.bodies.update({before: b"1", after: b"2", f"{part}-event": b"3"})
    assert shared.get(f"/site/{before}")[0] == 200
    until(lambda: shared.stored("site", before), "stored before the kill")
    os.kill(shared.pid_of(part), signal.SIGKILL)
    until(lambda: shared.restarted(part), f"{part} was started again")
    until(lambda: shared.get(f"/site/{after}")[0] == 200, "a new miss is served")
    until(lambda: shared.get(f"/site/{before}")[2] == b"1", "what was stored is still there")
    until(lambda: shared.post_event("site", f"{part}-event")[0] == 202, "an event is accepted")
    until(lambda: f"{part}-event" in origin.asked, "workers go on")


def test_a_killed_worker_process_is_started_again(shared, origin):
    master = shared.pid_of("worker hot")
    assert master in descendants(shared.process.pid)
    os.kill(next(iter(descendants(master))), signal.SIGKILL)
    until(lambda: shared.restarted("worker hot"), "the lane was started again")
    assert shared.post_event("site", "k5")[0] == 202
    until(lambda: "k5" in origin.asked, "the event was worked off")


def test_a_second_up_in_one_directory_is_refused_and_disturbs_nothing(shared, tmp_path):
    listen = ("--gateway-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0")
    ended = run_up(tmp_path, "--data-dir", str(shared.data_dir), *listen)
    assert ended.returncode == 2
    assert f"process {shared.process.pid}) runs in {shared.data_dir}" in ended.stderr
    assert shared.get("/site/k1")[0] == 200


def test_another_terminal_finds_the_embedded_parts(shared, tmp_path):
    config = tmp_path / "second.yaml"
    config.write_text(f"data_dir: {shared.data_dir}\n")
    with subprocess.Popen(
        ferryman("worker", "--lane", "cold", "--config", str(config)),
        env=plain_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as worker:
        line = b""
        while b"worker_ready" not in line:
            line = worker.stdout.readline()
            assert line, "the worker ended"
        worker.send_signal(signal.SIGINT)
        worker.stdout.read()
        assert worker.wait(PATIENCE_S) == 0


def test_the_admin_side_needs_its_token_and_shows_the_page(shared):
    assert shared.ask("/", token=None)[0] == 401
    assert shared.ask("/", token="wrong")[0] == 401
    assert shared.ask("/healthz", token=None)[0] == 200
    status, headers, body = shared.ask("/", token=shared.token)
    assert (status, headers["content-type"].split(";")[0]) == (200, "text/html")
    assert b"<h1" in body
    assert (shared.data_dir / "admin-token").stat().st_mode & 0o777 == 0o600
    assert (shared.data_dir / "credentials.json").stat().st_mode & 0o777 == 0o600


def test_the_printed_variables_are_enough_for_an_s3_client(shared, origin):
    printed = dict(re.findall(r"export (AWS_[A-Z_]+)=(\S+)", shared.output))
    credentials = json.loads((shared.data_dir / "credentials.json").read_text())
    assert printed["AWS_ACCESS_KEY_ID"] == credentials["client_access_key_id"]
    client = boto3.client(
        "s3",
        endpoint_url=printed["AWS_ENDPOINT_URL"],
        aws_access_key_id=printed["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=printed["AWS_SECRET_ACCESS_KEY"],
        region_name="us-east-1",
    )
    assert "site" in [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]
    client.put_object(Bucket="site", Key="by s3", Body=b"written")
    assert shared.get("/site/by%20s3")[2] == b"written"
    origin.bodies["s3-only"] = b"pulled"
    assert client.head_object(Bucket="site", Key="s3-only")["ContentLength"] == 6
    assert client.get_object(Bucket="site", Key="s3-only")["Body"].read() == b"pulled"
    client.delete_object(Bucket="site", Key="s3-only")
    assert shared.get("/site/s3-only")[0] == 404
    client.create_bucket(Bucket="made-by-a-client")
    client.delete_bucket(Bucket="made-by-a-client")
    client.close()


def test_no_secret_is_in_any_output(shared):
    credentials = json.loads((shared.data_dir / "credentials.json").read_text())
    for secret in (shared.token, credentials["secret_access_key"], credentials["valkey_password"]):
        assert secret not in shared.output
        for log in (shared.data_dir / "logs").iterdir():
            assert secret not in log.read_text(errors="replace"), log


# ---------------------------------------------------------------- it is told


def test_a_hangup_puts_the_rules_of_the_changed_file_in_force_and_nothing_stops(tmp_path, origin):
    config = tmp_path / "my.yaml"
    text = "buckets: {other: {rules: [{prefix: PREFIX, origins: ['ORIGIN']}]}}".replace("ORIGIN", origin.url)
    config.write_text(text.replace("PREFIX", "nothing/"))
    origin.bodies["late"] = b"late\n"
    with running_up(tmp_path / "up", origin.url, extra=("--config", str(config))) as up:
        assert up.get("/other/late")[0] == 404
        config.write_text(text.replace("PREFIX", "[]"))
        up.process.send_signal(signal.SIGHUP)
        until(lambda: "file_rules_refused" in up.output, "a wrong file is refused")
        assert up.get("/other/late")[0] == 404
        config.write_text(text.replace("PREFIX", "'la'"))
        up.process.send_signal(signal.SIGHUP)
        until(lambda: up.get("/other/late")[0] == 200, "the new rule is in force")
        assert up.process.poll() is None


def test_a_bucket_that_a_hangup_or_rules_apply_brings_is_served_without_a_restart(tmp_path, origin):
    config = tmp_path / "my.yaml"
    section = f"{{rules: [{{origins: ['{origin.url}']}}]}}"
    config.write_text(f"buckets:\n  other: {section}\n")
    with running_up(tmp_path / "up", origin.url, extra=("--config", str(config))) as up:
        assert up.get("/second/k7")[0] == 404
        with config.open("a") as file:
            file.write(f"  second: {section}\n")
        up.process.send_signal(signal.SIGHUP)
        until(lambda: up.get("/second/k7")[0] == 200, "the bucket of the hangup is served")
        until(lambda: up.stored("second", "k7"), "and filled")
        with config.open("a") as file:
            file.write(f"  third: {section}\n")
        applied = subprocess.run(
            ferryman("rules", "apply", "--config", str(config)),
            env={**os.environ, "FERRYMAN_DATA_DIR": str(up.data_dir)},
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert applied.returncode == 0, applied.stderr
        until(lambda: up.get("/third/k8")[0] == 200, "the bucket of `rules apply` is served")
        status, answer = up.post_event("third", "k9")
        assert (status, answer["accepted"]) == (202, 1)
        until(lambda: up.stored("third", "k9"), "and events of it are taken")
        assert up.process.poll() is None


def test_an_origin_that_is_the_gateway_itself_is_refused_and_not_asked(tmp_path, origin):
    config = tmp_path / "my.yaml"
    (port,) = free_ports(1)
    config.write_text(
        f"buckets: {{loop: {{rules: [{{prefix: 'x', origins: ['http://127.0.0.1:{port}/site/']}}]}}}}"
    )
    listen = ("--config", str(config), "--gateway-listen", f"127.0.0.1:{port}")
    with running_up(tmp_path / "up", origin.url, extra=listen) as up:
        status, _, body = up.get("/loop/x1")
        assert status in {424, 508}, body
        assert str(port).encode() not in body
    assert "x1" not in origin.asked


# ---------------------------------------------------------------- it ends


def test_what_was_stored_is_served_after_a_restart_without_the_origin(tmp_path, origin):
    with running_up(tmp_path, origin.url) as up:
        status, _, body = up.get("/site/k1")
        assert (status, body) == (200, b"body 1\n")
        until(lambda: up.stored("site", "k1"), "k1 is in the store")
        assert up.interrupt() == 0
    asked = origin.asked.count("k1")
    with running_up(tmp_path, "http://127.0.0.1:9") as up:
        status, headers, body = up.get("/site/k1")
        assert (status, body) == (200, b"body 1\n")
        assert headers["x-oss-tag"]
    assert origin.asked.count("k1") == asked


def test_a_killed_up_leaves_no_process_behind(tmp_path, origin):
    with running_up(tmp_path, origin.url) as up:
        children = descendants(up.process.pid)
        # dramatiq's own worker processes are grandchildren.
        assert sum("worker_master" in line for line in children.values()) >= 4, children
        assert any("valkey-server" in line for line in children.values())
        assert any("weed" in line for line in children.values())
        os.kill(up.process.pid, signal.SIGKILL)
        up.process.wait()
        until(
            lambda: not any(alive(pid) for pid in children),
            f"all of {children} have ended",
            timeout_s=20.0,
        )


def test_ctrl_c_lets_a_running_answer_end_and_stops_everything_in_order(tmp_path, origin):
    origin.bodies["slow"] = os.urandom(600_000)
    half_sent, go_on = origin.gate("slow")
    with running_up(tmp_path, origin.url) as up:
        children = descendants(up.process.pid)
        answers: list[tuple[int, dict[str, str], bytes]] = []
        client = threading.Thread(target=lambda: answers.append(up.get("/site/slow")))
        client.start()
        assert half_sent.wait(PATIENCE_S)
        up.process.send_signal(signal.SIGINT)
        until(lambda: "stopping front" in up.output, "the front was told to stop")
        until(lambda: up.get("/site/k9", timeout_s=2)[0] == -1, "nobody new is let in")
        go_on.set()
        client.join(PATIENCE_S)
        assert answers[0][0] == 200
        assert answers[0][2] == origin.bodies["slow"]
        assert up.process.wait(PATIENCE_S) == 0
        order = [line for line in up.output.splitlines() if line.startswith("stop")]
        assert order == [
            "stopping front, scans",
            "stopping worker hot, worker cold",
            "stopping valkey, store",
            "stopped",
        ]
        assert not [pid for pid in children if alive(pid)]


@pytest.mark.slow
def test_ctrl_c_loses_no_accepted_event(tmp_path, origin):
    keys = [f"drained-{n}" for n in range(40)]
    for key in keys:
        origin.bodies[key] = key.encode()
    half_sent, go_on = origin.gate(keys[0])
    with running_up(tmp_path, origin.url) as up:
        for key in keys:
            assert up.post_event("site", key)[0] == 202
        assert half_sent.wait(PATIENCE_S)
        up.process.send_signal(signal.SIGINT)
        until(lambda: "stopping worker" in up.output, "the workers were told to stop")
        go_on.set()
        assert up.process.wait(PATIENCE_S) == 0
    with running_up(tmp_path, origin.url) as up:
        until(lambda: all(up.stored("site", key) for key in keys), "every accepted event is an object")


def test_a_second_ctrl_c_ends_at_once(tmp_path, origin):
    origin.bodies["stuck"] = os.urandom(600_000)
    half_sent, _ = origin.gate("stuck")
    with running_up(tmp_path, origin.url) as up:
        client = threading.Thread(target=lambda: up.get("/site/stuck"))
        client.start()
        assert half_sent.wait(PATIENCE_S)
        up.process.send_signal(signal.SIGINT)
        until(lambda: "stopping front" in up.output, "the front was told to stop")
        began = time.monotonic()
        up.process.send_signal(signal.SIGINT)
        up.process.wait(PATIENCE_S)
        assert time.monotonic() - began < 10.0, "limits.drain_s is 20"
        client.join(PATIENCE_S)


# ---------------------------------------------------------------- it says what is wrong


def run_up(root, *arguments):
    return subprocess.run(
        ferryman("up", *arguments),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        env=plain_environment(),
        cwd=root,
        check=False,
    )


@pytest.mark.parametrize("section", ["gateway", "admin"])
def test_a_busy_port_is_one_message_and_nothing_is_started(tmp_path, section):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listens = {"gateway": "127.0.0.1:0", "admin": "127.0.0.1:0"}
        listens[section] = f"127.0.0.1:{taken.getsockname()[1]}"
        ended = run_up(tmp_path, "--gateway-listen", listens["gateway"], "--admin-listen", listens["admin"])
    assert ended.returncode == 2
    assert f"{section}.listen {listens[section]}: another process uses this port" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / ".ferryman" / "valkey").exists()


def test_refused_store_credentials_are_one_message_and_exit_code_2(tmp_path, seaweed):
    config = tmp_path / "config.yaml"
    config.write_text(
        f"store: {{endpoint: '{seaweed.endpoint}', access_key_id: nobody, secret_access_key: wrong}}\n"
        "gateway: {listen: '127.0.0.1:0'}\nadmin: {listen: '127.0.0.1:0'}\n"
        "buckets: {site: {rules: [{origins: ['http://127.0.0.1:9']}]}}\n"
    )
    ended = run_up(tmp_path)
    assert ended.returncode == 2, ended.stderr
    assert "the store refused the credentials" in ended.stderr
    assert "store.access_key_id" in ended.stderr
    assert "Traceback" not in ended.stderr
