"""`/v1/back`: how far origins are behind what clients wrote. The same as `ferryman back status`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
from redis.exceptions import RedisError
from starlette.responses import Response
from starlette.routing import Route

from scheduler.back.state import collect_back, sentence
from workers.errors import BrokerUnavailable

if TYPE_CHECKING:
    from starlette.requests import Request

    from scheduler.runtime import Services


def routes(services: Services) -> list[Route]:
    """The route of `/v1/back`."""

    async def status(_: Request) -> Response:
        """GET /v1/back"""
        buckets = sorted({*services.settings.buckets, *services.rules.buckets()})
        try:
            found = await collect_back(services.ledger.back, services.rules, buckets)
        except (RedisError, OSError) as error:
            raise BrokerUnavailable(f"ledger: {error}") from error
        rows = [
            {
                "bucket": one.bucket,
                "could_go_back": one.could_go_back,
                "rules": one.rules,
                "pending": one.pending,
                "failed": one.failed,
                "lag_s": one.lag_s,
                "sentence": sentence(one),
            }
            for one in found
        ]
        could = bool(found) and all(one.could_go_back for one in found)
        return Response(
            orjson.dumps({"could_go_back": could, "buckets": rows}), media_type="application/json"
        )

    return [Route("/v1/back", status, methods=["GET"])]
