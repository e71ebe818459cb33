"""What boto3 does and sees in a bucket, as a list of facts; run by the clients' own Python.

python with_boto3.py BUCKET
"""

import base64
import hashlib
import io
import json
import random
import sys
import urllib.error
import urllib.request
import zlib

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError

BUCKET = sys.argv[1]
FACTS = []
#: Fields of answers that no two answers share.
PASSING = {
    "ResponseMetadata",
    "LastModified",
    "Date",
    "UploadId",
    "VersionId",
    "Initiated",
    "Owner",
    "Initiator",
}


def fact(name, value):
    FACTS.append([name, plain(value)])


def plain(value):
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items() if k not in PASSING}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if hasattr(value, "read"):
        value = value.read()
    if isinstance(value, bytes):
        return hashlib.sha256(value).hexdigest()
    return value.replace(BUCKET, "BUCKET") if isinstance(value, str) else value


def refused(call, **given):
    try:
        answer = call(Bucket=BUCKET, **given)
    except ClientError as error:
        return error.response["ResponseMetadata"]["HTTPStatusCode"], error.response["Error"]["Code"]
    return answer


def http(method, url, data=None, headers=None):
    request = urllib.request.Request(url, data=data, method=method, headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, ""


s3 = boto3.client("s3", config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}))


def body(size):
    return random.Random(size).randbytes(size)


def transfers():
    config = TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20, max_concurrency=4)
    data = body(12 << 20)
    extra = {"ContentType": "text/x", "Metadata": {"who": "me", "of": "a b"}, "Tagging": "a=b"}
    s3.upload_fileobj(io.BytesIO(data), BUCKET, "large", ExtraArgs=extra, Config=config)
    got = io.BytesIO()
    s3.download_fileobj(BUCKET, "large", got, Config=config)
    fact("transfer", got.getvalue() == data)
    fact("head of parts", s3.head_object(Bucket=BUCKET, Key="large"))
    s3.copy({"Bucket": BUCKET, "Key": "large"}, BUCKET, "large copy", Config=config)
    fact("copied", s3.get_object(Bucket=BUCKET, Key="large copy"))
    fact("tags", s3.get_object_tagging(Bucket=BUCKET, Key="large"))


def lists():
    for at in range(25):
        s3.put_object(Bucket=BUCKET, Key=f"list/{at % 3}/ä {at:02d}+", Body=b"x" * at)
    for version in ("list_objects", "list_objects_v2"):
        for given in (
            {},
            {"Delimiter": "/"},
            {"Prefix": "list/1/"},
            {"Prefix": "none/"},
            {"Delimiter": "/", "Prefix": "list/"},
        ):
            pages = s3.get_paginator(version).paginate(
                Bucket=BUCKET, PaginationConfig={"PageSize": 7}, **given
            )
            for page in pages:
                tokens = ("ContinuationToken", "NextContinuationToken")
                fact(f"{version} {given}", {k: v for k, v in page.items() if k not in tokens})
    keys = [{"Key": f"list/0/ä {at:02d}+"} for at in range(0, 24, 3)]
    answer = s3.delete_objects(Bucket=BUCKET, Delete={"Objects": [*keys, {"Key": "none"}]})
    fact("delete_objects", sorted(one["Key"] for one in answer["Deleted"]))
    fact("quiet", refused(s3.delete_objects, Delete={"Objects": [{"Key": "list/1/ä 01+"}], "Quiet": True}))
    fact("left", [one["Key"] for one in s3.list_objects_v2(Bucket=BUCKET, Prefix="list/")["Contents"]])


