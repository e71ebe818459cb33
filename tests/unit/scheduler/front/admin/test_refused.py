"""How `/v1` says no: refusals of a handler, errors of others that are some, and all other errors."""

from __future__ import annotations

import orjson
import pytest
from starlette.requests import Request

from scheduler.front.admin.refused import Refused, answering

REQUEST = Request({"type": "http"})


def _raises(error: Exception):
    async def handler(_: Request):
        raise error

    return handler


def _as_refused(error: Exception) -> Refused | None:
    if isinstance(error, LookupError):
        return Refused(503, "away", str(error), headers={"retry-after": "2"})
    return None


async def test_a_refusal_tells_code_message_and_details_and_carries_the_headers_of_its_module():
    handler = _raises(Refused(409, "taken", "somebody was first", version=7))
    answer = await answering(handler, _as_refused, headers={"cache-control": "no-store"})(REQUEST)
    assert (answer.status_code, answer.headers["cache-control"]) == (409, "no-store")
    assert orjson.loads(answer.body) == {
        "error": {"code": "taken", "message": "somebody was first", "version": 7}
    }


async def test_an_error_of_others_is_the_refusal_that_the_module_sees_in_it_with_its_own_headers_only():
    answer = await answering(_raises(KeyError("ledger")), _as_refused)(REQUEST)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    assert "cache-control" not in answer.headers
    assert orjson.loads(answer.body)["error"]["code"] == "away"


async def test_what_is_no_refusal_is_left_to_the_application():
    with pytest.raises(ValueError, match="ours"):
        await answering(_raises(ValueError("ours")), _as_refused)(REQUEST)
