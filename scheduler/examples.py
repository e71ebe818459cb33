"""What one types: examples of every command, shown at the end of its `--help` and in docs/commands.md.

Owns the table and its form in a help text. Imports no command; a test parses every line with the command it
is an example of.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import click

#: By what stands between `ferryman` and the options.
EXAMPLES: Final[dict[str, tuple[str, ...]]] = {
    "": (
        "ferryman up --origin https://old.example.com --bucket site",
        "ferryman doctor",
        "ferryman status --watch",
    ),
    "up": (
        "ferryman up --origin https://old.example.com --bucket site",
        "ferryman up --config /etc/ferryman/config.yaml --gateway-listen 127.0.0.1:9090",
    ),
    "front": (
        "ferryman front --config /etc/ferryman/config.yaml",
        "ferryman front --no-admin --gateway-listen 127.0.0.1:8082",
    ),
    "worker": (
        "ferryman worker --lane hot --processes 2",
        "ferryman worker --lane cold --threads 4",
    ),
    "consume": (
        "ferryman consume --dry-run --bucket site /var/log/nginx/access.log",
        "ferryman consume --bucket site --strip-prefix /static/ /var/log/nginx/access.log",
        "ferryman consume --replay '/var/log/nginx/access.log.*.gz' --bucket site --rate 100",
    ),
    "scan": (
        "ferryman scan start site --bucket site --manifest urls.csv --wait",
        "ferryman scan status site",
    ),
    "back": ("ferryman back status", "ferryman back verify site --sample 1000"),
    "back status": ("ferryman back status", "ferryman back status site --keys"),
    "back verify": ("ferryman back verify site --sample 1000", "ferryman back verify site --full --json"),
    "scan start": (
        "ferryman scan start site --bucket site --manifest urls.csv --wait",
        "ferryman scan start site --bucket site --source http_index=http://old.example/ --dry-run --wait",
        "ferryman scan start site --rate 200 --window '22:00-06:00 mon-fri'",
    ),
    "scan status": ("ferryman scan status", "ferryman scan status site --json | jq .total"),
    "scan keys": (
        "ferryman scan keys site --absent",
        "ferryman scan keys site --combined -o site.txt",
        "ferryman scan keys site --findings --json",
    ),
    "scan pause": ("ferryman scan pause site",),
    "scan resume": ("ferryman scan resume site",),
    "scan cancel": ("ferryman scan cancel site",),
    "scan serve": ("ferryman scan serve --config /etc/ferryman/config.yaml",),
    "verify": ("ferryman verify site", "ferryman verify site --sample 1000"),
    "finalize": (
        "ferryman finalize site --check",
        "ferryman finalize site --share 0.05",
        "ferryman finalize site --quiet 24h",
        "ferryman finalize site --rollback",
    ),
    "rules": ("ferryman rules check config.yaml", "ferryman rules show site"),
    "rules check": (
        "ferryman rules check config.yaml --strict",
        "ferryman rules check oss.xml --bucket site --no-resolve",
    ),
    "rules convert": (
        "ferryman rules convert oss.xml --bucket site --to yaml --out rules.yaml",
        "ferryman rules convert rules.yaml --to cos --json",
    ),
    "rules apply": ("ferryman rules apply", "ferryman rules apply cos.xml --bucket site"),
    "rules show": ("ferryman rules show", "ferryman rules show site --json"),
    "rules history": ("ferryman rules history site",),
    "rules rollback": ("ferryman rules rollback site 3",),
    "explain": (
        "ferryman explain http://www.example.com/img/a.png --bucket site",
        "ferryman explain GET /site/img/a.png -H 'Accept-Language: de' --json",
        "ferryman explain --replay access.log --bucket site --against new-rules.yaml",
    ),
    "failures": ("ferryman failures list", "ferryman failures retry --reason origin_timeout"),
    "failures list": (
        "ferryman failures list --bucket site --reason origin_timeout",
        "ferryman failures list --newer-than 30m --json | jq .",
    ),
    "failures show": ("ferryman failures show site img/a.png",),
    "failures export": (
        "ferryman failures export --format csv --output failures.csv",
        "ferryman failures export --bucket site --format keys",
    ),
    "failures retry": (
        "ferryman failures retry --bucket site --prefix img/",
        "ferryman failures retry --all",
    ),
    "failures waive": (
        "ferryman failures waive --bucket site --key img/gone.png --because 'deleted by its owner'",
    ),
    "tombstone": ("ferryman tombstone add site img/gone.png", "ferryman tombstone list site"),
    "tombstone add": (
        "ferryman tombstone add site img/gone.png",
        "ferryman tombstone add site --from deleted.txt",
    ),
    "tombstone list": ("ferryman tombstone list site --json",),
    "tombstone prune": ("ferryman tombstone prune site",),
    "tombstone remove": ("ferryman tombstone remove site img/gone.png",),
    "origins": ("ferryman origins", "ferryman origins --json | jq .origins"),
    "origins probe": ("ferryman origins probe https://old.example.com/img/a.png",),
    "status": (
        "ferryman status",
        "ferryman status --watch",
        "ferryman status --json | jq .queues",
    ),
    "report": ("ferryman report --since 1h", "ferryman report --bucket site --since 7d --json"),
    "doctor": (
        "ferryman doctor",
        "ferryman doctor --quiet --url https://old.example.com/img/a.png",
        "ferryman doctor --json | jq '.findings[] | select(.level != \"ok\")'",
    ),
    "init": (
        "ferryman init",
        "ferryman init --origin https://old.example.com --bucket site",
    ),
    "completion": (
        "source <(ferryman completion bash)",
        "ferryman completion zsh > ~/.zfunc/_ferryman",
        "ferryman completion fish > ~/.config/fish/completions/ferryman.fish",
    ),
    "demo": ("ferryman demo", "ferryman demo --exit"),
    "chaos-origin": (
        "ferryman chaos-origin --listen 127.0.0.1:9000",
        "ferryman chaos-origin --script '/a.jpg=status,code=503;ok'",
        "ferryman chaos-origin --list",
    ),
}


def attach(path: str, command: click.Command) -> None:
    """Write the examples of the command at `path` below its help, and those of its subcommands."""
    if lines := EXAMPLES.get(path):
        # \b keeps click from joining the lines.
        command.epilog = "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)
    for name, below in getattr(command, "commands", {}).items():
        attach(f"{path} {name}".strip(), below)
