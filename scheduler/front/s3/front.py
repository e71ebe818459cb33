"""One S3 call from its signature to the permission of its key.

Owns which requests are S3 calls, and the order: who signed, what is asked for, may the key. How a call is
answered is `calls`'s.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import unquote_to_bytes

import structlog

from scheduler.front.auth import (
    AuthError,
    SignedRequest,
    body_signature,
    named_by_aws,
    signed_by_v2,
    verify,
    verify_form,
)
from scheduler.front.auth.encoding import encode, has_query, query_pairs
from scheduler.front.http import s3_error
from scheduler.front.http.s3_error import S3Error
from scheduler.front.s3.call import RESERVED, Call, Refused
from scheduler.front.s3.calls import Calls
from scheduler.front.s3.form.fields import filled_in, key_of, object_headers
from scheduler.front.s3.form.policy import read_policy
from scheduler.front.s3.form.reader import FormReader
from scheduler.front.s3.form.storing import FormFile
from scheduler.front.s3.headers import UNSIGNED_BY_PROXIES, for_store
from scheduler.front.s3.operation import (
    COPIES,
    POST_OBJECT,
    carried,
    operation,
    parameters,
    sub_resources,
)
from scheduler.front.s3.payload import BodyRefused
from scheduler.front.s3.permission import Grants
from scheduler.front.s3.tombstones import NotBuried
from scheduler.rules.keys import MAX_KEY_BYTES, is_reserved
from workers.errors import StoreError
from workers.telemetry import metrics

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scheduler.front.auth import BodySignature, Keyring, Principal
    from scheduler.front.http.answer import Answer
    from scheduler.front.http.bucket_address import BucketAddress
    from scheduler.front.http.request import Request
    from scheduler.front.s3.body import Receive
    from scheduler.front.s3.forwarding import S3Services
    from scheduler.front.s3.operation import Operation
    from scheduler.front.s3.reading import Miss

log = structlog.get_logger()

_NEEDS_LENGTH: Final = S3Error(
    status=411, code="MissingContentLength", message="The header content-length is needed."
)
_QUERY_MARKS: Final = ("X-Amz-Algorithm", "AWSAccessKeyId")


class S3Front:
    """The S3 front of one process."""

    def __init__(self, services: S3Services, keys: Keyring, miss: Miss) -> None:
        settings = services.settings
        self._settings = settings
        self._keys = keys
        self._grants = Grants(settings.client_keys(), buckets=settings.buckets)
        self._calls = Calls(services, self._grants, miss)
        for key in settings.client_keys():
            log.info(
                "s3_access_key", access_key=key.id, may=key.may or ("read",), buckets=key.buckets or "all"
            )

    # ------------------------------------------------------------ which requests are S3 calls

    def claims(self, request: Request, address: BucketAddress) -> bool:
        """Whether a request is an S3 call: one that AWS's schemes sign.

        A public bucket serves plain reads whatever key signed them, if it is none of ours: clients that
        always sign read the web front.
        """
        if not request.query and "authorization" not in request.by_name:
            return False
        authorization = request.by_name.get("authorization", "")
        query = request.query.encode("latin-1")
        if not (
            authorization.startswith(("AWS4-HMAC-SHA256", "AWS "))
            or (query and has_query(query, *_QUERY_MARKS))
        ):
            return False
        if address.is_bucket and {name for name, _ in query_pairs(query)} & {b"origin", b"website"}:
            return False  # rule documents
        if named_by_aws(authorization, query) in self._keys.pairs:
            return True
        if address.is_bucket or request.method not in {"GET", "HEAD"}:
            return bool(self._keys.pairs)
        bucket = self._settings.buckets.get(address.bucket)
        if bucket is not None and bucket.access == "signed":
            return True
        return not operation(request.method, query, of="object").is_plain_read

    # ------------------------------------------------------------ a browser's question

    def is_preflight(self, request: Request, address: BucketAddress) -> bool:
        """Whether a browser asks what another site's page may do with a bucket that is served."""
        return (
            request.method == "OPTIONS"
            and "origin" in request.by_name
            and "access-control-request-method" in request.by_name
            and address.bucket in self._settings.buckets
        )

    async def preflight(self, request: Request, answer: Answer, address: BucketAddress) -> None:
        """Answer it as the store's CORS rules say; it carries no signature and reads no object."""
        try:
            key = "" if address.is_bucket else _key(address)
            await self._calls.preflight(request, answer, address.bucket, key)
        except (Refused, BodyRefused, StoreError) as error:
            if answer.started:
                raise
            refused, more = _as_answer(error)
            await answer.error(refused, resource=address.resource, headers=more)
        finally:
            if answer.started:
                metrics.s3_answered("Preflight", answer.status)

    # ------------------------------------------------------------ a browser's form

    def is_form(self, request: Request, address: BucketAddress) -> bool:
        """Whether a form brings an object; it carries its signature among its fields."""
        return (
            request.method == "POST"
            and address.is_bucket
            and address.bucket != ""
            and not request.query
            and request.by_name.get("content-type", "").lower().startswith("multipart/form-data")
            and bool(self._keys.pairs)
        )

    async def form(self, request: Request, answer: Answer, address: BucketAddress, receive: Receive) -> None:
        """Store what a form brings; raises only what an answer that has begun raises."""
        key_id = ""
        try:
            if not request.by_name.get("content-length", "").isdecimal():
                raise Refused(_NEEDS_LENGTH)
            reader = FormReader(
                request.by_name["content-type"], receive, stall_s=self._settings.gateway.client_stall_s
            )
            fields = filled_in(await reader.fields(), reader.filename)
            try:
                key_id = verify_form(fields, self._keys).key_id
            except AuthError as error:
                refused = S3Error(status=error.status, code=error.code, message=error.message)
                raise Refused(refused) from error
            call, file = self._permitted(request, answer, address, receive, reader, fields, key_id)
            await self._calls.form(call, file)
        except (Refused, BodyRefused, NotBuried, StoreError) as error:
            if answer.started:
                raise
            await self._refuse(request, answer, address, error, POST_OBJECT, key_id)
        finally:
            if answer.started:
                metrics.s3_answered(POST_OBJECT.name, answer.status)

    def _permitted(
        self,
        request: Request,
        answer: Answer,
        address: BucketAddress,
        receive: Receive,
        reader: FormReader,
        fields: Mapping[str, str],
        key_id: str,
    ) -> tuple[Call, FormFile]:
        refusal = self._grants.refusal(key_id, POST_OBJECT.permission, address.bucket)
        if refusal is not None:
            raise Refused(refusal)
        policy = read_policy(fields["policy"])
        key = key_of(fields)
        policy.require(fields, bucket=address.bucket, now=time.time())
        if is_reserved(key):
            raise Refused(RESERVED)
        headers = object_headers(fields)
        call = Call(
            request=request,
            answer=answer,
            receive=receive,
            operation=POST_OBJECT,
            key_id=key_id,
            signature=None,
            bucket=address.bucket,
            key=key,
            headers=tuple(headers.items()),
            query="",
            parameters={},
        )
        client = request.client
        file = FormFile(
            bucket=address.bucket,
            key=key,
            headers=for_store(call.headers),
            fields=fields,
            policy=policy,
            reader=reader,
            base=f"{client.scheme}://{client.host}/" + (f"{address.bucket}/" if address.path_style else ""),
        )
        return call, file

    # ------------------------------------------------------------ one call

    async def serve(self, request: Request, answer: Answer, address: BucketAddress, receive: Receive) -> None:
        """Answer one call; raises only what an answer that has begun raises."""
        query = request.query.encode("latin-1")
        of: Literal["service", "bucket", "object"] = "object"
        if address.is_bucket:
            of = "bucket" if address.bucket else "service"
        headers = {**carried(query), **_as_signed(request)}
        asked = operation(request.method, query, of=of, copies="x-amz-copy-source" in headers)
        if asked.name not in COPIES:
            headers.pop("x-amz-copy-source", None)
        try:
            await self._calls.answer(self._allowed(request, answer, address, receive, asked, headers))
        except (Refused, BodyRefused, NotBuried, StoreError) as error:
            if answer.started:
                raise
            key_id = named_by_aws(request.by_name.get("authorization", ""), query)
            await self._refuse(request, answer, address, error, asked, key_id)
        finally:
            if answer.started:
                metrics.s3_answered(asked.name, answer.status)

    async def _refuse(
        self,
        request: Request,
        answer: Answer,
        address: BucketAddress,
        error: Exception,
        asked: Operation,
        key_id: str,
    ) -> None:
        refused, more = _as_answer(error)
        log.info(
            "s3_refused",
            request_id=request.id,
            operation=asked.name,
            access_key=key_id[:64],
            bucket=address.bucket,
            code=refused.code,
            reason=refused.message,
        )
        await answer.error(refused, resource=address.resource, headers=[*more, (b"connection", b"close")])

    def _allowed(
        self,
        request: Request,
        answer: Answer,
        address: BucketAddress,
        receive: Receive,
        asked: Operation,
        headers: dict[str, str],
    ) -> Call:
        query = request.query.encode("latin-1")
        signed = SignedRequest(
            method=request.method,
            raw_path=request.raw_path,
            query=query,
            headers=tuple((n, request.client.host if n == "host" else v) for n, v in request.headers),
            bucket=address.bucket,
            object_path=address.object_path,
        )
        try:
            principal = verify(signed, self._keys, time.time())
            signature = _signature(signed, principal, self._keys)
        except AuthError as error:
            refused = S3Error(status=error.status, code=error.code, message=error.message)
            raise Refused(refused) from error
        refusal = self._grants.refusal(principal.key_id, asked.permission, address.bucket)
        if refusal is not None:
            raise Refused(refusal)
        key = "" if address.is_bucket else _key(address)
        if is_reserved(key):
            raise Refused(s3_error.NO_SUCH_KEY if asked.is_plain_read else RESERVED)
        pairs = parameters(query)
        return Call(
            request=request,
            answer=answer,
            receive=receive,
            operation=asked,
            key_id=principal.key_id,
            signature=signature,
            bucket=address.bucket,
            key=key,
            headers=tuple(headers.items()),
            # By name, then by value, as signatures want it.
            query=b"&".join(
                name + b"=" + value
                for name, value in sorted((encode(name), encode(value)) for name, value in pairs)
            ).decode(),
            parameters={n.decode("utf-8", "replace"): v.decode("utf-8", "replace") for n, v in pairs},
        )


