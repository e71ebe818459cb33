"""rclone does to a bucket of the gateway what it does to the store itself."""

from __future__ import annotations

import pytest

from support.s3.clients import alike, contents, plant, tree

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(300)]
PARTS = ("--s3-upload-cutoff", "6M", "--s3-chunk-size", "5M", "--s3-copy-cutoff", "8M")


@pytest.fixture(scope="module")
def sides(sides_of):
    return sides_of("rclone")


def rclone(side, *arguments, **more):
    given = ("--config", "", "--log-level", "ERROR", "--retries", "1", *PARTS)
    return side.run("rclone", *given, *arguments, **more)


def at(side, path=""):
    return f":s3,env_auth,provider=Other:{side.bucket}{path}"


def test_sync_both_ways_check_and_server_side_copies(sides, files):
    def do(side):
        up, down = plant(side.home / "up", files), side.home / "down"
        said = [
            rclone(side, "sync", str(up), at(side, "/tree"), "--checksum"),
            rclone(side, "check", "--download", str(up), at(side, "/tree")),
            rclone(side, "lsf", "-R", "--files-only", "--format", "psh", at(side)),
            rclone(side, "copyto", at(side, "/tree/large.bin"), at(side, "/copied in parts")),
            rclone(side, "copyto", at(side, "/tree/index.html"), at(side, "/copied")),
            rclone(side, "moveto", at(side, "/copied"), at(side, "/moved")),
            rclone(side, "sync", at(side), str(down)),
            rclone(side, "cat", "--offset", "10", "--count", "20", at(side, "/tree/a b/c+d.txt")),
        ]
        plant(up, {"index.html": b"changed"})
        (up / "large.bin").unlink()
        said += [
            rclone(side, "check", str(up), at(side, "/tree"), ok=False),
            rclone(side, "sync", str(up), at(side, "/tree")),
            rclone(side, "lsf", "-R", "--files-only", "--format", "ps", at(side)),
            rclone(side, "cat", at(side, "/none"), ok=False),
        ]
        return said, tree(down)

    said, got = alike(sides, do)[0]
    assert len(got) == len(files) + 2
    assert (said[1].code, said[8].code) == (0, 1)
    direct, through = sides
    held = contents(direct, direct.bucket)
    assert len(held) == len(files) + 1
    assert held == contents(direct, through.bucket)
    alike(sides, lambda side: rclone(side, "purge", at(side, "/tree")))
    assert set(contents(direct, through.bucket)) == {"copied in parts", "moved"}
