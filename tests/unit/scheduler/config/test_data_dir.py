"""The data directory: its lock, its private files, remembered ports."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from scheduler.config.data_dir import (
    DataDirLock,
    admin_token,
    holder,
    write_private,
)
from workers.errors import ConfigError

HOLD = """
import sys, pathlib, time
from scheduler.config.data_dir import DataDirLock
with DataDirLock(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def other(tmp_path):
    """Another process that holds the lock of tmp_path."""
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


def test_a_second_holder_gets_one_clear_error_with_the_process_of_the_first(tmp_path, other):
    with pytest.raises(ConfigError, match=rf"process {other.pid}\).*data_dir"), DataDirLock(tmp_path):
        pass
    assert holder(tmp_path) == other.pid


def test_a_lock_whose_holder_was_killed_is_taken_over(tmp_path, other):
    other.kill()
    other.wait()
    assert holder(tmp_path) is None
    with DataDirLock(tmp_path):
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"


def test_after_release_nobody_holds_it(tmp_path):
    with DataDirLock(tmp_path):
        pass
    assert holder(tmp_path) is None


def test_no_directory_means_no_holder(tmp_path):
    assert holder(tmp_path / "none") is None


def test_a_data_directory_that_cannot_be_made_is_a_configuration_error(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(ConfigError, match=r"data_dir.*FERRYMAN_DATA_DIR"),
        DataDirLock(tmp_path / "file" / "x"),
    ):
        pass


def test_private_files_are_readable_by_their_owner_only_and_replaced_whole(tmp_path):
    path = tmp_path / "deep" / "secret"
    write_private(path, "one")
    write_private(path, "two")
    assert path.read_text() == "two"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [found.name for found in path.parent.iterdir()] == ["secret"]


def test_the_admin_token_is_made_once_and_kept_private(tmp_path):
    token = admin_token(tmp_path)
    assert len(token) >= 40
    assert admin_token(tmp_path) == token
    assert (tmp_path / "admin-token").stat().st_mode & 0o777 == 0o600
