"""Every reader of strangers' bytes, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fuzz.targets import bodies, events, inventories, logs, origins, requests, rules, signatures, stores

if TYPE_CHECKING:
    from fuzz.target import Target

TARGETS: dict[str, Target] = {
    target.name: target
    for module in (requests, signatures, bodies, rules, logs, events, inventories, origins, stores)
    for target in module.TARGETS
}
