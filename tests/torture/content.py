"""Which bytes a key has, at which version: made from its name, so that nobody has to remember them. PURE.

Groups of keys by their first folder::

    pub/N    at the origins, never changes           big/N   the same, in parts
    flux/N   at the origins, changes now and then    gone/N  at no origin
    rw/N     clients write and delete it; even ones are at the origins, too
    race/N   at the origins; written or deleted by a client while another one asks for it, once each
    bad/N    at the origins, which refuse it: a listed failure for whoever is promised it
    back/N   clients write and delete it, and the old bucket gets it a moment later (`write_back: async`)
    sync/N   the same, before the client is answered; of both, even ones were in the bucket at first
"""

from __future__ import annotations

import random
from functools import lru_cache
from typing import Final

N_FLUX: Final = 40
N_GONE: Final = 60
N_RW: Final = 48
N_BIG: Final = 10
N_BAD: Final = 20
N_BACK: Final = 24
#: Groups whose origin is the old bucket.
BACK: Final = ("back/", "sync/")
#: As many as anybody asks for.
N_PUB: Final = 1_000_000


def at_origin(key: str) -> bool:
    """Whether the origins have it."""
    group, _, number = key.partition("/")
    if not number.isdecimal():
        return False
    n = int(number)
    match group:
        case "pub" | "race":
            return n < N_PUB
        case "flux":
            return n < N_FLUX
        case "big":
            return n < N_BIG
        case "rw":
            return n < N_RW and n % 2 == 0
        case "back" | "sync":
            return n < N_BACK and n % 2 == 0
        case _:
            return False


def must_end(key: str) -> bool:
    """Whether a promise of it ends as an object or as a listed failure; else it may be absent."""
    return at_origin(key) or key.startswith("bad/")


def has_digest(key: str) -> bool:
    """Whether the origins tell its digest; of the others nobody can see more than the length."""
    group, _, number = key.partition("/")
    return group != "pub" or int(number) % 3 != 0


def body_of(key: str, version: int = 0) -> bytes:
    """The origin's bytes of a key that it has."""
    return _large(key) if key.startswith("big/") else _small(key, version)


@lru_cache(maxsize=N_BIG)
def _large(key: str) -> bytes:
    chance = random.Random(key)
    return chance.randbytes(chance.randrange(9 << 20, 20 << 20))


def _small(key: str, version: int) -> bytes:
    chance = random.Random(f"{key} {version}")
    return chance.randbytes(chance.choice((0, 1, 200, 3_000, 16_384, 70_000)))


def written_by(client: str, key: str, turn: int) -> bytes:
    """What a client writes in its so many-th turn; says whose it is in its first bytes."""
    chance = random.Random(f"{client} {key} {turn}")
    return f"{client} {key} {turn} ".encode() + chance.randbytes(chance.choice((0, 500, 20_000)))
