"""What `/v1` really answers is what `/v1/openapi.json` says, route by route."""

from __future__ import annotations

import contextlib
import dataclasses

import httpx
import pytest
from jsonschema import Draft202012Validator

from scheduler.config.settings import BucketSettings
from scheduler.front.admin.app import make_app
from scheduler.front.admin.dashboard.board import Board
from workers.answers import Attempt
from workers.ledger.failures import Failure

pytestmark = [pytest.mark.real, pytest.mark.timeout(180)]


class Asked:
    """A client that compares each answer with the document, and notes what it asked for."""

    def __init__(self, client, told):
        self._client, self._told = client, told
        self.seen = set()

    async def __call__(self, method, path, status=200, /, *, by, **more):
        answer = await self._client.request(method, path, **more)
        assert answer.status_code == status, (method, path, answer.text)
        content = self._told["paths"][by][method.lower()]["responses"][str(status)]["content"]
        media_type = answer.headers["content-type"].split(";")[0]
        assert media_type in content, (method, by, media_type)
        if media_type == "application/json":
            schema = {**content[media_type]["schema"], "components": self._told["components"]}
            problems = [error.message for error in Draft202012Validator(schema).iter_errors(answer.json())]
            assert problems == [], (method, path, answer.text)
        self.seen.add((method, by))
        return answer


@pytest.fixture
async def asked(idle_fleet):
    async with asking(idle_fleet, idle_fleet.services) as asked:
        yield asked


@contextlib.asynccontextmanager
async def asking(fleet, services):
    async with Board(services) as board:
        app = make_app(services, board)
        token = (fleet.tmp_path / "data" / "admin-token").read_text().strip()
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app),
            base_url="http://admin",
            headers={"authorization": f"Bearer {token}"},
        ) as client:
            told = (await client.get("/v1/openapi.json")).json()
            yield Asked(client, told)


