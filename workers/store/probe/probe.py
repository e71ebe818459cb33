"""The start-up self-test: what this store really honours, found out by trying.

Owns the order of the trials and their sum. Several processes may probe the same bucket at the same time.
"""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING

import structlog

from workers.store.guarantees import StoreGuarantees
from workers.store.probe.keys import listing, missing_key_status, unrepresentable, versioned
from workers.store.probe.parts import multipart_uploads
from workers.store.probe.trial import Trial
from workers.store.probe.writes import checksums, create_only, if_match, object_tags
from workers.store.wire.addressing import PROBE_PREFIX

if TYPE_CHECKING:
    from workers.store.access import StoreAccess

log = structlog.get_logger(__name__)


async def probe(store: StoreAccess, bucket: str) -> StoreGuarantees:
    """Try the store out; takes a few dozen small requests.

    Raises:
        StoreDenied: it does not even let us write under `.ferryman/probe/`.
        StoreUnavailable, StoreThrottled: it does not answer.
    """
    trial = Trial(store, bucket, f"{PROBE_PREFIX}{uuid.uuid4().hex}/")
    try:
        await trial.writable()
        strongest, inverted = await create_only(trial)
        # All end before anything is removed, also when one of them fails.
        async with asyncio.TaskGroup() as trials:
            compared = trials.create_task(checksums(trial))
            matches = trials.create_task(if_match(trial))
            tags = trials.create_task(object_tags(trial))
            missing = trials.create_task(missing_key_status(trial))
            keys = trials.create_task(unrepresentable(trial))
            order = trials.create_task(listing(trial))
            versions = trials.create_task(versioned(trial))
            parts = trials.create_task(multipart_uploads(trial, strongest))
        found = StoreGuarantees(
            create_only=strongest,
            inverted=inverted,
            if_match=matches.result(),
            checksums=compared.result(),
            object_tags=tags.result() and store.settings.object_tags,
            missing_key_status=missing.result(),
            unrepresentable=keys.result(),
            collation=order.result().collation,
            start_after=order.result().start_after,
            plus_is_space=order.result().plus_is_space,
            versioned=versions.result(),
            multipart=parts.result().works,
            multipart_create_only=parts.result().create_only,
            part_checksums=parts.result().checksums,
            proven=True,
        )
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from group
    finally:
        await trial.clean_up()
    log.info(
        "store_probed",
        bucket=bucket,
        create_only=found.create_only,
        multipart_create_only=found.multipart_create_only,
        checksums=found.checksums,
        collation=found.collation,
        unrepresentable=sorted(found.unrepresentable),
    )
    return found
