"""`ferryman chaos-origin`: run the misbehaving origin, so that users can rehearse their rules against it.

Owns the command line of `scheduler.chaos` and nothing else.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from pathlib import Path

import click

from scheduler.commands.command_line import CommandFailed, echo_json, json_option, run_async, say, stop_event


@click.command("chaos-origin")
@click.option(
    "--listen", default="127.0.0.1:9000", show_default=True, help="host:port; port 0 takes a free one."
)
@click.option(
    "--root",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Serve the files of this folder; without it bodies are generated.",
)
@click.option("--size", default=16 * 1024, show_default=True, help="Bytes of a generated object.")
@click.option("--latency", default=0.0, show_default=True, help="Seconds before every answer.")
@click.option(
    "--script",
    "scripts",
    multiple=True,
    metavar="PATH=STEP;STEP…",
    help="Behaviours of a path, one a request, the last repeats: '/a.jpg=status,code=503;ok'.",
)
@click.option("--unsafe-listen", is_flag=True, help="Listen beyond loopback: anybody then controls it.")
@click.option("--list", "list_only", is_flag=True, help="List the behaviours and end.")
@json_option
def command(
    *,
    listen: str,
    root: Path | None,
    size: int,
    latency: float,
    scripts: tuple[str, ...],
    unsafe_listen: bool,
    list_only: bool,
    as_json: bool,
) -> None:
    """Run an origin that misbehaves on request, for rehearsals and tests.

    A path's first segment names the behaviour and its parameters: /truncate,at=700/img/a.jpg cuts the object
    /img/a.jpg after 700 bytes. GET /_chaos/requests tells what was asked.
    """
    if list_only:
        _list(as_json=as_json)
        return
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    if not host or not port.isdigit() or int(port) > 65535:
        raise click.BadParameter(f"{listen!r} is not host:port", param_hint="--listen")
    if host not in {"127.0.0.1", "::1", "localhost"} and not unsafe_listen:
        raise CommandFailed(
            f"--listen {listen}: anybody who reaches this origin controls it; add --unsafe-listen to mean it",
            exit_code=2,
        )
    parsed = [_script(text) for text in scripts]
    with suppress(KeyboardInterrupt):
        run_async(_serve(host, int(port), root, size, latency, parsed, as_json=as_json))


def _script(text: str) -> tuple[str, list[str]]:
    path, equals, steps = text.partition("=")
    if not path.startswith("/") or not equals or not steps:
        raise click.BadParameter(f"{text!r} is not /path=step;step", param_hint="--script")
    return path, steps.split(";")


def _list(*, as_json: bool) -> None:
    from scheduler.chaos.catalogue import CATALOGUE

    known = CATALOGUE.values()
    if as_json:
        echo_json([{"name": one.name, "summary": one.summary, "params": dict(one.params)} for one in known])
        return
    for one in known:
        say(f"{one.name:<18} {one.summary}")
        for name, meaning in one.params.items():
            say(f"{'':<20} {name}= {meaning}")


async def _serve(
    host: str,
    port: int,
    root: Path | None,
    size: int,
    latency_s: float,
    scripts: list[tuple[str, list[str]]],
    *,
    as_json: bool,
) -> None:
    from scheduler.chaos.server import ChaosServer

    server = ChaosServer(host=host, port=port, root=root, default_size=size, latency_s=latency_s)
    for path, steps in scripts:
        try:
            server.script(path, *steps)
        except KeyError as error:
            raise CommandFailed(
                f"--script {path}: no behaviour {error}; see ferryman chaos-origin --list", exit_code=2
            ) from error
    stop = stop_event()
    try:
        await server.start()
    except OSError as error:
        raise CommandFailed(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
    if as_json:
        echo_json({"url": server.url})
    else:
        say(
            f"chaos origin on {server.url} (behaviours: --list; what was asked: {server.url}/_chaos/requests)"
        )
    sys.stdout.flush()
    try:
        await stop.wait()
    finally:
        await asyncio.shield(server.stop())
