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
from workers.store.wire.addressing import OWN_PREFIX

if TYPE_CHECKING:
    from workers.store.access import StoreAccess

log = structlog.get_logger(__name__)

_PROBE_PREFIX = f"{OWN_PREFIX}probe/"


async def probe(store: StoreAccess, bucket: str) -> StoreGuarantees:
    """Try the store out; takes a few dozen small requests.

    Raises:
        StoreDenied: it does not even let us write under `.ferryman/probe/`.
        StoreUnavailable, StoreThrottled: it does not answer.
    """
    trial = Trial(store, bucket, f"{_PROBE_PREFIX}{uuid.uuid4().hex}/")
    try:
        await trial.writable()
        strongest, inverted = await create_only(trial)
        (compared, matches, tags, missing), (keys, order, versions, parts) = await asyncio.gather(
            asyncio.gather(checksums(trial), if_match(trial), object_tags(trial), missing_key_status(trial)),
            asyncio.gather(
                unrepresentable(trial), listing(trial), versioned(trial), multipart_uploads(trial, strongest)
            ),
        )
        found = StoreGuarantees(
            create_only=strongest,
            inverted=inverted,
            if_match=matches,
            checksums=compared,
            object_tags=tags and store.settings.object_tags,
            missing_key_status=missing,
            unrepresentable=keys,
            collation=order.collation,
            start_after=order.start_after,
            plus_is_space=order.plus_is_space,
            versioned=versions,
            multipart=parts.works,
            multipart_create_only=parts.create_only,
            part_checksums=parts.checksums,
            proven=True,
        )
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
