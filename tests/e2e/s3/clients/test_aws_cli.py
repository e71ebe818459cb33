"""The AWS command line does to a bucket of the gateway what it does to the store itself."""

from __future__ import annotations

import hashlib
import random
import urllib.request

import pytest

from support.s3.clients import alike, contents, plant, tree

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def sides(sides_of):
    return sides_of("aws")


def test_sync_both_ways_copies_and_removes(sides, files):
    def upload(side):
        at, up = f"s3://{side.bucket}/tree", plant(side.home / "up", files)
        return [
            side.aws("s3", "sync", str(up), at, "--no-progress", "--cache-control", "max-age=60"),
            side.aws("s3", "sync", str(up), at, "--no-progress"),
            side.aws("s3", "ls", "--recursive", "--summarize", at),
            side.aws("s3", "cp", f"{at}/index.html", f"s3://{side.bucket}/copied", "--no-progress"),
            side.aws("s3", "mv", f"{at}/large.bin", f"s3://{side.bucket}/moved", "--no-progress"),
        ]

    said = alike(sides, upload)[0]
    assert len(said[0].lines) == len(files)
    assert said[1].lines == ()
    direct, through = sides
    held = contents(direct, direct.bucket)
    assert held == contents(direct, through.bucket)
    assert len(held) == len(files) + 1

    def download(side):
        at, down = f"s3://{side.bucket}", side.home / "down"
        said = [
            side.aws("s3", "sync", at, str(down), "--no-progress"),
            side.aws("s3", "rm", "--recursive", f"{at}/tree"),
            side.aws("s3", "cp", f"{at}/tree/index.html", "nothing", ok=False),
        ]
        return said, tree(down)

    said, got = alike(sides, download)[0]
    assert len(got) == len(files) + 1
    assert [one.code for one in said] == [0, 0, 1]
    assert set(contents(direct, through.bucket)) == {"copied", "moved"}


def test_100_mb_in_parts_and_a_presigned_link(sides):
    body = random.Random(100).randbytes(100 * 1000 * 1000)

    def do(side):
        plant(side.home, {"big": body})
        at = f"s3://{side.bucket}/big.bin"
        said = [
            side.aws("s3", "cp", "big", at, "--no-progress", "--metadata", "who=me"),
            side.aws("s3", "cp", at, "back", "--no-progress"),
            side.aws("s3api", "head-object", "--bucket", side.bucket, "--key", "big.bin"),
        ]
        link = side.output("aws", "s3", "presign", at)[1].strip()
        with urllib.request.urlopen(link, timeout=60) as answer:
            linked = hashlib.sha256(answer.read()).hexdigest()
        (side.home / "big").unlink()
        return said, linked, tree(side.home)["back"]

    _, linked, back = alike(sides, do)[0]
    assert linked == back == hashlib.sha256(body).hexdigest()
    direct, through = sides
    assert contents(direct, direct.bucket)["big.bin"] == contents(direct, through.bucket)["big.bin"]
