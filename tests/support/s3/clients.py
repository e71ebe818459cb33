"""S3 clients that others wrote (tests/clients.lock), doing the same to the store itself and to a gateway.

    direct, through = sides                     # a bucket of the store, a bucket of the gateway
    both(sides, lambda side: side.aws("s3", "ls", f"s3://{side.bucket}"))

They are installed beside this environment, in one of their own: `make test-slow` sees to it.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

from support.real import skip_or_fail

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

BIN = Path(sys.prefix) / "clients" / "bin"
#: What no two answers share.
_PASSING = (
    (re.compile(r"\d{4}[-/]\d\d[-/]\d\d[ T]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|\+00:00)?"), "DATE"),
    (re.compile(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT"), "DATE"),
    (re.compile(r"\x1b\[[0-9;]*m"), ""),
)
_CLIENT_S = 240.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """How a client ended, and its lines without what no two runs share; sorted: clients work in parallel."""

    code: int
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One bucket behind one endpoint, with the variables that lead there."""

    name: str
    endpoint: str
    key_id: str
    secret: str
    bucket: str
    #: A directory of its own, which holds no configuration of anybody.
    home: Path

    @property
    def environment(self) -> dict[str, str]:
        """The three variables that `ferryman up` prints, and nothing else that a client would read."""
        plain = {n: v for n, v in os.environ.items() if not n.startswith(("AWS_", "FERRYMAN_", "RCLONE_"))}
        return {
            **plain,
            "HOME": str(self.home),
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def run(self, program: str, *arguments: str, ok: bool = True) -> Said:
        """What a client says; `ok` demands exit code 0."""
        code, text = self.output(program, *arguments)
        assert not ok or code == 0, f"{self.name}: {program} {' '.join(arguments)}\n{text}"
        return Said(code=code, lines=tuple(sorted(self.plain(text).splitlines())))

    def output(self, program: str, *arguments: str) -> tuple[int, str]:
        """Run a client to its end in `home`; its exit code and all that it printed."""
        if not (BIN / program).exists():
            skip_or_fail(
                f"tests/clients.lock is not installed: no {BIN / program}; make test-slow installs it"
            )
        done = subprocess.run(
            [str(BIN / program), *arguments],
            env=self.environment,
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_CLIENT_S,
            check=False,
        )
        return done.returncode, done.stdout.decode(errors="replace")

    def plain(self, text: str) -> str:
        """A text without the names of this side and without dates."""
        for own, word in ((self.endpoint, "ENDPOINT"), (str(self.home), "HOME"), (self.bucket, "BUCKET")):
            text = text.replace(own, word).replace(own.removeprefix("http://"), word)
        for pattern, word in _PASSING:
            text = pattern.sub(word, text)
        return text

    def aws(self, *arguments: str, **more: Any) -> Said:
        """The AWS command line."""
        return self.run("aws", *arguments, **more)

    def s3(self) -> Any:
        """A boto3 client of this side."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.key_id,
            aws_secret_access_key=self.secret,
            region_name="us-east-1",
            config=Config(s3={"addressing_style": "path"}),
        )


def alike(sides: Iterable[Side], do: Callable[[Side], Any]) -> list[Any]:
    """What `do` gives for each side, at the same time; all must be equal to the first, the store itself."""
    named = list(sides)
    with ThreadPoolExecutor(len(named)) as pool:
        given = list(pool.map(do, named))
    for side, other in zip(named[1:], given[1:], strict=True):
        assert other == given[0], f"{side.name} differs:\n{other}\n\n{named[0].name}:\n{given[0]}"
    return given


def contents(store: Side, bucket: str) -> dict[str, dict[str, Any]]:
    """What a bucket holds, as the store itself says it, without Ferryman's own and without dates."""
    s3, found = store.s3(), {}
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for one in page.get("Contents", ()):
            if one["Key"].startswith(".ferryman/"):
                continue
            got = s3.get_object(Bucket=bucket, Key=one["Key"])
            tags = s3.get_object_tagging(Bucket=bucket, Key=one["Key"])["TagSet"]
            named = ("ContentType", "CacheControl", "ContentEncoding", "ContentDisposition", "StorageClass")
            found[one["Key"]] = {
                "etag": one["ETag"],
                "sha256": hashlib.sha256(got["Body"].read()).hexdigest(),
                "tags": sorted((tag["Key"], tag["Value"]) for tag in tags),
                "metadata": {
                    n: v for n, v in got["Metadata"].items() if not n.startswith(("ferryman-", "x-oss-tag"))
                },
                **{name: got.get(name) for name in named},
            }
    s3.close()
    return found


def tree(folder: Path) -> dict[str, str]:
    """The files below a folder, by relative name, as digests."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def plant(folder: Path, files: dict[str, bytes]) -> Path:
    """Files below a folder, all of one age."""
    for name, body in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
        os.utime(path, (1_700_000_000, 1_700_000_000))  # some clients keep it as metadata
    return folder
