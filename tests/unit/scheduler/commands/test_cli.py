"""The command line: help, messages, exit codes."""

from __future__ import annotations

import json
import socket
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from scheduler import cli
from scheduler.commands.command_line import CommandFailed, failure, load
from scheduler.demo.system import DemoFailed, fresh_directory
from scheduler.machine.listen import bind
from workers.errors import BrokerUnavailable, ConfigError, OriginTimeout, StoreDenied


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("FERRYMAN_CONFIG",):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def invoke(*arguments: str):
    return CliRunner().invoke(cli.cli, list(arguments))


def test_help_lists_only_commands_that_exist_and_imports_none_of_them():
    code = "import sys; from scheduler.cli import cli; cli(['--help'], standalone_mode=False); "
    code += "print([m for m in sys.modules if m.startswith('scheduler.commands.')])"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "up " in ended.stdout
    assert ended.stdout.splitlines()[-1] == "[]"


def test_every_listed_command_is_a_click_command_with_a_help_text():
    context = click.Context(cli.cli)
    for name in cli.cli.list_commands(context):
        command = cli.cli.get_command(context, name)
        assert command is not None
        assert command.help or command.get_short_help_str(), name


def test_an_unknown_command_ends_with_exit_code_2():
    assert invoke("sail").exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["up", "--config", "none.yaml"], "none.yaml: no such file"),
        (["up", "--origin", "old.example.com"], "for example https://old.example.com"),
        (["up", "--origin", "ftp://old.example.com"], "http:// or https://"),
        (["up", "--origin", "https://"], "a host is expected"),
        (["up", "--origin", "http://o.example", "--bucket", "a"], "3 to 63"),
        (["up", "--bucket", "site"], "--bucket goes with --origin"),
        (["up", "--gateway-listen", "8080"], "host:port"),
        (["up", "--gateway-listen", "0.0.0.0:8080"], "not loopback"),
        (["front", "--no-gateway", "--no-admin"], "nothing to run"),
        (["worker", "--lane", "warm"], "'warm' is not one of"),
        (["front"], "start `ferryman up` first, or set store.endpoint"),
        (["worker"], "start `ferryman up` first, or set store.endpoint"),
    ],
)
def test_bad_usage_is_one_message_and_exit_code_2(here, arguments, said):
    result = invoke(*arguments)
    assert said in result.output
    assert result.exit_code == 2
    assert not (here / ".ferryman" / "valkey").exists()


@pytest.mark.parametrize("command", ["up", "front", "worker", "consume"])
def test_secret_files_that_are_not_there_are_told_all_at_once_before_anything_starts(here, command):
    (here / "config.yaml").write_text(
        "admin: {token_file: no/token}\n"
        "store: {endpoint: 'http://127.0.0.1:1', access_key_id: a, secret_access_key_file: no/key}\n"
        f"broker: {{url: {'embedded' if command == 'up' else 'redis://127.0.0.1:1/0'}}}\n"
        "gateway: {access_keys: [{id: a, secret_file: no/pair}]}\n"
    )
    result = invoke(command)
    assert result.exit_code == 2
    for setting in ("admin.token_file", "store.secret_access_key_file", "gateway.access_keys[0].secret_file"):
        assert f"{setting}: cannot read no/" in result.output
    assert not (here / ".ferryman").exists()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda root: root.parent.touch(), "Not a directory"),
        (lambda root: root.parent.mkdir(), None),
        (lambda root: root.mkdir(parents=True) or (root / "mine").touch(), "was not made by a demo"),
    ],
    ids=["below-a-file", "below-a-folder", "somebody-s"],
)
def test_the_demo_takes_no_directory_that_is_not_its_own(tmp_path, make, said):
    root = tmp_path / "file" / "demo"
    make(root)
    if said is None:
        fresh_directory(root)
        assert root.is_dir()
    else:
        with pytest.raises(DemoFailed, match=said):
            fresh_directory(root)


def test_a_mistake_of_yaml_is_one_line_with_its_place(here):
    (here / "config.yaml").write_text("buckets:\n  site: {}\n - x\n")
    result = invoke("worker")
    assert result.exit_code == 2
    assert result.output.startswith("Error: config.yaml:3:2: not YAML: ")
    assert result.output.count("\n") == 1


def test_doctor_says_what_it_can_where_the_embedded_parts_do_not_run(here):
    (here / "config.yaml").write_text("buckets: {site: {}}\n")
    result = invoke("doctor", "--json")
    assert result.exit_code == 0
    found = {(one["subject"], one["check"]): one for one in json.loads(result.stdout)["findings"]}
    assert found["embedded", "running"]["level"] == "warning"
    assert "ferryman up" in found["embedded", "running"]["remedy"]
    assert {"configuration", "limits", "rules"} <= {subject for subject, _ in found}