async def test_every_answer_is_as_the_document_says(idle_fleet, asked):
    fleet, bucket = idle_fleet, idle_fleet.bucket
    failure = Failure(
        bucket=bucket, key="a/b.txt", reason="origin_timeout", message="m", rule="rule-1",
        attempts=(Attempt(origin="o", error="timeout"),),
    )  # fmt: skip
    await fleet.services.ledger.failures.add([failure])
    one, scan = "/v1/rules/{bucket}", {"name": "s", "inventory": {"manifest": fleet.manifest(["k"])}}

    await asked("GET", "/v1/rules", by="/v1/rules")
    await asked("GET", f"/v1/rules/{bucket}", by=one)
    for form in ("yaml", "cos", "oss"):
        await asked("GET", f"/v1/rules/{bucket}?as={form}", by=one)
    await asked("GET", f"/v1/rules/{bucket}?as=tar", 400, by=one)
    await asked("GET", "/v1/rules/nobody", 404, by=one)
    await asked("GET", f"/v1/rules/{bucket}/history", by=f"{one}/history")
    await asked(
        "PUT", f"/v1/rules/{bucket}?dry_run=true", by=one, json={"rules": [{"origins": [fleet.origin.url]}]}
    )
    await asked("PUT", f"/v1/rules/{bucket}", 400, by=one, json={"rules": [{"origin": 7}]})
    await asked("PUT", f"/v1/rules/{bucket}", 409, by=one, json={"rules": [{"origins": [fleet.origin.url]}]})
    await asked("DELETE", f"/v1/rules/{bucket}", 409, by=one)
    await asked("POST", f"/v1/rules/{bucket}/rollback", 409, by=f"{one}/rollback", json={"version": 1})

    await asked("GET", f"/v1/rules/{bucket}/explain?key=a", by=f"{one}/explain")
    await asked("GET", f"/v1/rules/{bucket}/explain", 400, by=f"{one}/explain")
    await asked("GET", f"/v1/rules/{bucket}/difference?to=1", by=f"{one}/difference")
    await asked("GET", "/v1/origins", by="/v1/origins")
    await asked("POST", "/v1/origins/probe", by="/v1/origins/probe", json={"url": f"{fleet.origin.url}/k"})
    await asked("POST", "/v1/origins/probe", 400, by="/v1/origins/probe", json={"url": "ftp://x"})

    await asked("POST", "/v1/scans", 202, by="/v1/scans", json={**scan, "bucket": bucket})
    await asked("POST", "/v1/scans", 400, by="/v1/scans", json={"name": "../x"})
    await asked("GET", "/v1/scans", by="/v1/scans")
    await asked("GET", "/v1/scans/s", by="/v1/scans/{name}")
    await asked("GET", "/v1/scans/nobody", 404, by="/v1/scans/{name}")
    await asked("GET", "/v1/scans/s/keys?term=failed", by="/v1/scans/{name}/keys")
    await asked("GET", "/v1/scans/s/keys?term=x", 400, by="/v1/scans/{name}/keys")
    await asked("POST", "/v1/scans/s/pause", 202, by="/v1/scans/{name}/{order}")

    gate, order = "/v1/gate/{scan}", {"confirm": "s", "quiet": "1s"}
    await asked("GET", "/v1/gate/s?quiet=1s", by=gate)
    await asked("GET", "/v1/gate/nobody", 404, by=gate)
    await asked("POST", "/v1/gate/s/finalize", 400, by=f"{gate}/finalize", json={"confirm": "t"})
    await asked("POST", "/v1/gate/s/finalize", 409, by=f"{gate}/finalize", json=order)
    order |= {"override": "a drill"}
    done = (await asked("POST", "/v1/gate/s/finalize", by=f"{gate}/finalize", json=order)).json()
    await asked("GET", "/v1/reports", by="/v1/reports")
    for kind in ("json", "html"):
        await asked("GET", f"/v1/reports/{done['report']}.{kind}", by="/v1/reports/{file}")
    await asked("POST", "/v1/gate/s/rollback", by=f"{gate}/rollback", json={"confirm": "s"})

    found = await asked("GET", "/v1/failures?limit=5", by="/v1/failures")
    assert found.json()["reasons"] == {"origin_timeout": 1}
    await asked("GET", "/v1/failures?limit=x", 400, by="/v1/failures")
    await asked("GET", f"/v1/failures/{bucket}/a/b.txt", by="/v1/failures/{bucket}/{key}")
    await asked("POST", "/v1/failures/retry", 400, by="/v1/failures/retry", json={"bucket": bucket})
    chosen = {"bucket": bucket, "keys": ["nobody"]}
    await asked("POST", "/v1/failures/retry", 202, by="/v1/failures/retry", json=chosen)
    chosen = {"bucket": bucket, "keys": ["a/b.txt"], "because": "known"}
    assert (await asked("POST", "/v1/failures/waive", by="/v1/failures/waive", json=chosen)).json() == {
        "waived": 1
    }

    await asked(
        "POST",
        "/v1/miss-events",
        202,
        by="/v1/miss-events",
        json=[{"bucket": bucket, "key": "n"}, {"key": 1}],
    )
    await asked("POST", "/v1/miss-events", 400, by="/v1/miss-events", json=[])
    await asked("GET", "/v1/back", by="/v1/back")
    await asked("GET", "/v1/openapi.json", by="/v1/openapi.json")

    described = {(m.upper(), path) for path, methods in asked._told["paths"].items() for m in methods}
    assert described - asked.seen == set(), "every described operation is asked for here"


async def test_changes_of_rules_that_the_api_owns_are_answered_as_the_document_says(idle_fleet):
    fleet, bucket, one = idle_fleet, idle_fleet.bucket, "/v1/rules/{bucket}"
    await fleet.services.rules.delete(bucket, owner="file", who="test", how="taken out of the file")
    settings = fleet.settings.model_copy(update={"buckets": {bucket: BucketSettings()}})
    async with asking(fleet, dataclasses.replace(fleet.services, settings=settings)) as asked:
        rules = {"rules": [{"origins": [fleet.origin.url]}]}
        put = await asked("PUT", f"/v1/rules/{bucket}", by=one, json=rules)
        stale = {"if-match": '"999"'}
        await asked("PUT", f"/v1/rules/{bucket}", 412, by=one, json={"rules": []}, headers=stale)
        assert (await asked("DELETE", f"/v1/rules/{bucket}", by=one)).json()["deleted"]
        await asked("GET", f"/v1/rules/{bucket}/history", by=f"{one}/history")
        version = {"version": put.json()["version"]}
        await asked("POST", f"/v1/rules/{bucket}/rollback", by=f"{one}/rollback", json=version)


@pytest.mark.parametrize("header", ["Bearer x", "Bearer ", "Basic dDp0", ""])
async def test_nobody_gets_in_without_the_token_whatever_is_asked(asked, header):
    for path, methods in asked._told["paths"].items():
        for method, operation in methods.items():
            content = operation["responses"]["401"]["content"]["application/json"]
            answer = await asked._client.request(
                method,
                path.replace("{", "").replace("}", ""),
                headers={"authorization": header},
                content=b"{}",
            )
            assert answer.status_code == 401, (method, path)
            schema = {**content["schema"], "components": asked._told["components"]}
            Draft202012Validator(schema).validate(answer.json())
