"""`ferryman up` as a whole: real processes, real sockets, real signals."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading

import pytest

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


@pytest.fixture
def origin():
    with running_origin() as server:
        server.bodies.update({f"k{n}": b"body %d\n" % n for n in range(50)})
        yield server


def test_a_missing_key_is_answered_stored_and_later_served_without_the_origin(tmp_path, origin):
    with running_up(tmp_path, origin.url) as up:
        status, _, body = up.get("/site/k1")
        assert (status, body) == (200, b"body 1\n")
        until(lambda: up.stored("site", "k1"), "k1 is in the store")
        asked = origin.asked.count("k1")
        assert up.interrupt() == 0
    assert asked == 1
    # A second start on the same directory finds everything again, with nobody at the origin.
    origin.bodies.clear()
    with running_up(tmp_path, origin.url) as up:
        status, headers, body = up.get("/site/k1")
        assert (status, body) == (200, b"body 1\n")
        assert headers["x-oss-tag"]
    assert origin.asked.count("k1") == asked


def test_an_event_makes_a_worker_fetch(tmp_path, origin):
    with running_up(tmp_path, origin.url) as up:
        status, answer = up.post_event("site", "k2")
        assert (status, answer["accepted"]) == (202, 1)
        until(lambda: up.stored("site", "k2"), "k2 is in the store")
        assert up.get("/site/k2")[2] == b"body 2\n"
        assert origin.asked.count("k2") == 1


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


@pytest.mark.parametrize("part", ["valkey", "store", "front"])
def test_a_killed_part_is_started_again_and_the_system_serves(tmp_path, origin, part):
    with running_up(tmp_path, origin.url) as up:
        assert up.get("/site/k1")[0] == 200
        os.kill(up.pid_of(part), signal.SIGKILL)
        until(lambda: '"child_restarted"' in up.output, f"{part} was started again")
        until(lambda: up.get("/site/k3")[0] == 200, "a new miss is served")
        assert up.post_event("site", "k4")[0] == 202
        until(lambda: "k4" in origin.asked, "workers go on")


def test_a_killed_worker_process_is_started_again(tmp_path, origin):
    with running_up(tmp_path, origin.url) as up:
        masters = descendants(up.process.pid)
        hot = up.pid_of("worker hot")
        assert hot in masters
        grandchildren = list(descendants(hot))
        os.kill(grandchildren[0], signal.SIGKILL)
        until(lambda: '"child_restarted"' in up.output, "the lane was started again")
        assert up.post_event("site", "k5")[0] == 202
        until(lambda: "k5" in origin.asked, "the event was worked off")


def test_ctrl_c_lets_a_running_answer_end_and_stops_everything(tmp_path, origin):
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
            "stopping front",
            "stopping worker hot, worker cold",
            "stopping valkey, store",
            "stopped",
        ]
        assert not [pid for pid in children if alive(pid)]


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


def test_a_second_up_in_one_directory_is_refused_and_disturbs_nothing(tmp_path, origin):
    with running_up(tmp_path, origin.url) as up:
        ended = run_up(
            tmp_path,
            "--data-dir",
            str(up.data_dir),
            "--gateway-listen",
            "127.0.0.1:0",
            "--admin-listen",
            "127.0.0.1:0",
        )
        assert ended.returncode == 2
        assert f"process {up.process.pid}) runs in {up.data_dir}" in ended.stderr
        assert up.get("/site/k1")[0] == 200


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


def test_another_terminal_finds_the_embedded_parts(tmp_path, origin):
    with running_up(tmp_path, origin.url) as up:
        config = tmp_path / "second.yaml"
        config.write_text(f"data_dir: {up.data_dir}\n")
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
