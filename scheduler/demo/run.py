"""One run of the demo: set the stage, go through the steps, sum up, stay or leave.

Owns the exit code: 0 when every check held and everything stopped cleanly, 1 otherwise.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import click
import httpx

from scheduler.config.load import load_settings
from scheduler.demo import history
from scheduler.demo.content import make_content
from scheduler.demo.origin import SampleOrigin
from scheduler.demo.stage import BUCKET, Stage
from scheduler.demo.steps import STEPS
from scheduler.demo.system import DemoFailed, System, fresh_directory, port_or_free
from scheduler.demo.visitors import visits
from scheduler.machine.embedded import resolve_running
from workers.errors import FerrymanError, described
from workers.ledger.history import History
from workers.ledger.ledger import Ledger
from workers.store.client import ObjectStore

if TYPE_CHECKING:
    from pathlib import Path

    from scheduler.demo.content import Sample

#: Preferred ports; free ones are taken where these are in use.
GATEWAY_PORT = 8080
ADMIN_PORT = 8081


async def run_demo(root: Path, *, leave: bool, stop: asyncio.Event) -> int:
    """Run the demo in `root`; `leave` ends it after the summary, else it stays up until `stop`."""
    began, now = time.monotonic(), time.time()
    fresh_directory(root)
    click.echo("Ferryman demo: a sample origin, an embedded store and broker, real worker processes.")
    samples = make_content(root / "origin")
    size = sum(sample.size for sample in samples.values())
    origin = SampleOrigin(samples)
    await origin.start()
    click.echo(f"  sample origin at {origin.url}: {len(samples)} files, {size / 1e6:.0f} MB")
    system = System(root, gateway=port_or_free(GATEWAY_PORT), admin=port_or_free(ADMIN_PORT))
    system.write_config(
        {"buckets": {BUCKET: {"rules": [{"origins": [origin.url]}]}}}, notice=history.notice(now)
    )
    try:
        async with system:
            click.echo(f"  ferryman up after {time.monotonic() - began:.1f} s; its output is in {system.log}")
            await _write_history(system, now)
            code = await _show(system, origin, samples, stop)
            if not stop.is_set():
                _say_where(system, code)
                if not leave:
                    click.echo("Ctrl-C ends the demo. Until then somebody asks for a few pages a second.")
                    await visits(system, [*samples], stop)
        ended = await system.stop()
        if ended != 0:
            click.echo(f"FAILED: `ferryman up` ended with {ended}:\n{system.tail()}", err=True)
            return 1
    except DemoFailed as error:
        click.echo(f"FAILED: {error}", err=True)
        return 1
    finally:
        await origin.stop()
    return code


async def _write_history(system: System, began: float) -> None:
    """What the page draws before this demo began; it says there that it is made up."""
    ledger = Ledger.open(resolve_running(load_settings(system.config, env={})).broker)
    try:
        await history.write(History(ledger.redis, namespace=ledger.namespace), began)
    finally:
        await ledger.close()


async def _show(system: System, origin: SampleOrigin, samples: dict[str, Sample], stop: asyncio.Event) -> int:
    settings = resolve_running(load_settings(system.config, env={}))
    async with (
        httpx.AsyncClient(timeout=60.0, trust_env=False) as http,
        ObjectStore(settings.store, settings.limits) as store,
    ):
        stage = Stage(samples=samples, origin=origin, system=system, http=http, store=store)
        began = time.monotonic()
        for number, (title, step) in enumerate(STEPS, 1):
            click.echo(f"{number}. {title}")
            showing = asyncio.ensure_future(step(stage))
            stopping = asyncio.ensure_future(stop.wait())
            await asyncio.wait({showing, stopping}, return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            if not showing.done():
                showing.cancel()
                await asyncio.wait({showing})
                click.echo("stopped before the end", err=True)
                return 1
            try:
                showing.result()
            except (FerrymanError, httpx.HTTPError, OSError) as error:
                click.echo(f"FAILED in step {number}, {title}: {described(error)}", err=True)
                click.echo(f"the last lines of {system.log}:\n{system.tail()}", err=True)
                return 1
        click.echo("Summary")
        for what, number_shown in stage.summary:
            click.echo(f"    {what:<42} {number_shown}")
        click.echo(f"    {'checks that held':<42} {stage.checks}, in {time.monotonic() - began:.1f} s")
    return 0


def _say_where(system: System, code: int) -> None:
    click.echo("")
    click.echo(f"Gateway  {system.gateway}/{BUCKET}/index.html")
    click.echo(f"Admin    {system.admin}/?token={system.token}")
    click.echo(f"Commands ferryman status --config {system.config}")
    client = system.client_key()
    if client is not None:
        click.echo(f"S3       export AWS_ENDPOINT_URL={system.gateway}")
        click.echo(f"         export AWS_ACCESS_KEY_ID={client[0]}")
        click.echo(f"         export AWS_SECRET_ACCESS_KEY={client[1]}")
        click.echo(f"         aws s3 ls s3://{BUCKET}")
    if code == 0:
        click.echo("The demo went well: nothing differed.")
