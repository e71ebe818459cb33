"""Who moves the rest meanwhile: scans over all keys that were asked for so far, and looks at the gate.

Owns the manifest, which grows with what clients ask for.
"""

from __future__ import annotations

import json
from typing import Final

from torture.checks import Look, unbalanced
from torture.clients import Client
from torture.content import N_BIG, N_FLUX
from torture.system import BUCKET

_ACTIVE: Final = frozenset({"requested", "inventory", "compare", "move"})
#: Seconds between two looks.
_EVERY_S: Final = 4.0


class Operator(Client):
    """Starts one scan after the other and asks for the gate, at either front."""

    look: Look

    def turn(self) -> None:
        port = self._chance.choice((self._system.admin_a, self._system.admin_b))
        status, body = self._system.ask(port, f"/v1/scans/{BUCKET}")
        scan = json.loads(body) if status == 200 else {}
        self._counted(f"scan {scan.get('phase', status)}")
        if status == 404 or (status == 200 and scan["phase"] not in _ACTIVE):
            if scan.get("phase") == "done" and (wrong := unbalanced(scan)):
                self._oracle.violated(f"the account of scan {scan['run']} does not balance: {wrong}")
            self._write_manifest()
            order = json.dumps({"name": BUCKET}).encode()
            self._counted(f"scan ordered {self._system.ask(port, '/v1/scans', order)[0]}")
        self._look_at_gate(port)
        self._stopped.wait(_EVERY_S)

    def _write_manifest(self) -> None:
        keys = [f"pub/{n}" for n in range(self._numbers.given)]
        keys += [f"flux/{n}" for n in range(N_FLUX)] + [f"big/{n}" for n in range(N_BIG)]
        beside = self._system.root / "keys.new"
        beside.write_text("".join(f"{key}\n" for key in keys))
        beside.replace(self._system.root / "keys.txt")
        self.keys = keys

    def _look_at_gate(self, port: int) -> None:
        known = list(getattr(self, "keys", ()))
        status, body = self._system.ask(port, f"/v1/gate/{BUCKET}?quiet=1s")
        if status == 200 and json.loads(body)["open"]:
            self._counted("gate open")
            lacking = sorted(set(known) - self.look.contents().keys())
            if lacking:
                self._oracle.violated(f"the gate is open, and the store lacks {len(lacking)}: {lacking[:3]}")
