"""What others add to a signed request is part of what is verified, or nobody acts on it."""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import time
from urllib.parse import quote

import pytest

from scheduler.front.auth import AuthError, Keyring, SignedRequest, signed_by_v2, verify
from scheduler.front.s3.operation import carried, sub_resources
from support.vendor_sdks import (
    KEY_ID,
    SECRET,
    cos_client_by_name,
    oss2_bucket,
    s3_client,
    url_request,
)

#: oss2 signs version 4 with a call that Python 3.12 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning:oss2")

KEYS = Keyring(pairs={KEY_ID: SECRET})


def link(version: str) -> SignedRequest:
    """What boto3 presigns; with version 2 its headers stand in the query, with 4 they come beside it."""
    parameters: dict[str, object] = {"Bucket": "site", "Key": "mine"}
    if version == "s3":
        parameters |= {"ACL": "private", "Metadata": {"who": "me"}}
    client = s3_client(8080, signature_version=version)
    return url_request(client.generate_presigned_url("put_object", Params=parameters), "PUT")


def refused(request: SignedRequest) -> AuthError:
    with pytest.raises(AuthError) as caught:
        verify(request, KEYS, time.time())
    return caught.value


def and_also(request: SignedRequest, added: str) -> SignedRequest:
    return dataclasses.replace(request, query=request.query + b"&" + added.encode())


@pytest.mark.parametrize("version", ["s3", "s3v4"])
@pytest.mark.parametrize(
    "added",
    [
        "x-amz-copy-source=/site/secret", "X-Amz-Copy-Source=/site/secret", "X-AMZ-COPY-SOURCE=/site/secret",
        "%78-amz-copy-source=/site/secret", "%58-amz-copy-source=/site/secret", "x-amz-acl=public-read",
        "X-Amz-Acl=public-read", "x-amz-meta-who=somebody", "X-Amz-Meta-Who=somebody", "X-Amz-Tagging=a%3Db",
        "acl", "%61cl", "a%63l=", "tagging", "%74agging", "versionId=1", "%76ersionId=1", "%75ploads",
        "partNumber=1&uploadId=x", "%70artNumber=1&%75ploadId=x", "response-content-type=text/html",
        "%72esponse-content-type=text/html", "%6Frigin", "%77ebsite",
    ],
)  # fmt: skip
def test_a_link_with_something_added_is_another_request_however_it_is_spelled(version, added):
    request = link(version)
    assert verify(request, KEYS, time.time()).key_id == KEY_ID
    assert refused(and_also(request, added)).code == "SignatureDoesNotMatch"


def test_a_header_in_the_query_of_a_link_cannot_be_made_to_vanish():
    """A line break in one value would spell the same text as two headers, of which then none is sent."""
    request = link("s3")
    query = request.query.decode()
    assert carried(request.query) == {"x-amz-acl": "private", "x-amz-meta-who": "me"}
    without = "&".join(part for part in query.split("&") if not part.startswith("x-amz-"))
    for value in ("private\nx-amz-meta-who:me", "private\r\nx-amz-meta-who:me"):
        error = refused(
            dataclasses.replace(request, query=f"{without}&x-amz-acl={quote(value, safe='')}".encode())
        )
        assert error.code == "SignatureDoesNotMatch"


@pytest.mark.parametrize(
    "name",
    ["attributes", "legal-hold", "retention", "encryption", "renameObject", "append", "whatever"],
)
def test_what_version_2_does_not_sign_is_told_from_what_it_does(name):
    assert sub_resources(name.encode()) == {name}
    assert not signed_by_v2(name)
    assert all(map(signed_by_v2, ("acl", "tagging", "uploads", "uploadId", "versionId", "restore")))


@pytest.mark.parametrize(
    "mark", ["q-sign-algorithm=sha1", "x-oss-signature-version=OSS4-HMAC-SHA256", f"OSSAccessKeyId={KEY_ID}",
             "X-Amz-Algorithm=AWS4-HMAC-SHA256", f"AWSAccessKeyId={KEY_ID}"],
)  # fmt: skip
@pytest.mark.parametrize("scheme", ["aws-v2", "aws-v4", "oss-v1", "oss-v4", "cos"])
def test_a_link_of_two_schemes_is_refused(scheme, mark):
    """One verifies, and the other decides how it is treated: what is left unsigned would be obeyed."""
    now = time.time()
    request = {
        "aws-v2": lambda: link("s3"),
        "aws-v4": lambda: link("s3v4"),
        "oss-v1": lambda: url_request(oss2_bucket(8080, "site").sign_url("GET", "mine", 600)),
        "oss-v4": lambda: url_request(oss2_bucket(8080, "site", v4=True).sign_url("GET", "mine", 600)),
        "cos": lambda: url_request(
            cos_client_by_name().get_presigned_url(Bucket="site-1250000000", Key="mine", Method="GET")
        ),
    }[scheme]()
    assert verify(request, KEYS, now).scheme == scheme
    if f"{mark.partition('=')[0]}=".encode() in request.query:
        return
    error = refused(and_also(request, mark))
    assert (error.status, error.code) == (400, "InvalidArgument")
    assert "by one scheme" in error.message


@pytest.mark.parametrize("value", ["voilà", "Å", "à la carte", "  à  é  ", "中\u3000文 ", "\u00a0x\u00a0"])
def test_blanks_of_latin_1_within_utf_8_are_signed_as_they_are(value):
    """`à` ends with the byte of a no-break space, and `Å` with that of a line end."""
    listed = (
        f"Credential={KEY_ID}/20261128/us-east-1/s3/aws4_request, SignedHeaders=host;x-amz-date;x-amz-meta-n"
    )
    sent = value.strip(" ").encode()
    canonical = b" ".join(part for part in sent.split(b" ") if part)
    stamp, scope = "20261128T030000Z", "20261128/us-east-1/s3/aws4_request"

    def request(n: bytes) -> SignedRequest:
        text = (
            b"PUT\n/site/k\n\nhost:h\nx-amz-date:" + stamp.encode() + b"\nx-amz-meta-n:" + canonical + b"\n\n"
            b"host;x-amz-date;x-amz-meta-n\nUNSIGNED-PAYLOAD"
        )
        key = f"AWS4{SECRET}".encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        to_sign = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(text).hexdigest()}"
        signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
        return SignedRequest(
            method="PUT",
            raw_path=b"/site/k",
            bucket="site",
            object_path=b"/k",
            headers=(
                ("host", "h"), ("x-amz-date", stamp), ("x-amz-meta-n", n.decode("latin-1")),
                ("x-amz-content-sha256", "UNSIGNED-PAYLOAD"),
                ("authorization", f"AWS4-HMAC-SHA256 {listed}, Signature={signature}"),
            ),
        )  # fmt: skip

    now = 1795834800.0
    assert verify(request(sent), KEYS, now).key_id == KEY_ID
    for other in (sent + b"\xa0", b"\x85" + sent, sent.replace(b" ", b" \xa0 ") + b"\xa0"):
        with pytest.raises(AuthError, match="does not match"):
            verify(request(other), KEYS, now)
