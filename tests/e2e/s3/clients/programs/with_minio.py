"""What minio-py does and sees in a bucket, as a list of facts; run by the clients' own Python.

python with_minio.py BUCKET
"""

import hashlib
import io
import json
import os
import random
import sys
import urllib.request
from datetime import timedelta

from minio import Minio
from minio.commonconfig import REPLACE, ComposeSource, CopySource, Tags
from minio.deleteobjects import DeleteObject
from minio.error import S3Error

BUCKET = sys.argv[1]
FACTS = []


def fact(name, value):
    FACTS.append([name, value])


def digest(data):
    return hashlib.sha256(data).hexdigest()


def code(call, *given):
    try:
        call(BUCKET, *given)
    except S3Error as error:
        return error.code
    return "none"


def stat(key):
    found = minio.stat_object(BUCKET, key)
    meta = {n.lower(): v for n, v in found.metadata.items() if n.lower().startswith("x-amz-meta-")}
    return [found.size, found.etag, found.content_type, sorted(meta.items())]


minio = Minio(
    os.environ["AWS_ENDPOINT_URL"].removeprefix("http://"),
    access_key=os.environ["AWS_ACCESS_KEY_ID"],
    secret_key=os.environ["AWS_SECRET_ACCESS_KEY"],
    secure=False,
)
fact("exists", minio.bucket_exists(BUCKET))
fact("exists not", minio.bucket_exists(f"{BUCKET}-none"))
small, large = b"0123456789", random.Random(7).randbytes(11 << 20)
minio.put_object(BUCKET, "a/small +.txt", io.BytesIO(small), len(small), "text/x", metadata={"who": "me"})
minio.put_object(BUCKET, "a/large", io.BytesIO(large), len(large), part_size=5 << 20)
minio.put_object(BUCKET, "a/unknown length", io.BytesIO(large), -1, part_size=5 << 20)
minio.put_object(BUCKET, "empty", io.BytesIO(b""), 0)
for key in ("a/small +.txt", "a/large", "a/unknown length", "empty"):
    fact(f"stat {key}", stat(key))
    answer = minio.get_object(BUCKET, key)
    fact(f"get {key}", digest(answer.read()))
    answer.close()
answer = minio.get_object(BUCKET, "a/small +.txt", offset=3, length=4)
fact("part", answer.read().decode())
answer.close()
minio.copy_object(BUCKET, "copy", CopySource(BUCKET, "a/small +.txt"))
fact("copy", stat("copy"))
minio.copy_object(
    BUCKET, "copy 2", CopySource(BUCKET, "copy"), metadata={"n": "1"}, metadata_directive=REPLACE
)
fact("copy 2", stat("copy 2"))
minio.compose_object(BUCKET, "composed", [ComposeSource(BUCKET, "a/large"), ComposeSource(BUCKET, "copy")])
fact("composed", stat("composed"))
for prefix, recursive in (("", True), ("", False), ("a/", False), ("none/", True)):
    found = minio.list_objects(BUCKET, prefix=prefix, recursive=recursive)
    fact(f"list {prefix} {recursive}", [[one.object_name, one.size, one.etag, one.is_dir] for one in found])
found = minio.list_objects(BUCKET, recursive=True, use_api_v1=True)
fact("list v1", [one.object_name for one in found])
tags = Tags.new_object_tags()
tags["k"] = "v"
minio.set_object_tags(BUCKET, "copy", tags)
fact("tags", dict(minio.get_object_tags(BUCKET, "copy") or {}))
with urllib.request.urlopen(
    minio.presigned_get_object(BUCKET, "copy", expires=timedelta(hours=1)), timeout=60
) as answer:
    fact("presigned get", answer.read().decode())
url = minio.presigned_put_object(BUCKET, "put by a link", expires=timedelta(hours=1))
with urllib.request.urlopen(urllib.request.Request(url, data=b"x", method="PUT"), timeout=60) as answer:
    fact("presigned put", answer.status)
fact("absent", [code(minio.stat_object, "none"), code(minio.get_object, "none")])
errors = minio.remove_objects(BUCKET, [DeleteObject("copy"), DeleteObject("none")])
fact("removed", [error.code for error in errors])
minio.remove_object(BUCKET, "empty")
fact("left", [one.object_name for one in minio.list_objects(BUCKET, recursive=True)])
json.dump(FACTS, sys.stdout, indent=1)
