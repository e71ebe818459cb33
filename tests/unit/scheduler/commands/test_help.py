"""`--help` of every command, and what shells complete."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from scheduler import cli
from scheduler.examples import EXAMPLES
from support.real import skip_or_fail

#: Where the console script of this very installation is.
BIN = Path(sys.executable).parent
#: Commands that only read, or have a result to tell.
READS = (
    "consume", "scan status", "verify", "finalize", "rules check", "rules show", "rules history", "explain",
    "failures list", "failures show", "failures export", "tombstone list", "origins", "origins probe",
    "status", "report", "doctor", "chaos-origin",
)  # fmt: skip


def commands() -> dict[str, click.Command]:
    """Every command and subcommand by its path."""
    found: dict[str, click.Command] = {"": cli.cli}
    context = click.Context(cli.cli)
    for name in cli.cli.list_commands(context):
        command = cli.cli.get_command(context, name)
        found[name] = command
        found |= {f"{name} {below}": inner for below, inner in getattr(command, "commands", {}).items()}
    return found


COMMANDS = commands()


def parsed(command: click.Command, words: list[str], above: click.Context | None = None) -> list[str]:
    """Parse `words` as the command line would, without running anything; the path of the command."""
    if above is None:
        words = words[1:]
    with command.make_context("ferryman", list(words), parent=above) as context:
        rest = [*context._protected_args, *context.args]
        if not isinstance(command, click.Group) or not rest:
            return []
        name, below, rest = command.resolve_command(context, rest)
        assert name is not None
        assert below is not None
        return [name, *parsed(below, rest, context)]


def test_every_command_has_examples_and_every_example_a_command():
    assert set(EXAMPLES) == set(COMMANDS)
    assert all(EXAMPLES.values())


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: path or "ferryman")
def test_help_ends_with_examples_one_a_line(path):
    result = CliRunner().invoke(cli.cli, [*path.split(), "--help"], terminal_width=200)
    assert result.exit_code == 0
    ending = result.output.partition("Examples:\n")[2].rstrip().splitlines()
    assert [line.strip() for line in ending] == list(EXAMPLES[path])
    assert "\\b" not in result.output


@pytest.mark.parametrize(
    ("path", "line"), [(path, line) for path, lines in EXAMPLES.items() for line in lines], ids=lambda v: v
)
def test_an_example_is_a_command_line_that_the_command_takes(path, line, tmp_path, monkeypatch):
    monkeypatch.delenv("FERRYMAN_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
    for name in ("access.log", "new-rules.yaml", "deleted.txt"):
        (tmp_path / name).touch()
    plain = line.removeprefix("source <(").removesuffix(")") if line.startswith("source") else line
    words = shlex.split(plain.partition(" | ")[0].partition(" > ")[0])
    assert " ".join(parsed(cli.cli, words)).startswith(path)


@pytest.mark.parametrize("path", READS)
def test_what_reads_can_print_json(path):
    assert any("--json" in parameter.opts for parameter in COMMANDS[path].params)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["statsu"], "Did you mean 'status'?"),
        (["docter"], "Did you mean 'doctor'?"),
        (["status", "--jsn"], "Did you mean '--json'?"),
        (["scan", "stat"], "'start', 'status'"),
    ],
)
def test_a_slip_gets_a_suggestion_and_exit_code_2(words, said):
    result = CliRunner().invoke(cli.cli, words)
    assert result.exit_code == 2
    assert said in result.output


# ---------------------------------------------------------------- completion


def completed(line: str, tmp_path: Path) -> list[str]:
    """What a real bash with our script offers at the end of `line`."""
    program = f"""
        PATH={shlex.quote(str(BIN))}:$PATH
        source <(ferryman completion bash)
        COMP_WORDS=({line}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
        compopt() {{ echo "files"; }}
        _ferryman_completion ferryman
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(
        ["bash", "--norc", "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert not done.stderr
    return done.stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("ferryman st", {"status"}),
        ("ferryman ''", {*cli.COMMANDS}),
        ("ferryman scan ''", {"start", "status", "keys", "pause", "resume", "cancel", "serve"}),
        ("ferryman status --", {"--config", "--json", "--watch", "--help"}),
        ("ferryman worker --lane ''", {"hot", "cold", "both", "scan", "all"}),
        ("ferryman status --config ''", {"files"}),
    ],
)
def test_bash_completes(line, offered, tmp_path):
    assert set(completed(line, tmp_path)) == offered


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_script_for_another_shell_is_what_that_shell_can_read(shell, tmp_path):
    script = CliRunner().invoke(cli.cli, ["completion", shell]).output
    assert "_FERRYMAN_COMPLETE" in script
    if shutil.which(shell) is None:
        skip_or_fail(f"{shell} is not installed")
    path = tmp_path / "script"
    path.write_text(script)
    subprocess.run([shell, "-n", str(path)], check=True)


def test_completing_a_command_imports_none():
    code = (
        "import sys, click; from scheduler.cli import cli; "
        "cli.shell_complete(click.Context(cli), ''); "
        "print([m for m in sys.modules if m.startswith('scheduler.commands.')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