def test_the_configuration_in_the_working_directory_is_read_by_itself(here):
    (here / "config.yaml").write_text("gatway: {}\n")
    result = invoke("worker")
    assert (result.exit_code, "gatway" in result.output) == (2, True)


def test_with_origin_the_configuration_in_the_working_directory_is_left_alone(here):
    (here / "config.yaml").write_text("data_dir: elsewhere\n")
    assert load(None, resolve=False, implicit=False).data_dir.name == ".ferryman"


@pytest.mark.parametrize("words", [("up", "--origin"), ("explain", "GET")])
def test_a_url_that_is_none_is_named_and_no_internal_error(here, words):
    result = invoke(*words, "http://[::1/")
    assert (result.exit_code, "http://[::1/" in result.output) == (2, True), result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize("mark", ["/", "#", "?", "[", "@"])
def test_nothing_of_a_password_in_an_origins_url_is_printed(here, mark):
    result = invoke("up", "--origin", f"http://user:hush{mark}quiet@old.example.com/")
    assert (result.exit_code, "user info in a URL is refused" in result.output) == (2, True), result.output
    assert "hush" not in result.output
    assert "quiet" not in result.output


@pytest.mark.parametrize("name", ["FERRYMAN_STORE__ENDPOINT", "FERRYMAN_GATEWAY__LISTEN"])
def test_a_wrong_variable_is_named_by_a_command(here, monkeypatch, name):
    monkeypatch.setenv(name, "nonsense")
    result = invoke("worker")
    assert (result.exit_code, name in result.output) == (2, True)


@pytest.mark.parametrize("section", ["gateway", "admin"])
def test_a_busy_port_names_the_setting_to_change(section):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigError) as caught:
            bind(section, listen)
    message = str(caught.value)
    assert f"{section}.listen {listen}: another process uses this port" in message
    assert f"--{section}-listen" in message


def test_an_address_of_another_machine_is_refused():
    with pytest.raises(ConfigError, match="no such address"):
        bind("gateway", "192.0.2.1:8080")


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ConfigError("config.yaml:3: x"), 2, "config.yaml:3"),
        (
            StoreDenied("403 InvalidAccessKeyId", status=403, code="InvalidAccessKeyId"),
            2,
            "store.access_key_id",
        ),
        (BrokerUnavailable("connection refused"), 1, "broker.url"),
        (OriginTimeout("no answer"), 1, "no answer"),
    ],
)
def test_errors_have_their_exit_code_and_remedy(error, code, said):
    ended = failure(error)
    assert isinstance(ended, CommandFailed)
    assert ended.exit_code == code
    assert said in ended.message


def test_the_version_is_that_of_the_package():
    assert invoke("--version").output.startswith("ferryman, version ")


def test_a_failing_child_of_the_group_prints_no_traceback(here):
    ended = subprocess.run(
        [sys.executable, "-m", "scheduler.cli", "worker"], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    assert json.dumps(str(here))[1:-1] in ended.stderr


def test_init_writes_a_configuration_that_loads_and_replaces_none(here):
    assert invoke("init", "--origin", "http://o.example/base/", "--bucket", "pictures").exit_code == 0
    settings = load(here / "config.yaml", resolve=False)
    assert settings.buckets["pictures"].rules == ({"origins": ["http://o.example/base/"]},)
    again = invoke("init")
    assert (again.exit_code, "--force" in again.output) == (2, True)
    assert invoke("init", "--force").exit_code == 0


@pytest.mark.parametrize(
    "arguments", [["--origin", "old.example.com"], ["--bucket", "a"], ["/nowhere/x.yaml"]]
)
def test_init_with_a_mistake_writes_nothing(here, arguments):
    assert invoke("init", *arguments).exit_code == 2
    assert not (here / "config.yaml").exists()


@pytest.mark.parametrize(
    ("source", "inventory"),
    [("bucket=other", {"bucket": "other"}), ("sitemap=https://x/y", {"sitemap": "https://x/y"})],
)
def test_a_source_that_is_a_name_or_a_url_is_taken_as_it_is_and_shards_are_a_number_or_auto(
    here, monkeypatch, source, inventory
):
    seen = {}

    async def start(_settings, _name, given, **_):
        seen.update(given)
        return ""

    monkeypatch.setattr("scheduler.commands.scan._start", start)
    monkeypatch.setattr("scheduler.commands.scan.load", lambda _: None)
    for said, meant in (("auto", "auto"), ("32", 32)):
        done = invoke("scan", "start", "s", "--bucket", "b", "--source", source, "--shards", said)
        assert done.exit_code == 0, done.output
        assert (seen["inventory"], seen["shards"]) == (inventory, meant)
    refused = invoke("scan", "start", "s", "--bucket", "b", "--source", source, "--shards", "0")
    assert refused.exit_code == 2
    assert "'0': a number from 1 on, or auto" in refused.output