def checksums():
    data = body(70_000)
    for algorithm in ("CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"):
        for size in (0, 100, len(data)):
            key = f"sum/{algorithm}/{size}"
            try:
                answer = s3.put_object(Bucket=BUCKET, Key=key, Body=data[:size], ChecksumAlgorithm=algorithm)
            except Exception as error:  # noqa: BLE001 -- what this client cannot do it cannot do to the store either
                fact(f"put {algorithm} {size}", type(error).__name__)
                continue
            fact(f"put {algorithm} {size}", {k: v for k, v in answer.items() if k == "ETag"})
            fact(f"get {algorithm} {size}", s3.get_object(Bucket=BUCKET, Key=key)["Body"])
    md5 = base64.b64encode(hashlib.md5(data).digest()).decode()
    fact("md5", s3.put_object(Bucket=BUCKET, Key="md5", Body=data, ContentMD5=md5)["ETag"])
    wrong = base64.b64encode(hashlib.md5(b"other").digest()).decode()
    fact("wrong md5", refused(s3.put_object, Key="wrong", Body=data, ContentMD5=wrong))
    crc = base64.b64encode(zlib.crc32(b"other").to_bytes(4, "big")).decode()
    fact("wrong crc", refused(s3.put_object, Key="wrong", Body=data, ChecksumCRC32=crc))
    fact("wrong is not there", refused(s3.head_object, Key="wrong"))


def presigned():
    for version in ("s3", "s3v4"):
        config = Config(s3={"addressing_style": "path"}, signature_version=version)
        signer = boto3.client("s3", config=config, region_name="us-east-1")

        def link(what, key, signer=signer, **more):
            return signer.generate_presigned_url(what, Params={"Bucket": BUCKET, "Key": key, **more})

        put = link("put_object", "signed é", ContentType="a/b")
        fact(f"{version} put", http("PUT", put, version.encode(), {"Content-Type": "a/b"}))
        fact(f"{version} put of another type", http("PUT", put, b"", {"Content-Type": "a/c"}))
        # In version 2 SeaweedFS takes no link that changes headers of the answer.
        more = {"ResponseContentType": "c/d"} if version == "s3v4" else {}
        get = link("get_object", "signed é", **more)
        fact(f"{version} get", http("GET", get))
        fact(f"{version} head by a link for get", http("HEAD", get))
        fact(f"{version} get of another key", http("GET", get.replace("signed", "signet")))
        fact(f"{version} get of nothing", http("GET", link("get_object", "none")))
        fact(f"{version} delete", http("DELETE", link("delete_object", "signed é")))


def posted():
    signer = boto3.client("s3", config=Config(signature_version="s3v4"), region_name="us-east-1")
    fields = {"Content-Type": "text/x", "x-amz-meta-who": "me", "success_action_status": "201"}
    given = [{name: value} for name, value in fields.items()] + [["content-length-range", 1, 100]]
    form = signer.generate_presigned_post(BUCKET, "post/${filename}", Fields=fields, Conditions=given)
    for size, name in ((10, "a b.txt"), (101, "too long"), (0, "too short")):
        fact(f"post {name}", post(form["url"], form["fields"], name, b"x" * size)[0])
        fact(f"posted {name}", refused(s3.get_object, Key=f"post/{name}"))
    fact("post of more", post(form["url"], form["fields"] | {"x-amz-meta-more": "1"}, "more", b"x")[0])


def post(url, fields, name, data):
    edge = "a-line-of-no-file"
    lines = [
        f'--{edge}\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n{value}\r\n'
        for field, value in fields.items()
    ]
    lines.append(f'--{edge}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n')
    whole = "".join(lines).encode() + data + f"\r\n--{edge}--\r\n".encode()
    return http("POST", url, whole, {"Content-Type": f"multipart/form-data; boundary={edge}"})


