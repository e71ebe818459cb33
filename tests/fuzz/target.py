"""What is fuzzed: one reader of strangers' bytes, what it may refuse them with, and what inputs look like."""

from __future__ import annotations

import hashlib
import importlib.util
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: Inputs that once broke something, by target; each is small.
CORPUS = Path(__file__).parents[1] / "data" / "fuzz"
#: Seconds of processor time after which an input of a few kilobytes counts as a hang.
HANG_S = 5.0


class Hang(BaseException):
    """An input kept the processor busy for too long; no `except Exception` takes it."""


class Crash(AssertionError):
    """An input ended in something that is no refusal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One reader."""

    name: str
    #: Reads the bytes; asserts what must hold of whatever comes out.
    read: Callable[[bytes], object]
    #: What well-formed inputs look like.
    seeds: tuple[bytes, ...]
    #: Words of the format, which no random byte would find.
    words: tuple[bytes, ...] = ()
    #: The reader's own errors: with these it may refuse.
    refuses: tuple[type[Exception], ...] = ()
    max_bytes: int = 4096
    #: A module that its reader cannot do without, and that no set-up brings.
    needs: str = ""

    @property
    def can_run(self) -> bool:
        """Whether that module is here."""
        return not self.needs or importlib.util.find_spec(self.needs) is not None

    def try_one(self, data: bytes, *, hang_s: float = HANG_S) -> bool:
        """Whether the input was taken; False when it was refused.

        Raises:
            Crash: anything else, a hang as well.
        """

        def late(*_: object) -> None:
            raise Hang

        before = signal.signal(signal.SIGVTALRM, late)
        signal.setitimer(signal.ITIMER_VIRTUAL, hang_s)
        try:
            self.read(data)
        except self.refuses:
            return False
        except (Exception, Hang) as error:
            what = f"{self.name}: {type(error).__name__}: {error} on {data[:2000]!r}"
            raise Crash(what) from error
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            signal.signal(signal.SIGVTALRM, before)
        return True

    def kept(self) -> Iterator[tuple[str, bytes]]:
        """Name and bytes of the inputs that once broke it."""
        for path in sorted((CORPUS / self.name).glob("*")):
            yield path.name, path.read_bytes()

    def keep(self, data: bytes, folder: Path) -> Path:
        """Write an input down, named by what is in it."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.name}-{hashlib.sha256(data).hexdigest()[:12]}"
        path.write_bytes(data)
        return path


def headers_of(data: bytes) -> list[tuple[str, str]]:
    """`name: value` lines as header pairs, values with the wire's bytes as aiohttp reads them."""
    found = []
    for line in data.split(b"\n"):
        name, colon, value = line.partition(b":")
        if colon:
            found.append((name.decode("latin-1"), value.strip().decode("utf-8", "surrogateescape")))
    return found


def latin_headers(data: bytes) -> tuple[tuple[str, str], ...]:
    """The same as the gateway has them: lower-case names, Latin-1 values."""
    lines = (line.partition(b":") for line in data.split(b"\n"))
    return tuple(
        (name.decode("latin-1").lower(), value.strip().decode("latin-1"))
        for name, colon, value in lines
        if colon
    )
