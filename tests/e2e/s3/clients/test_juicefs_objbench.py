"""JuiceFS's own test of object stores: what passes at the store itself passes through the gateway."""

from __future__ import annotations

import pytest

from support.s3.clients import alike

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(300)]
#: Its measurements are kept small: what counts is that each is there.
SMALL = (
    "--big-object-size", "8M", "--block-size", "4M", "--small-objects", "2", "--small-object-size", "4K",
    "--threads", "2",
)  # fmt: skip


def test_each_functional_test_that_passes_at_the_store_passes_through_the_gateway(sides_of):
    def results(side):
        said = side.run(
            "juicefs", "objbench", "--no-color", "--storage", "s3", *SMALL, "--access-key", side.key_id,
            "--secret-key", side.secret, f"{side.endpoint}/{side.bucket}",
        )  # fmt: skip
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in said.lines]
        assert any("get small objects" in line for line in said.lines), said
        return {row[1]: row[2] for row in rows if row[0] in {"basic", "sync"}}

    found = alike(sides_of("juicefs"), results)[0]
    assert sum(result == "pass" for result in found.values()) >= 12, found
    assert found["multipart upload"] == "pass"
