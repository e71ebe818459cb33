"""What s3fs does and sees in a bucket, as a list of facts; run by the clients' own Python.

python with_s3fs.py BUCKET
"""

import hashlib
import json
import random
import sys

import fsspec

BUCKET = sys.argv[1]
FACTS = []


def fact(name, value):
    FACTS.append([name, json.loads(json.dumps(value, default=str).replace(BUCKET, "BUCKET"))])


def seen(path):
    fs.invalidate_cache()
    return sorted([one["name"], one["size"], one["type"]] for one in fs.ls(path, detail=True))


fs = fsspec.filesystem("s3")
large = random.Random(11).randbytes(12 << 20)
with fs.open(f"{BUCKET}/dir/large", "wb", block_size=5 << 20) as file:
    for at in range(0, len(large), 1 << 20):
        file.write(large[at : at + (1 << 20)])
fs.pipe({f"{BUCKET}/dir/{n} ä+": bytes([n]) * n for n in range(12)})
fs.touch(f"{BUCKET}/dir/empty")
fact("ls", seen(f"{BUCKET}/dir"))
fact("top", seen(BUCKET))
fact("find", fs.find(BUCKET))
fact("glob", fs.glob(f"{BUCKET}/dir/1*"))
fact("du", fs.du(BUCKET))
fact(
    "info", {k: v for k, v in fs.info(f"{BUCKET}/dir/large").items() if k in {"size", "ETag", "type", "Key"}}
)
fact("exists", [fs.exists(f"{BUCKET}/{name}") for name in ("dir/large", "dir", "none")])
with fs.open(f"{BUCKET}/dir/large", "rb", block_size=1 << 20) as file:
    file.seek(5_000_000)
    fact("read", hashlib.sha256(file.read(3 << 20)).hexdigest())
fact("tail", hashlib.sha256(fs.tail(f"{BUCKET}/dir/large", 1000)).hexdigest())
fact("cat", {k: hashlib.sha256(v).hexdigest() for k, v in fs.cat(fs.glob(f"{BUCKET}/dir/*")).items()})
fs.copy(f"{BUCKET}/dir/large", f"{BUCKET}/copy")
fs.mv(f"{BUCKET}/dir/3 ä+", f"{BUCKET}/moved/3")
fs.setxattr(f"{BUCKET}/copy", copy_kwargs={}, who="me")
fact("metadata", fs.metadata(f"{BUCKET}/copy", refresh=True))
fact("walk", [[path, sorted(dirs), sorted(files)] for path, dirs, files in fs.walk(BUCKET)])
try:
    fs.cat(f"{BUCKET}/none")
except FileNotFoundError:
    fact("absent", True)
fs.rm(f"{BUCKET}/dir", recursive=True)
fact("left", [name for name in fs.find(BUCKET) if not name.endswith("/")])
json.dump(FACTS, sys.stdout, indent=1)
