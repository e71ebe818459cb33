"""s3cmd does to a bucket of the gateway what it does to the store itself."""

from __future__ import annotations

import pytest

from support.s3.clients import alike, contents, plant, tree

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def sides(sides_of):
    return sides_of("s3cmd")


def s3cmd(side, *arguments, **more):
    """It knows the variables of the key pair, and takes the endpoint as an option."""
    host = side.endpoint.removeprefix("http://")
    given = ("--host", host, "--host-bucket", host, "--no-ssl", "--no-progress", "--no-preserve")
    return side.run("s3cmd", *given, "--guess-mime-type", "--no-mime-magic", *arguments, **more)


def test_put_sync_info_copy_and_delete(sides, files):
    def do(side):
        up, down, root = plant(side.home / "up", files), side.home / "down", f"s3://{side.bucket}"
        down.mkdir()
        said = [
            s3cmd(side, "sync", f"{up}/", f"{root}/tree/", "--multipart-chunk-size-mb", "5", "-q"),
            s3cmd(side, "sync", f"{up}/", f"{root}/tree/", "-q"),
            s3cmd(side, "ls", "-r", root),
            s3cmd(side, "info", f"{root}/tree/index.html"),
            s3cmd(side, "cp", f"{root}/tree/index.html", f"{root}/copied", "-q"),
            s3cmd(side, "modify", "--add-header", "Cache-Control: no-store", f"{root}/copied", "-q"),
            s3cmd(side, "mv", f"{root}/copied", f"{root}/moved", "-q"),
            s3cmd(side, "sync", f"{root}/", f"{down}/", "-q"),
            s3cmd(side, "get", f"{root}/none", str(side.home / "none"), ok=False),
            s3cmd(side, "du", root),
            s3cmd(side, "del", "-r", "-f", "-q", f"{root}/tree/"),
        ]
        return said, tree(down)

    said, got = alike(sides, do)[0]
    assert len(got) == len(files) + 1
    assert said[8].code != 0
    direct, through = sides
    held = contents(direct, direct.bucket)
    assert set(held) == {"moved"}
    assert held == contents(direct, through.bucket)
