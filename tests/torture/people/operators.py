"""Who moves the rest meanwhile: scans over all keys that were asked for so far, and looks at what they moved.

Owns the manifest, which grows with what clients ask for.
"""

from __future__ import annotations

import json
import time
from typing import Final

from torture.checks import Look, unbalanced
from torture.checks_back import judge_claim
from torture.content import N_BIG, N_FLUX
from torture.layout import BUCKET
from torture.people.clients import Client

_ACTIVE: Final = frozenset({"requested", "inventory", "compare", "move"})
#: The answer to an order that was taken.
_TAKEN: Final = 202
#: Seconds between two looks.
_EVERY_S: Final = 4.0
#: Seconds between two verifications.
_VERIFIED_EVERY_S: Final = 20.0


class Operator(Client):
    """Starts one scan after the other and asks for the gate, at either front."""

    look: Look
    #: Keys of the last scan that was taken, and when it was.
    keys: tuple[str, ...] = ()
    taken_at = 0.0

    def turn(self) -> None:
        port = self._chance.choice((self._system.admin_a, self._system.admin_b))
        status, body = self._system.ask(port, f"/v1/scans/{BUCKET}")
        scan = json.loads(body) if status == 200 else {}
        self._counted(f"scan {scan.get('phase', status)}")
        if status == 404 or (status == 200 and scan["phase"] not in _ACTIVE):
            if scan.get("phase") == "done" and (wrong := unbalanced(scan)):
                self._oracle.violated(f"the account of scan {scan['run']} does not balance: {wrong}")
            keys, order = self._write_manifest(), json.dumps({"name": BUCKET}).encode()
            answer, _ = self._system.ask(port, "/v1/scans", order)
            self._counted(f"scan ordered {answer}")
            # Without an answer nobody knows which list the last scan is of.
            self.keys, self.taken_at = keys if answer == _TAKEN else (), time.monotonic()
        self._look_at_gate(port)
        self._stopped.wait(_EVERY_S)

    def _write_manifest(self) -> tuple[str, ...]:
        keys = [f"pub/{n}" for n in range(self._numbers.given)]
        keys += [f"flux/{n}" for n in range(N_FLUX)] + [f"big/{n}" for n in range(N_BIG)]
        beside = self._system.root / "keys.new"
        beside.write_text("".join(f"{key}\n" for key in keys))
        beside.replace(self._system.root / "keys.txt")
        return tuple(keys)

    def _look_at_gate(self, port: int) -> None:
        # A Redis that has forgotten the scan may show the one before.
        known = self.keys if self._oracle.is_certain(self.taken_at) else ()
        status, body = self._system.ask(port, f"/v1/gate/{BUCKET}?quiet=1s")
        if status == 200 and json.loads(body)["open"]:
            self._counted("gate open")
            lacking = sorted(set(known) - self.look.stored())
            if lacking:
                self._oracle.violated(f"the gate is open, and the store lacks {len(lacking)}: {lacking[:3]}")


class Verifier(Client):
    """Verifies what the scans have moved, over the ways of the part that runs them."""

    look: Look

    def turn(self) -> None:
        self._stopped.wait(_VERIFIED_EVERY_S)
        manifest = self._system.root / "keys.txt"
        known = manifest.read_text().split() if manifest.exists() else []
        done = self._system.command("verify", BUCKET, "--sample", "20", "--json", part="scan", timeout_s=60)
        if not done.stdout.startswith("{"):
            self._counted(f"verify {done.returncode}")
            return
        report = json.loads(done.stdout)
        if report["checked"] != len(known):  # the last scan is of the list before: the next was not taken
            self._counted("verified, an earlier list")
            return
        clean = report["clean"]
        self._counted("verified, clean" if clean else "verified, not clean")
        lacking = sorted(set(known) - self.look.stored()) if clean else []
        if lacking:
            self._oracle.violated(f"verify is clean, and the store lacks {len(lacking)}: {lacking[:3]}")


class Returner(Client):
    """Asks whether one could go back to the old bucket now, and looks whether that is so."""

    look: Look

    def turn(self) -> None:
        self._stopped.wait(0.5)
        good = judge_claim(self._system, self.look, self._could_go_back)
        self._counted("could not go back" if good is None else "could go back")

    def _could_go_back(self) -> bool:
        port = self._chance.choice((self._system.admin_a, self._system.admin_b))
        status, body = self._system.ask(port, "/v1/back")
        return status == 200 and bool(json.loads(body)["could_go_back"])
