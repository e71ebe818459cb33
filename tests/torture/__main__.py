"""`make faults`: random faults under load, judged by an oracle; a failure says how to have it again.

make faults                                    three minutes, a new seed
make faults HOURS=8 SEED=7                     in runs of five minutes, seeds 7, 8, 9 …
make faults REPLAY=faults-7.json               the same faults again, and then with fewer of them
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from torture.plants import OLDER, PLANTS, planted
from torture.run import Result, Run
from torture.schedule import Fault, Kind, from_json, make_schedule
from torture.shrink import needed
from torture.system import PAUSE_S

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Seconds of load in one run, unless it is said.
RUN_S = 300.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until the time is over or something is wrong: 0, or 1."""
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__)
    parser.add_argument("--seconds", type=float, default=180.0, help="of load, all runs together")
    parser.add_argument("--minutes", type=float, help="the same in minutes")
    parser.add_argument("--hours", type=float, help="the same in hours")
    parser.add_argument("--seed", type=int, help="of the first run; the next ones count up")
    parser.add_argument(
        "--run", type=float, default=RUN_S, help="seconds of load in one run; more is cut into several"
    )
    parser.add_argument("--without", action="append", default=[], choices=[*Kind], help="kinds to leave out")
    parser.add_argument(
        "--spare", action="append", default=[], help="a target, or a server and its cables, to leave alone"
    )
    parser.add_argument(
        "--pause", type=float, default=PAUSE_S, help="seconds between two requests of each client, on average"
    )
    parser.add_argument("--plant", choices=sorted(PLANTS), help="a bug to put in, to see that it is found")
    parser.add_argument("--replay", type=Path, help="the faults of an earlier run, then fewer of them")
    parser.add_argument("--keep", action="store_true", help="keep the logs of runs that were well, too")
    given = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that all parts end with us
    logging.getLogger("aiohttp").setLevel(logging.CRITICAL)  # its servers are meant to break off
    if given.replay is not None:
        return _replay(given.replay)
    seconds = given.seconds
    if given.minutes is not None or given.hours is not None:
        seconds = (given.minutes or 0.0) * 60 + (given.hours or 0.0) * 3600
    seed = random.SystemRandom().randrange(1 << 31) if given.seed is None else given.seed
    ends = time.monotonic() + seconds
    while True:
        left = ends - time.monotonic()
        length = min(given.run, max(left, 20.0))
        faults = make_schedule(seed, seconds=length, without=frozenset(map(Kind, given.without)))
        faults = tuple(fault for fault in faults if not {*fault.target.split(">")} & {*given.spare})
        result, root = _run(seed, length, faults, plant=given.plant, pause_s=given.pause)
        _say(result)
        if result.violations:
            file = Path(f"faults-{seed}.json")
            _write(file, seed, length, faults, plant=given.plant, pause_s=given.pause)
            print(f"logs of all parts: {root}\nreplay: make faults REPLAY={file}", flush=True)
            return 1
        if not given.keep:
            shutil.rmtree(root, ignore_errors=True)
        seed += 1
        if ends - time.monotonic() < 30:
            return 0


def _run(
    seed: int,
    seconds: float,
    faults: Sequence[Fault],
    *,
    plant: str | None = None,
    pause_s: float = PAUSE_S,
) -> tuple[Result, Path]:
    root = Path(tempfile.mkdtemp(prefix="faults-"))
    # A copy, so that whoever works on the code meanwhile does not change what runs.
    tree = planted(plant, root / "tree")
    older = planted("a version before", root / "older", OLDER)
    print(
        f"seed {seed}: {len(faults)} faults in {seconds:.0f} s{f', planted: {plant}' if plant else ''}",
        flush=True,
    )
    run = Run(root, seed=seed, seconds=seconds, faults=faults, tree=tree, older=older, pause_s=pause_s)
    return run(), root


def _replay(file: Path) -> int:
    """The same faults, then fewer of them for as long as it still goes wrong."""
    found = json.loads(file.read_text())
    plant, pause_s = found["plant"], found.get("pause_s", PAUSE_S)

    def goes_wrong(faults: tuple[Fault, ...]) -> bool:
        result, root = _run(found["seed"], found["seconds"], faults, plant=plant, pause_s=pause_s)
        _say(result)
        if result.violations:
            print(f"logs of all parts: {root}", flush=True)
        else:
            shutil.rmtree(root, ignore_errors=True)
        return bool(result.violations)

    faults = from_json(found["faults"])
    if not goes_wrong(faults):
        print("it did not go wrong this time: the system's own timing is not part of the seed")
        return 0
    left = needed(faults, goes_wrong)
    print("needed for it:", *(left or ("no fault at all",)), sep="\n  ", flush=True)
    fewer = file.with_suffix(".fewer.json")
    _write(fewer, found["seed"], found["seconds"], left, plant=plant, pause_s=pause_s)
    print(f"replay: make faults REPLAY={fewer}", flush=True)
    return 1


def _write(
    file: Path, seed: int, seconds: float, faults: Sequence[Fault], *, plant: str | None, pause_s: float
) -> None:
    rows = [fault.to_json() for fault in faults]
    said = {"seed": seed, "seconds": seconds, "plant": plant, "pause_s": pause_s, "faults": rows}
    file.write_text(json.dumps(said, indent=1))


def _say(result: Result) -> None:
    seen = ", ".join(f"{name} {number}" for name, number in result.answers.most_common(12))
    print(f"  {result.objects} objects; listed: {dict(result.failures)}; judged in {result.settled_s:.0f} s")
    print(f"  clients saw: {seen}", flush=True)
    if result.violations:
        print("the last events:", *result.events, sep="\n  ")
        print(f"VIOLATED, seed {result.seed}:", *result.violations[:20], sep="\n  ", flush=True)


if __name__ == "__main__":
    sys.exit(main())