def _as_signed(request: Request) -> Mapping[str, str]:
    """Headers by name, several of one name joined as signatures join them: `a` and `b` are not `a, b`."""
    if len(request.by_name) == len(request.headers):
        return request.by_name
    out: dict[str, str] = {}
    for name, value in request.headers:
        out[name] = f"{out[name]},{value}" if name in out else value
    return out


def _as_answer(error: Exception) -> tuple[S3Error, tuple[tuple[bytes, bytes], ...]]:
    match error:
        case Refused():
            return error.error, error.headers
        case BodyRefused():
            return error.error, ()
        case NotBuried():
            busy = s3_error.SLOW_DOWN
            return S3Error(status=busy.status, code=busy.code, message=str(error)), ((b"retry-after", b"1"),)
        case _:
            return s3_error.SERVICE_UNAVAILABLE, ((b"retry-after", b"2"),)


def _signature(signed: SignedRequest, principal: Principal, keys: Keyring) -> BodySignature | None:
    """What a version 4 signature says of the body; None for version 2.

    Raises:
        AuthError: 403 AccessDenied: something that says what is meant is not signed, so anybody could have
            added it: an `x-amz-` header, a sub-resource that version 2 does not know.
    """
    if principal.scheme != "aws-v4":
        for name in sorted(sub_resources(signed.query)):
            if not signed_by_v2(name):
                shown = name[:64] if name.isascii() and name.isprintable() else "?"
                message = f"Version 2 does not sign the parameter {shown}; sign with version 4."
                raise AuthError(403, "AccessDenied", message)
        return None
    found = body_signature(signed, keys)
    for name, _ in signed.headers:
        if name.startswith("x-amz-") and name not in found.signed_headers and name not in UNSIGNED_BY_PROXIES:
            raise AuthError(
                403, "AccessDenied", f"The header {name} is not signed; every x-amz- header must be."
            )
    return found


def _key(address: BucketAddress) -> str:
    try:
        key = unquote_to_bytes(address.object_path[1:]).decode("utf-8")
    except UnicodeDecodeError as error:
        raise Refused(s3_error.INVALID_URI) from error
    if "\0" in key:
        raise Refused(s3_error.INVALID_URI)
    if len(key.encode()) > MAX_KEY_BYTES:
        raise Refused(s3_error.KEY_TOO_LONG)
    return key
