"""Start an installation, put something of each kind into it, and have schemathesis ask it.

make fuzz-api                        500 requests of an operation, a new seed
make fuzz-api INPUTS=5000 SEED=7     more of them
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

from support.installation import running_origin, running_up_with, until

if TYPE_CHECKING:
    from collections.abc import Sequence

    from support.installation import Origin, Up

HERE = Path(__file__).parent
ST = Path(sys.prefix) / "api" / "bin" / "st"
#: A key that the embedded store cannot hold, so that it is a listed failure.
ODD = "a//b.txt"
_LISTED = ("img/a.png", "img/b.png", "img/gone.png")


def main(arguments: Sequence[str] | None = None) -> int:
    """What schemathesis ends with: 0 when nothing was found."""
    parser = argparse.ArgumentParser(prog="make fuzz-api", description=__doc__)
    parser.add_argument("--inputs", type=int, default=500, help="generated requests of each operation")
    parser.add_argument("--seed", type=int, help="of the requests")
    given = parser.parse_args(arguments)
    seed = random.SystemRandom().randrange(1, 1 << 31) if given.seed is None else given.seed
    print(f"seed {seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="fuzz-api-") as folder, running_origin() as origin:
        root = Path(folder)
        with running_up_with(root / "up", "--config", str(_config(root, origin))) as up:
            _fill(up, origin, root)
            return _ask(up, root, seed=seed, inputs=given.inputs)


def _config(root: Path, origin: Origin) -> Path:
    rules = {"rules": [{"name": "all", "origins": [origin.url]}]}
    file = root / "config.yaml"
    file.write_text(json.dumps({"buckets": {"site": rules, "api": {}}}))
    return file


def _fill(up: Up, origin: Origin, root: Path) -> None:
    """Rules with a history, a scan that has ended, a listed failure."""
    origin.bodies.update({"img/a.png": b"a", "img/b.png": b"b", ODD: b"c"})
    manifest = root / "urls.txt"
    manifest.write_text(
        "".join(f"{origin.url}/{key}\n" for key in ("img/a.png", "img/b.png", "img/gone.png"))
    )
    for order in ({"path": "/v1/miss-events", "bucket": "site", "key": ODD},
                  {"path": "/v1/scans", "name": "archive", "bucket": "site",
                   "inventory": {"manifest": str(manifest)}, "max_absent": 1.0}):  # fmt: skip
        path = order.pop("path")
        status, _, body = up.ask(str(path), token=up.token, order=dict(order))
        assert status == 202, (path, status, body)
    for version in ("x", "y"):
        _put(
            up,
            {"rules": [{"name": version, "prefix": f"{version}/", "origins": ["https://old.example.com"]}]},
        )
    until(lambda: _json(up, "/v1/scans/archive")["phase"] == "done", "the scan has ended")
    until(lambda: _json(up, "/v1/failures")["count"] == 1, "the failure is listed")


def _put(up: Up, rules: dict[str, Any]) -> None:
    request = urllib.request.Request(
        f"{up.admin}/v1/rules/api", method="PUT", data=json.dumps(rules).encode(),
        headers={"authorization": f"Bearer {up.token}", "content-type": "application/json"},
    )  # fmt: skip
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.status == 200


def _json(up: Up, path: str) -> Any:
    return json.loads(up.ask(path, token=up.token)[2])


def _ask(up: Up, root: Path, *, seed: int, inputs: int) -> int:
    command = [
        str(ST), "--config-file", str(HERE / "schemathesis.toml"), "run", f"{up.admin}/v1/openapi.json",
        "--header", f"Authorization: Bearer {up.token}", "--seed", str(seed), "--max-examples", str(inputs),
        "--generation-database", "none", "--no-color",
    ]  # fmt: skip
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": str(HERE / "hooks.py")}
    return subprocess.run(command, cwd=root, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
