"""Scans by their commands, beside a `ferryman up` that was started without a configuration file."""

from __future__ import annotations

import json
import os
import signal
import subprocess

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


@pytest.fixture(scope="module")
def origin():
    with running_origin() as server:
        server.bodies.update({f"k{number:03}": b"body %d\n" % number for number in range(40)})
        yield server


@pytest.fixture(scope="module")
def up(tmp_path_factory, origin):
    with running_up(tmp_path_factory.mktemp("scans"), origin.url) as running:
        yield running


@pytest.fixture
def here(up, tmp_path):
    """A runner of commands in a directory that has no configuration file."""

    def run(*arguments, check=None):
        ended = subprocess.run(
            ferryman(*arguments), cwd=tmp_path, check=False, capture_output=True, text=True,
            timeout=PATIENCE_S, env={**plain_environment(), "FERRYMAN_DATA_DIR": str(up.data_dir)},
        )  # fmt: skip
        assert check is None or ended.returncode == check, ended.stdout + ended.stderr
        return ended

    return run


def manifest(tmp_path, keys, name="keys.txt"):
    path = tmp_path / name
    path.write_text("".join(f"{key}\n" for key in keys))
    return str(path)


def status(up, name):
    code, _, body = up.ask(f"/v1/scans/{name}", token=up.token)
    assert code == 200
    return json.loads(body)


def test_commands_without_a_file_mean_the_up_that_runs_in_their_data_dir(here, up, tmp_path):
    keys = manifest(tmp_path, ["k000", "k001", "gone"])
    said = here("scan", "start", "plain", "--bucket", "site", "--manifest", keys, check=0)
    assert "warning" not in said.stderr, "the child of `up` runs scans"
    until(lambda: status(up, "plain")["phase"] == "done", "the scan is done")
    report = status(up, "plain")
    assert json.loads(here("scan", "status", "plain", "--json", check=0).stdout) == report
    total = report["total"]
    assert (total["stored"], total["absent"], total["found"]) == (2, 1, 3)
    assert here("verify", "plain", "--full", check=0).stdout.startswith("verify plain: clean")
    assert json.loads(here("report", "--json", check=0).stdout)[0]["bucket"] == "site"


def test_finalizing_by_command_says_what_was_wrong_and_changes_nothing(here, tmp_path):
    keys = manifest(tmp_path, ["k003"])
    here("scan", "start", "fin", "--bucket", "site", "--manifest", keys, "--wait", check=0)
    forgotten = here("finalize", "fin", "--forget", "front:nobody", check=2)
    assert "no such watcher; known: front:" in forgotten.stderr
    watcher = forgotten.stderr.split("known: ")[1].split(",")[0].strip()
    looked = here("finalize", "fin", "--forget", watcher, "--quiet", "1s", "--json", check=1)
    assert json.loads(looked.stdout)["retired"] == [], "whoever tidies up retires nothing"
    shared = here("finalize", "fin", "--share", "0", "--json", check=0)
    assert json.loads(shared.stdout) == {"bucket": "site", "share": 0.0}
    assert "no rule of bucket site was retired" in here("finalize", "fin", "--rollback", check=2).stderr


def test_scans_run_in_a_process_of_their_own(here, up, origin, tmp_path):
    half_sent, go_on = origin.gate("k010")
    started = ("scan", "start", "own", "--bucket", "site", "--manifest", manifest(tmp_path, ["k010"]))
    assert "goes on" not in here(*started, check=0).stderr
    assert half_sent.wait(PATIENCE_S)
    said = here(*started, check=0).stderr
    assert "scan own goes on with its run of 20" in said
    assert "read for it then (keys: 1). To begin anew: ferryman scan cancel own" in said
    report = status(up, "own")
    go_on.set()
    host, _, pid = report["coordinator"].rpartition(":")
    assert host
    assert "scan serve" in descendants(up.process.pid)[int(pid)]
    until(lambda: status(up, "own")["phase"] == "done", "the scan is done")
    assert status(up, "own")["coordinator"] == ""


def test_a_front_on_its_own_keeps_such_a_process_too_and_takes_it_along_when_it_ends(up, tmp_path):
    settings = str(up.data_dir / "run" / "up.json")  # the same rules, as on another machine
    command = ferryman(
        "front", "--config", settings, "--gateway-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"
    )
    with subprocess.Popen(
        command, cwd=tmp_path, env=plain_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as front:
        try:
            until(
                lambda: any("scan serve" in line for line in descendants(front.pid).values()),
                "the front started a process for scans",
            )
            children = descendants(front.pid)
        finally:
            front.terminate()
            front.wait(PATIENCE_S)
    until(lambda: not any(alive(pid) for pid in children), "it ended with the front")


def test_a_command_beside_another_file_leaves_the_rules_in_force_and_says_so(here, up, tmp_path):
    (tmp_path / "config.yaml").write_text(
        f"data_dir: {up.data_dir}\nbuckets: {{site: {{rules: [{{origins: ['http://127.0.0.1:9']}}]}}}}\n"
    )
    before = here("rules", "history", "site", "--json", check=0).stdout
    keys = manifest(tmp_path, ["k002"])
    arguments = ("scan", "start", "beside", "--bucket", "site", "--manifest", keys, "--wait")
    said = here(*arguments, "--config", "config.yaml", check=0)
    assert "configuration read here has other rules for bucket site" in said.stderr
    assert "ferryman rules apply" in said.stderr
    said = here(*arguments, check=0)
    assert "note" not in said.stderr, "a file that only stands here is not what `up` was started with"
    assert here("rules", "history", "site", "--json", check=0).stdout == before


@pytest.mark.slow
def test_a_killed_coordinator_is_started_again_and_goes_on_with_its_scan(here, up, origin, tmp_path):
    keys = [f"many/{number:05}" for number in range(3000)]
    origin.bodies.update(dict.fromkeys(keys, b"x"))
    here(
        "scan", "start", "killed", "--bucket", "site", "--manifest", manifest(tmp_path, keys),
        "--rate", "1500", check=0,
    )  # fmt: skip
    until(lambda: status(up, "killed")["total"]["stored"] > 100, "it moves")
    pid = int(status(up, "killed")["coordinator"].rpartition(":")[2])
    os.kill(pid, signal.SIGKILL)
    until(lambda: up.restarted("scans"), "`up` started it again")
    until(lambda: status(up, "killed")["phase"] == "done", "the scan is done")
    total = status(up, "killed")["total"]
    assert (total["found"], total["stored"], total["failed"], total["pending"]) == (3000, 3000, 0, 0)
    assert max(map(origin.asked.count, keys)) <= 2
