"""Lists that would unfold to more than memory holds: read no further than their bound."""

from __future__ import annotations

import gzip
import resource
from typing import TYPE_CHECKING

import httpx
import pytest

from scheduler.scan.inventory import manifest, s3_inventory, sitemap
from scheduler.scan.inventory.manifest import ManifestBroken, fetch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

#: Unpacked; what may be held of it is far less.
_BOMB_BYTES = 512 << 20
_MOST_KIB = 250 << 10


@pytest.fixture(scope="module")
def bomb() -> bytes:
    """One line of half a gigabyte, packed to half a megabyte."""
    member = gzip.compress(b"a" * (64 << 20), 9)
    return member * (_BOMB_BYTES // (64 << 20))


@pytest.fixture
def flat():
    """The test may not raise the peak of this process by more than a part of the bomb."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < _MOST_KIB


def test_a_packed_list_of_one_endless_line_is_refused_by_its_line(bomb, flat, tmp_path):
    path = tmp_path / "list.gz"
    path.write_bytes(bomb)
    with pytest.raises(ManifestBroken, match=r"list\.gz:1: a line of more than 1048576 bytes"):
        list(manifest.read(path, shown="list.gz", form="plain"))


def test_a_packed_data_file_of_s3_inventory_is_refused_as_well(bomb, flat):
    with pytest.raises(ValueError, match="a line of more than"):
        list(s3_inventory._csv(bomb, ["Bucket", "Key"]))


def test_a_packed_sitemap_is_unpacked_no_further_than_the_protocol_allows(bomb, flat):
    with pytest.raises(ValueError, match="more than 52428800 bytes"):
        sitemap._parsed(bomb)


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
async def test_a_page_that_never_ends_is_read_to_its_bound(bomb, flat, encoding):
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"a" * 65536 if encoding == "identity" else bomb[:65536]

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"content-encoding": encoding}, content=endless())

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        with pytest.raises(ValueError, match="more than 1000000 bytes"):
            await fetch(client, "http://o.example/", most_bytes=1_000_000)
