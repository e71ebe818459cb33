"""Messages as the queue may bring them: twice, late, of an earlier shape, of a version that is yet to come.

Owns what is done to dramatiq's structures past its scripts. The recorded messages of earlier shapes are in
tests/data/wire: each was written by the code of its time.
"""

from __future__ import annotations

import json
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from torture.layout import BUCKET

if TYPE_CHECKING:
    import redis

    from torture.oracle import Oracle
    from torture.people.clients import Numbers
    from torture.system import System

LANES: Final = ("hot", "cold")
RECORDED: Final = Path(__file__).parents[2] / "data" / "wire"
#: Both ends in one step, so that a message is in one of the lists at any time.
_MOVE: Final = """
for _, id in ipairs(redis.call('lrange', KEYS[1], 0, -1)) do redis.call('rpush', KEYS[2], id) end
return redis.call('del', KEYS[1])
"""


def move_list(client: redis.Redis, one: str, other: str) -> None:
    """All that waits in one list waits in the other."""
    client.eval(_MOVE, 2, one, other)


def put_twice(client: redis.Redis) -> None:
    """Each waiting message is put on its lane once more, as a broker that delivers at least once may."""
    for lane in LANES:
        for name in client.hkeys(f"ferryman:{lane}.msgs"):
            client.rpush(f"ferryman:{lane}", name)


def put_other_versions(client: redis.Redis, system: System, numbers: Numbers) -> None:
    """One message of each recorded shape, and one of the next version, of which only the keys can be told.

    All their keys must end: those of the next version as listed failures, unless somebody else moves them.
    """
    for file in sorted(RECORDED.glob("*.json")):
        text = file.read_text()
        for number, origin in enumerate(system.origins.values(), start=1):
            text = text.replace(f"origin.invalid:{number}", f"127.0.0.1:{origin.port}")
        batch = json.loads(text)
        for item in batch["items"]:
            item["key"] = numbers.fresh()
            item["path"] = f"/{item['key']}"
        _put(client, system.oracle, batch)
    plan = {"bucket": BUCKET, "rule": "standby", "groups_of_tomorrow": []}
    _put(client, system.oracle, {"v": 2, "plan": plan, "items": [{"key": numbers.fresh()}]})


def _put(client: redis.Redis, oracle: Oracle, batch: dict[str, Any]) -> None:
    name = str(uuid.uuid4())
    message = {
        "queue_name": "hot", "actor_name": "fetch_hot", "args": [], "kwargs": {"batch": batch},
        "options": {"redis_message_id": name}, "message_id": name,
        "message_timestamp": int(time.time() * 1000),
    }  # fmt: skip
    pipe = client.pipeline(transaction=True)
    pipe.hset("ferryman:hot.msgs", name, json.dumps(message))
    pipe.rpush("ferryman:hot", name)
    pipe.execute()
    for item in batch["items"]:
        oracle.want(item["key"])
