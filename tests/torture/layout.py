"""The configuration of all parts: the buckets, rules, budgets and logs that a run has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from torture.around.bucket import OLD_BUCKET
from torture.schedule import ORIGINS
from workers.settings import BudgetSettings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torture.around.origins import OldServer
    from torture.disk import Disk

ACCESS_KEY: Final = "FM0123456789ABCDEF01"
SECRET_KEY: Final = "torture-secret-of-the-store"
TOKEN: Final = "torture-token-of-the-admin-side"
BUCKET: Final = "site"
#: What each origin stands, asked by all parts together.
BUDGET: Final = BudgetSettings(concurrency=12, requests_per_s=100.0, bytes_per_s=8e6)


def settings_of(root: Path, disk: Disk, origins: Mapping[str, OldServer]) -> dict[str, Any]:
    """What config.yaml says; the ways to Redis and store come by each part's environment."""
    first, second, bucket = (f"127.0.0.1:{origins[name].port}" for name in ORIGINS)
    old = {"host": bucket, "base_path": f"/{OLD_BUCKET}/", "credential": "old"}
    rules: list[dict[str, Any]] = [
        {
            "name": "standby",
            "when": {"prefix": "pub/"},
            "origin": {"hosts": [{"host": first, "standbys": [second]}]},
        },
        {"name": "back", "when": {"prefix": "back/"}, "origin": {"hosts": [old], "write_back": "async"}},
        {"name": "sync", "when": {"prefix": "sync/"}, "origin": {"hosts": [old], "write_back": "sync"}},
        {"name": "weighted", "origin": {"hosts": [{"host": first, "weight": 2}, {"host": second}]}},
    ]
    for rule in rules:
        rule |= {"type": "mirror", "request": {"protocol": "http"}, "store": {"check_md5": "stream"}}
    return {
        "data_dir": str(disk.data),
        "gateway": {
            "access_keys": [
                {"id": "app", "secret": "app-secret", "may": ["read", "list", "write", "delete"]}
            ],
            "herd_wait_s": 3,
            "client_stall_s": 10,
            "lookup_s": 5,
        },
        "admin": {"token": TOKEN},
        "store": {
            "access_key_id": ACCESS_KEY,
            "secret_access_key": SECRET_KEY,
            # Without the proof at start, which would find out a header that is not sent.
            "create_only": "if-none-match",
            "read_timeout_s": 8,
            "connect_timeout_s": 2,
            "max_retries": 2,
        },
        "broker": {"heartbeat_timeout_s": 6},
        "origin": {
            "budgets": {"default": BUDGET.model_dump(mode="json", exclude_defaults=True)},
            "credentials": {
                "old": {"type": "s3v4", "access_key_id": "OLD", "secret_access_key": "old-secret"}
            },
        },
        "limits": {"drain_s": 2, "memory_bytes": 64 << 20},
        "buckets": {BUCKET: {"rules": rules}},
        "consume": [{"path": str(disk.log), "format": "combined", "bucket": BUCKET, "start": "start"}],
        "scans": {BUCKET: {"bucket": BUCKET, "inventory": {"manifest": str(root / "keys.txt")}}},
        "log": {"format": "json"},
    }
