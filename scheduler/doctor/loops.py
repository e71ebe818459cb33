"""Whether an origin's name leads back to Ferryman or to the store: the site's DNS was switched too early."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from scheduler.doctor.model import Subject
from scheduler.rules.hosts import split_host
from scheduler.rules.lint import lint_hosts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from scheduler.config.settings import Settings
    from scheduler.doctor.model import Finding
    from scheduler.rules.model import OriginHost, Path, RuleSet


def addresses_of(name: str) -> list[str]:
    """The addresses of a name.

    Raises:
        OSError: it does not resolve.
    """
    return sorted({str(found[4][0]) for found in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)})


async def check(
    settings: Settings,
    sets: Mapping[str, RuleSet],
    *,
    resolve: Callable[[str], Iterable[str]] = addresses_of,
) -> list[Finding]:
    """The findings about every origin of every rule."""
    return await asyncio.to_thread(_check, settings, sets, resolve)


def _check(
    settings: Settings, sets: Mapping[str, RuleSet], resolve: Callable[[str], Iterable[str]]
) -> list[Finding]:
    found = Subject("loops")
    remedy = (
        "name the old server by another name or by its address in the rule; see the log for X-Ferryman-Hop"
    )
    store = _store_addresses(settings, resolve)
    for bucket, ruleset in sorted(sets.items()):
        before = len(found.findings)
        notes = lint_hosts(
            ruleset.rules,
            resolve,
            public_hosts=settings.gateway.public_hosts,
            own_addresses=[settings.gateway.listen],
            from_file=ruleset.owner == "file",
        )
        for note in notes:
            name = ruleset.rules[note.index].name
            message = f"rule {name}: {note.field}: {note.message}"
            if "loop" in note.message or "Ferryman" in note.message:
                found.failed("loop", message, remedy, of=bucket)
            else:
                found.warning("names", message, "check the name and the resolver of this machine", of=bucket)
        endpoint = (urlsplit(settings.store.endpoint).hostname or "").lower()
        for origin, path in _origins(ruleset):
            if not _leads_to(origin.host, store, resolve):
                continue
            named, below = _bucket_of(origin.host, path, endpoint)
            if named == bucket and below:
                message = f"{origin.host} is the store, and {path} lies in bucket {bucket} itself"
                found.warning("loop", message, "see that it is meant: both ends are one bucket", of=bucket)
            elif named in {"", bucket}:
                message = f"{origin.host} is the store itself: the name was switched already"
                found.failed("loop", message, remedy, of=bucket)
        if len(found.findings) == before:
            found.ok("loop", "no origin leads back to Ferryman or to the store", of=bucket)
    return found.findings


def _origins(ruleset: RuleSet) -> list[tuple[OriginHost, str]]:
    """Every origin with the beginning of the paths that it is asked for, each pair once."""
    found = {
        (origin.host, origin.base_path + _beginning(rule.path)): origin
        for rule in ruleset.rules
        for group in rule.origin.hosts
        for origin in (group.primary, *group.standbys)
    }
    return [(origin, path) for (_, path), origin in sorted(found.items(), key=lambda one: one[0])]


def _beginning(path: Path) -> str:
    """What the paths of all keys begin with, behind the origin's base path."""
    if path.fixed is not None:
        return path.fixed.lstrip("/")
    text = path.add_prefix if path.template is None else path.template.partition("${")[0]
    return text.lstrip("/")


def _bucket_of(host: str, path: str, endpoint: str) -> tuple[str, str]:
    """The bucket of the store that an origin names, empty when it names none, and the path below it.

    A store may be its own origin: another bucket of it is as good as another server.
    """
    name = split_host(host)[0].lower()
    if endpoint and name.endswith(f".{endpoint}"):
        return name.removesuffix(f".{endpoint}"), path.strip("/")
    bucket, ended, below = unquote(path).lstrip("/").partition("/")
    return (bucket, below.strip("/")) if ended else ("", "")


def _store_addresses(settings: Settings, resolve: Callable[[str], Iterable[str]]) -> set[tuple[str, int]]:
    parts = urlsplit(settings.store.endpoint)
    if parts.hostname is None:
        return set()
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        return {(address, port) for address in resolve(parts.hostname)}
    except OSError:
        return set()


def _leads_to(host: str, store: set[tuple[str, int]], resolve: Callable[[str], Iterable[str]]) -> bool:
    name, port = split_host(host)
    ports = {int(port)} if port else {80, 443}
    try:
        return any((address, number) in store for address in resolve(name) for number in ports)
    except OSError:
        return False
