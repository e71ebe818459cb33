"""One `ferryman up` with its embedded store, for each client a bucket at the store and one at the gateway."""

from __future__ import annotations

import json
import random
import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import yaml

from support.installation import running_up_with
from support.s3.clients import Side

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: Each has buckets of its own.
CLIENTS = ("aws", "boto3", "juicefs", "minio", "rclone", "s3cmd", "s3fs")


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Side, Side]]:
    """The store itself, and the gateway by the variables that `ferryman up` prints."""
    root = tmp_path_factory.mktemp("clients")
    rule = {"when": {"prefix": "never/"}, "origins": ["http://127.0.0.1:9"]}
    config = root / "config.yaml"
    config.write_text(yaml.safe_dump({"buckets": {f"plain-{name}": {"rules": [rule]} for name in CLIENTS}}))
    with running_up_with(root, "--config", str(config)) as up:
        printed = dict(re.findall(r"^  export (AWS_\w+)=(\S+)$", up.output, re.MULTILINE))
        (root / "home").mkdir()
        through = Side(
            name="the gateway",
            endpoint=printed["AWS_ENDPOINT_URL"],
            key_id=printed["AWS_ACCESS_KEY_ID"],
            secret=printed["AWS_SECRET_ACCESS_KEY"],
            bucket="",
            home=root / "home",
        )
        own = json.loads((up.data_dir / "credentials.json").read_text())
        endpoint = re.search(r"^  store .*?(http://[^ ,]+),", up.output, re.MULTILINE)
        assert endpoint is not None, up.output
        direct = replace(
            through,
            name="the store",
            endpoint=endpoint[1],
            key_id=own["access_key_id"],
            secret=own["secret_access_key"],
        )
        yield direct, through


@pytest.fixture(scope="session")
def sides_of(
    installed: tuple[Side, Side], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], list[Side]]:
    """The sides of one client: the store first, then a bucket of the gateway where no rule matches."""

    def make(client: str) -> list[Side]:
        direct, through = installed
        found = [
            replace(direct, bucket=f"direct-{client}", home=tmp_path_factory.mktemp(f"direct-{client}")),
            replace(through, bucket=f"plain-{client}", home=tmp_path_factory.mktemp(f"plain-{client}")),
        ]
        s3 = found[0].s3()
        s3.create_bucket(Bucket=found[0].bucket)
        s3.close()
        return found

    return make


@pytest.fixture(scope="session")
def files() -> dict[str, bytes]:
    """A small site: names with spaces, signs and other scripts, an empty file, one of several parts."""
    some = random.Random(16)
    names = (
        "index.html",
        "a b/c+d.txt",
        "img/ä/中.png",
        "img/100%.txt",
        "deep/er/x=1&y=2.bin",
        "~tilde'(1).js",
    )
    return {name: some.randbytes(200 + 3000 * at) for at, name in enumerate(names)} | {
        "empty": b"",
        "large.bin": some.randbytes(17 << 20),
    }
