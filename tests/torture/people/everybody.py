"""All clients that a run has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torture.content import N_BACK, N_RW
from torture.people.clients import Client, Gateway, Sender, Visitor
from torture.people.writers import Application, Back, Racer, Sync

if TYPE_CHECKING:
    from torture.people.clients import Numbers
    from torture.system import System


def make_clients(system: System, numbers: Numbers, *, seed: int) -> list[Client]:
    """All that a run has."""
    writers = 4
    keys = [[f"rw/{n}" for n in range(N_RW) if n % writers == writer] for writer in range(writers)]
    return [
        *(Visitor(f"visitor-{n}", system, numbers, seed=seed) for n in range(4)),
        *(Application(f"application-{n}", system, numbers, seed=seed, keys=keys[n]) for n in range(writers)),
        Back("back", system, numbers, seed=seed, keys=[f"back/{n}" for n in range(N_BACK)]),
        Sync("sync", system, numbers, seed=seed, keys=[f"sync/{n}" for n in range(N_BACK)]),
        *(Racer(f"racer-{n}", system, numbers, seed=seed + n, keys=[]) for n in range(3)),
        Sender("sender", system, numbers, seed=seed),
        Gateway("gateway", system, numbers, seed=seed),
    ]
