"""Authentication towards private origins (F27): basic, bearer, SigV4 and client certificates.

Owns turning a credential's name into request headers or a TLS context. Secrets come from settings or files,
stay in this module and are never logged; that they do not travel to another host is decided by the caller
(H10).
"""

from __future__ import annotations

import base64
import ssl
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING

from workers.errors import ConfigError, CredentialMissing
from workers.origin.wire.redirects import split_url
from workers.secret_values import reveal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workers.settings import CredentialSettings


class _Signer:
    """SigV4 for S3, without a body."""

    def __init__(self, access_key_id: str, secret_access_key: str, region: str) -> None:
        # Imported here: only fleets with an S3 origin load the C library for this.
        from awscrt.auth import AwsCredentialsProvider

        self._region = region
        self._provider = AwsCredentialsProvider.new_static(access_key_id, secret_access_key)

    def headers(self, method: str, url: str, now: datetime | None) -> list[tuple[str, str]]:
        from awscrt.auth import (
            AwsSignatureType,
            AwsSignedBodyHeaderType,
            AwsSignedBodyValue,
            AwsSigningAlgorithm,
            AwsSigningConfig,
            aws_sign_request,
        )
        from awscrt.http import HttpHeaders, HttpRequest

        target = split_url(url)
        request = HttpRequest(method, target.path, HttpHeaders([("Host", target.authority)]))
        config = AwsSigningConfig(
            algorithm=AwsSigningAlgorithm.V4,
            signature_type=AwsSignatureType.HTTP_REQUEST_HEADERS,
            credentials_provider=self._provider,
            region=self._region,
            service="s3",
            date=now or datetime.now(UTC),
            use_double_uri_encode=False,
            should_normalize_uri_path=False,
            signed_body_value=AwsSignedBodyValue.EMPTY_SHA256,
            signed_body_header_type=AwsSignedBodyHeaderType.X_AMZ_CONTENT_SHA_256,
        )
        # A static provider answers at once; the bound is against a fault of the library.
        aws_sign_request(request, config).result(timeout=10)
        return [(name, value) for name, value in request.headers if name.lower() != "host"]


class Credentials:
    """All credentials of the configuration, by name; files are read once, at the first use."""

    def __init__(self, settings: Mapping[str, CredentialSettings]) -> None:
        self._settings = dict(settings)
        self._fixed: dict[str, list[tuple[str, str]]] = {}
        self._signers: dict[str, _Signer] = {}

    def headers(
        self, name: str, method: str, url: str, *, origin: str = "", now: datetime | None = None
    ) -> list[tuple[str, str]]:
        """The headers that authenticate one request; none for a client certificate.

        Raises:
            CredentialMissing: the configuration has no such credential.
            ConfigError: a secret's file cannot be read.
        """
        fixed = self._fixed.get(name)
        if fixed is not None:
            return fixed
        signer = self._signers.get(name)
        if signer is None:
            settings = self._get(name, origin)
            if settings.type != "s3v4":
                self._fixed[name] = made = _fixed_headers(settings)
                return made
            self._signers[name] = signer = _Signer(
                settings.access_key_id or "",
                reveal(settings.secret_access_key, settings.secret_access_key_file) or "",
                settings.region,
            )
        return signer.headers(method, url, now)

    def is_certificate(self, name: str | None) -> bool:
        """Whether the credential is a client certificate, so that its connections must not be shared."""
        settings = self._settings.get(name or "")
        return settings is not None and settings.type == "client_certificate"

    def load_certificate(self, name: str, context: ssl.SSLContext) -> None:
        """Add the client certificate to a TLS context.

        Raises:
            ConfigError: the files cannot be read or do not fit.
        """
        settings = self._get(name, "")
        assert settings.certificate_file is not None
        try:
            context.load_cert_chain(settings.certificate_file, settings.key_file)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"origin.credentials.{name}: {error}") from error

    @cached_property
    def names(self) -> frozenset[str]:
        """Names of all credentials."""
        return frozenset(self._settings)

    def _get(self, name: str, origin: str) -> CredentialSettings:
        settings = self._settings.get(name)
        if settings is None:
            raise CredentialMissing(f"no credential {name!r} in origin.credentials", origin=origin)
        return settings


def _fixed_headers(settings: CredentialSettings) -> list[tuple[str, str]]:
    if settings.type == "basic":
        pair = f"{settings.username}:{reveal(settings.password, settings.password_file) or ''}"
        return [("Authorization", "Basic " + base64.b64encode(pair.encode()).decode())]
    if settings.type == "bearer":
        return [("Authorization", "Bearer " + (reveal(settings.token, settings.token_file) or ""))]
    return []
