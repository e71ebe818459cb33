"""Which key pair signs now: fixed ones from the configuration, or boto3's own chain with its refresh.

Owns the refresh. Knows no request.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Protocol

from workers.errors import ConfigError
from workers.secret_values import reveal
from workers.store.wire.signing import Credentials

if TYPE_CHECKING:
    from workers.settings import StoreSettings

#: Seconds for which a pair of the chain is used before the chain is asked again (it then decides about a
#: refresh).
_ASK_AGAIN_S = 10.0


class _Frozen(Protocol):
    access_key: str
    secret_key: str
    token: str | None


class _Chain(Protocol):
    """The part of botocore's credentials that is used: may read files and call metadata services."""

    def get_frozen_credentials(self) -> _Frozen: ...


class CredentialSource:
    """Gives the key pair of the moment; a chain is asked in a thread, because it may wait for the network."""

    __slots__ = ("_ask_at", "_chain", "_current", "_lock", "_profile")

    def __init__(self, settings: StoreSettings) -> None:
        secret = reveal(
            settings.secret_access_key,
            settings.secret_access_key_file,
            name="store.secret_access_key_file",
        )
        token = reveal(
            settings.session_token,
            settings.session_token_file,
            name="store.session_token_file",
        )
        self._profile = settings.profile
        self._chain: _Chain | None = None
        self._lock = asyncio.Lock()
        self._current: Credentials | None = None
        self._ask_at = 0.0
        if settings.access_key_id is not None and secret is not None:
            self._current = Credentials(settings.access_key_id, secret, token or "")
            self._ask_at = float("inf")

    def ready(self) -> Credentials | None:
        """The pair without waiting, or None when `refresh` must be awaited first."""
        return self._current if time.monotonic() < self._ask_at else None

    async def refresh(self) -> Credentials:
        """Ask the chain (which renews what is about to expire).

        Raises:
            ConfigError: there are no credentials anywhere.
        """
        async with self._lock:
            ready = self.ready()
            if ready is not None:
                return ready
            self._current = await asyncio.to_thread(self._ask)
            self._ask_at = time.monotonic() + _ASK_AGAIN_S
            return self._current

    def expire(self) -> None:
        """The store said that the token is too old: ask the chain before the next request."""
        if self._ask_at != float("inf"):
            self._ask_at = 0.0

    def _ask(self) -> Credentials:
        if self._chain is None:
            import botocore.exceptions
            import botocore.session

            try:
                found: Any = botocore.session.Session(profile=self._profile).get_credentials()
            except botocore.exceptions.BotoCoreError as error:
                raise ConfigError(f"store: {error}") from error
            self._chain = found
        if self._chain is None:
            raise ConfigError(
                "store: no credentials; set store.access_key_id and store.secret_access_key, or give boto3's "
                "chain something to find (environment, profile, instance role)",
            )
        frozen = self._chain.get_frozen_credentials()
        return Credentials(frozen.access_key, frozen.secret_key, frozen.token or "")