def conditions():
    etag = s3.put_object(Bucket=BUCKET, Key="c", Body=b"0123456789", CacheControl="no-store")["ETag"]
    for given in (
        {"IfMatch": etag},
        {"IfMatch": '"x"'},
        {"IfNoneMatch": etag},
        {"IfNoneMatch": '"x"'},
        {"Range": "bytes=2-4"},
        {"Range": "bytes=-3"},
        {"Range": "bytes=50-60"},
        {"PartNumber": 1},
        {"ResponseContentDisposition": "attachment"},
    ):
        fact(f"get {given}".replace(etag, "ETAG"), refused(s3.get_object, Key="c", **given))
        fact(f"head {given}".replace(etag, "ETAG"), refused(s3.head_object, Key="c", **given))
    fact("only if absent", refused(s3.put_object, Key="c", Body=b"new", IfNoneMatch="*"))
    fact("only if absent, and is", refused(s3.put_object, Key="c2", Body=b"new", IfNoneMatch="*"))
    source = {"Bucket": BUCKET, "Key": "c"}
    fact("copy on condition", refused(s3.copy_object, Key="c3", CopySource=source, CopySourceIfMatch='"x"'))
    fact("copy of nothing", refused(s3.copy_object, Key="c3", CopySource={"Bucket": BUCKET, "Key": "none"}))
    replaced = {"MetadataDirective": "REPLACE", "Metadata": {"n": "1"}, "ContentType": "e/f"}
    fact("copy in place", refused(s3.copy_object, Key="c", CopySource=source, **replaced))
    fact("after it", refused(s3.get_object, Key="c"))


def parts():
    begun = s3.create_multipart_upload(Bucket=BUCKET, Key="p", ContentType="g/h")["UploadId"]
    of = {"Key": "p", "UploadId": begun}
    first = refused(s3.upload_part, PartNumber=1, Body=body(5 << 20), **of)["ETag"]
    source = {"Bucket": BUCKET, "Key": "large"}
    second = refused(
        s3.upload_part_copy, PartNumber=2, CopySource=source, CopySourceRange="bytes=0-5242879", **of
    )
    fact("listed parts", refused(s3.list_parts, **of))
    listed = s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads", ())
    fact("uploads", [one["Key"] for one in listed])
    etags = [first, second["CopyPartResult"]["ETag"]]
    done = {"Parts": [{"PartNumber": n, "ETag": etag} for n, etag in enumerate(etags, 1)]}
    wrong = {"Parts": [{"PartNumber": 7, "ETag": first}]}
    fact("completed wrongly", refused(s3.complete_multipart_upload, MultipartUpload=wrong, **of))
    answer = refused(s3.complete_multipart_upload, MultipartUpload=done, **of)
    fact("completed", {k: v for k, v in answer.items() if k in {"ETag", "Bucket", "Key"}})
    fact("of parts", refused(s3.get_object, Key="p"))
    begun = s3.create_multipart_upload(Bucket=BUCKET, Key="q")["UploadId"]
    fact("aborted", refused(s3.abort_multipart_upload, Key="q", UploadId=begun))
    fact("gone", refused(s3.list_parts, Key="q", UploadId=begun))
    fact("nobody's", refused(s3.upload_part, Key="q", UploadId="nobody", PartNumber=1, Body=b""))


def rest():
    fact("bucket", refused(s3.head_bucket))
    fact("location", refused(s3.get_bucket_location))
    fact(
        "put tags", refused(s3.put_object_tagging, Key="c", Tagging={"TagSet": [{"Key": "k", "Value": "v"}]})
    )
    fact("tags", refused(s3.get_object_tagging, Key="c"))
    fact("delete tags", refused(s3.delete_object_tagging, Key="c"))
    fact("attributes", refused(s3.get_object_attributes, Key="c", ObjectAttributes=["ETag", "ObjectSize"]))
    fact("acl", sorted(refused(s3.get_object_acl, Key="c")))
    fact("policy", refused(s3.get_bucket_policy))
    fact("versioning", refused(s3.get_bucket_versioning))
    fact("tags of nothing", refused(s3.get_object_tagging, Key="none"))
    fact("delete nothing", refused(s3.delete_object, Key="none"))


for step in (transfers, lists, checksums, presigned, posted, conditions, parts, rest):
    step()
json.dump(FACTS, sys.stdout, indent=1, default=str)
