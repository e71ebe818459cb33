"""`ferryman front`: the object gateway and the admin side, in one process or several."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING

import click

from scheduler.commands.command_line import (
    config_option,
    guarded,
    listen_options,
    load,
    run_async,
    stop_event,
    with_listen,
)
from workers.telemetry import log, metric_files

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from scheduler.config.settings import Settings


@click.command()
@config_option
@listen_options
@click.option("--no-gateway", is_flag=True, help="Only the admin side.")
@click.option("--no-admin", is_flag=True, help="Only the gateway.")
@click.option("--gateway-fd", type=int, hidden=True, help="A listening socket of the parent's.")
@click.option("--admin-fd", type=int, hidden=True, help="As --gateway-fd, for the admin side.")
@guarded
def command(
    config: Path | None,
    gateway_listen: str | None,
    admin_listen: str | None,
    no_gateway: bool,
    no_admin: bool,
    gateway_fd: int | None,
    admin_fd: int | None,
) -> None:
    """Run the object gateway and the admin side until Ctrl-C."""
    from scheduler.config import secret_files
    from scheduler.machine.listen import bind, bound

    if no_gateway and no_admin:
        raise click.UsageError("--no-gateway and --no-admin together leave nothing to run")
    settings = with_listen(load(config), gateway=gateway_listen, admin=admin_listen)
    secret_files.require(settings)
    log.configure(form=settings.log.format, level=settings.log.level)
    metric_files.use(settings.data_dir)
    gateway = None if no_gateway else _socket(gateway_fd) or bind("gateway", settings.gateway.listen)
    admin = None if no_admin else _socket(admin_fd) or bind("admin", settings.admin.listen)
    # The addresses as bound: nothing is fetched from ourselves.
    settings = with_listen(
        settings, gateway=bound(gateway) if gateway else None, admin=bound(admin) if admin else None
    )
    run_async(
        _run(
            settings,
            gateway=gateway,
            admin=admin,
            alone=gateway_fd is None and admin_fd is None,
            reread=lambda: load(config),
        )
    )


def _socket(fd: int | None) -> socket.socket | None:
    return None if fd is None else socket.socket(fileno=fd)


async def _run(
    settings: Settings,
    *,
    gateway: socket.socket | None,
    admin: socket.socket | None,
    alone: bool,
    reread: Callable[[], Settings],
) -> None:
    from scheduler.config.run_settings import write_run_settings
    from scheduler.front.admin.standalone import serving
    from scheduler.machine.processes import coordinator_child, front_child
    from scheduler.machine.supervise import Supervisor

    stop = stop_event()
    async with contextlib.AsyncExitStack() as stack, Supervisor() as supervisor:
        if alone:  # else the parent supervises us and these
            file = write_run_settings(settings, "front")
            await stack.enter_async_context(serving(settings, "front"))
            if admin is not None:
                await supervisor.start(coordinator_child(settings, file))
            if gateway is not None:
                # More processes on the same socket; this one serves too.
                for number in range(1, settings.gateway.processes):
                    await supervisor.start(
                        front_child(settings, file, number=number, gateway_fd=gateway.fileno(), admin_fd=None)
                    )
        await serve_front(settings, gateway=gateway, admin=admin, stop=stop, reread=reread)


async def serve_front(
    settings: Settings,
    *,
    gateway: socket.socket | None,
    admin: socket.socket | None,
    stop: asyncio.Event,
    reread: Callable[[], Settings],
) -> None:
    """Serve on these sockets until `stop`; one part that fails ends the other.

    On SIGHUP the rules of the settings that `reread` gives are put in force.
    """
    from scheduler.front.admin.app import make_app
    from scheduler.front.admin.dashboard.board import Board
    from scheduler.front.http.serve import serve_admin
    from scheduler.front.server import serve_gateway
    from scheduler.machine.processes import installation_id
    from scheduler.machine.startup import make_ready
    from scheduler.machine.sweeping import serve_sweeps
    from scheduler.rules.in_force.hangup import applying_on_hangup
    from scheduler.runtime import open_services

    async with open_services(settings, installation=installation_id(settings)) as services:
        await make_ready(services, who="front")
        async with (
            applying_on_hangup(services.rules, reread),
            Board(services, stop=stop) as board,
            asyncio.TaskGroup() as group,
        ):
            if gateway is not None:
                group.create_task(serve_gateway(services, [gateway], stop))
            if admin is not None:
                board.start_sampling()
                app = make_app(services, board)
                group.create_task(serve_admin(app, [admin], stop, drain_s=settings.limits.drain_s))
                group.create_task(serve_sweeps(services, stop))
