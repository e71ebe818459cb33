"""The sorted inventory that a verification looks at: that of the scan, where it is on this machine.

Owns the sentences that say why there is none.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from scheduler.machine.embedded import store_identity
from scheduler.scan.compare.reading import inventory_of
from scheduler.scan.compare.sorted_file import NotThisFile, read_header
from workers.errors import ConfigError

if TYPE_CHECKING:
    from scheduler.runtime import Services
    from scheduler.scan.record.state import ScanState


def inventory_path(services: Services, state: ScanState) -> Path:
    """The sorted inventory; of a source that each range lists itself, where it would be. Blocking.

    Raises:
        ConfigError: the scan has no inventory here that can be read (it did not get that far, ran on
            another machine, on another store, or with another version).
    """
    if state.options.reverse:
        msg = (
            f"scan {state.name} looked at the way back, which has no inventory: to compare store and origin: "
            f"ferryman back verify {state.options.bucket}"
        )
        raise ConfigError(msg)
    directory = services.settings.data_dir / "scans"
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{state.run}.sorted" if state.source_listed else Path(state.inventory_file)
    again = f"scan again from here: ferryman scan start {state.name} … --wait"
    if not state.inventory_complete:
        msg = f"scan {state.name} is {state.phase}, and its inventory was not read to its end; scan first"
        raise ConfigError(msg)
    if not (state.source_listed or path.is_file()):
        msg = (
            f"scan {state.name}: its inventory {state.inventory_file} is not on this machine: "
            f"verify where the scan was run, or {again}"
        )
        raise ConfigError(msg)
    store = store_identity(services.settings)
    if state.store and state.store != store:
        msg = f"scan {state.name} was run on the store {state.store}, and the store is {store} now: {again}"
        raise ConfigError(msg)
    if state.source_listed:
        return path  # there is none: the source is listed once more
    try:
        header = read_header(path)
    except NotThisFile as error:
        raise not_this_file(state, error) from error
    if header.of != inventory_of(state):
        msg = f"scan {state.name}: {path} holds the inventory of another run: {again}"
        raise ConfigError(msg)
    return path


def not_this_file(state: ScanState, error: NotThisFile) -> ConfigError:
    """What to say of a file that cannot be read."""
    name = state.name
    return ConfigError(f"scan {name}: {error}: scan again from here: ferryman scan start {name} … --wait")
