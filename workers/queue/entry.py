"""What `dramatiq workers.queue.entry:broker` loads: settings from the environment, the broker, the actors.

The only module of the package with effects at import, because dramatiq finds its broker that way. Reads
`FERRYMAN_WORKER_SETTINGS` (JSON of `WorkerSettings` with secrets, as `settings.reveal_json` writes it) and
`FERRYMAN_LANE`, and `FERRYMAN_WORKER_GROUP`, by which its supervisor finds its signs of life.
"""

from __future__ import annotations

import asyncio
import os

import dramatiq
import uvloop

from workers.plan import Lane
from workers.queue.actors import declare
from workers.queue.broker import make_broker
from workers.queue.process import WorkerProcess
from workers.settings import WorkerSettings
from workers.telemetry import log

log.configure_from_env()
asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())

settings = WorkerSettings.model_validate_json(os.environ["FERRYMAN_WORKER_SETTINGS"])
process = WorkerProcess(
    settings,
    Lane(os.environ.get("FERRYMAN_LANE", Lane.HOT)),
    group=os.environ.get("FERRYMAN_WORKER_GROUP", "alone"),
)
broker = make_broker(settings.broker, middleware=[process])
dramatiq.set_broker(broker)
declare(broker, process)
