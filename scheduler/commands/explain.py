"""`ferryman explain`: what would happen to a request, or to a log full of them under other rules."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import click

from scheduler.commands.command_line import (
    CommandFailed,
    config_option,
    echo_json,
    guarded,
    json_option,
    load,
    run_async,
    say,
)
from scheduler.front.http.bucket_address import BucketLookup
from scheduler.rules.hosts import HostError, normalise_host, split_host
from scheduler.rules.keys import KeyRefused, client_path
from scheduler.rules.matching import RequestFacts
from workers.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scheduler.config.settings import Settings
    from scheduler.misses.event import MissEvent
    from scheduler.rules.model import RuleSet
    from scheduler.rules.trying.explain import Explanation
    from scheduler.rules.trying.replay import Replay

_PATH = click.Path(path_type=Path, dir_okay=False, exists=True)
_MARKS = {"matched": "=>", "not_matched": "--", "not_asked": "  "}


@click.command()
@click.argument("words", nargs=-1, metavar="[METHOD] URL")
@config_option
@json_option
@click.option(
    "-H", "--header", "headers", multiple=True, metavar="NAME: VALUE", help="A header of the client."
)
@click.option("--method", default="GET", show_default=True, help="The same as METHOD before the URL.")
@click.option("--status", type=int, default=404, show_default=True, help="What the store answers.")
@click.option("--bucket", metavar="B", help="The bucket; the whole path is the key then.")
@click.option("--rules", "rules_file", type=_PATH, help="Rules of this file instead of those in force.")
@click.option("--queued", is_flag=True, help="As a queued pull, not as the front itself (no Cookie).")
@click.option("--replay", "log_file", type=_PATH, help="An access log whose misses are judged twice.")
@click.option("--against", type=_PATH, help="With --replay: the rules to compare with.")
@click.option("--format", "form", default="auto", show_default=True, help="With --replay: format of the log.")
@guarded
def command(
    words: tuple[str, ...],
    config: Path | None,
    as_json: bool,
    headers: tuple[str, ...],
    method: str,
    status: int,
    bucket: str | None,
    rules_file: Path | None,
    queued: bool,
    log_file: Path | None,
    against: Path | None,
    form: str,
) -> None:
    """Say which rule answers for URL and why the others do not, what the origin is asked, what is stored.

    URL is http://host/bucket/key?query, /bucket/key, or with --bucket only the path of the key. The bucket is
    found as the gateway finds it: in the host where gateway.domains or the bucket's hosts say so.
    """
    if log_file is not None and (against is None or words):
        raise click.UsageError("--replay takes --against FILE and no URL")
    if log_file is None and not 1 <= len(words) <= 2:
        raise click.UsageError("a URL, or --replay LOG --against FILE, is needed")
    # Rules that stand in a file need no running parts; `_ruleset` looks for those only where they are needed.
    settings = load(config, resolve=False, beside=True)
    if log_file is not None and against is not None:
        _print_replay(_replayed(settings, log_file, against, rules_file, bucket, form), as_json=as_json)
        return
    method = words[0] if len(words) > 1 else method
    name, facts = _facts(words[-1], settings, bucket, headers, method=method.upper(), status=status)
    ruleset = _ruleset(settings, rules_file, name)
    if ruleset is None:
        raise CommandFailed(f"bucket {name!r} has no rules")
    from scheduler.rules.trying.explain import explain

    found = explain(ruleset, name, facts, kind="event" if queued else "request")
    if as_json:
        echo_json(asdict(found))
    else:
        _print(found)


def _facts(
    url: str, settings: Settings, bucket: str | None, headers: tuple[str, ...], *, method: str, status: int
) -> tuple[str, RequestFacts]:
    """Bucket and facts of a URL as a client would write it."""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        msg = f"{url!r} is no URL: {error}"
        raise click.UsageError(msg) from error
    host = ""
    if parts.netloc:
        try:
            host = split_host(normalise_host(parts.netloc))[0]
        except HostError as error:
            raise click.UsageError(str(error)) from error
    pairs = [_header(text) for text in headers]
    host = next((value.partition(":")[0] for name, value in pairs if name.lower() == "host"), host)
    path = parts.path if parts.path.startswith("/") else f"/{parts.path}"
    raw_path = quote(path, safe="/%!$&'()*+,;=:@~").encode()
    address = BucketLookup.of(settings.gateway.domains, settings.buckets).find(host, raw_path)
    found = bucket or address.bucket
    try:
        named = client_path(raw_path, strip_bucket=bucket is None and address.path_style)
    except KeyRefused as error:
        raise CommandFailed(f"400 {error.code}: {error}") from error
    return found, RequestFacts(
        key=named.key,
        method=method,
        status=status,
        headers=tuple(pairs),
        host=host,
        scheme="https" if parts.scheme == "https" else "http" if parts.scheme == "http" else None,
        query=parts.query,
        leading_slashes=named.leading_slashes,
    )


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise click.UsageError(f"-H {text!r}: NAME: VALUE is needed")
    return name.strip(), value.strip()


def _ruleset(settings: Settings, rules_file: Path | None, bucket: str) -> RuleSet | None:
    """The rules of the file, of the configuration, or those in force."""
    from scheduler.commands.rule_files import open_repository, read_rules_file
    from scheduler.machine.embedded import resolve_running
    from scheduler.rules.in_force.apply import read_file_rules

    if rules_file is not None:
        found = read_rules_file(rules_file, settings, bucket)
        pair = found.get(bucket) or (next(iter(found.values())) if len(found) == 1 else None)
        if pair is None:
            raise ConfigError(f"{rules_file}: no rules for bucket {bucket}")
        return pair[0]

    async def in_force() -> RuleSet | None:
        async with open_repository(settings) as repository:
            return repository.snapshot(bucket)

    own = settings.buckets.get(bucket)
    if own is not None and own.rules is not None:
        return read_file_rules(settings)[0][bucket]
    if own is None and settings.buckets:
        listed = ", ".join(sorted(settings.buckets))
        raise ConfigError(f"bucket {bucket!r} is not in the configuration; there: {listed}")
    settings = resolve_running(settings)
    return run_async(in_force())


def _replayed(
    settings: Settings, log_file: Path, against: Path, rules_file: Path | None, bucket: str | None, form: str
) -> Replay:
    from scheduler.rules.trying.replay import Replay, replay

    total = Replay()
    by_bucket: dict[str, list[MissEvent]] = {}
    for event in _events(settings, log_file, bucket, form):
        by_bucket.setdefault(event.bucket, []).append(event)
    for name, events in sorted(by_bucket.items()):
        found = replay(_ruleset(settings, rules_file, name), _ruleset(settings, against, name), events)
        total.total += found.total
        total.same += found.same
        total.changes.update(found.changes)
        for change, examples in found.examples.items():
            total.examples.setdefault(change, []).extend(examples)
    return total


def _events(settings: Settings, log_file: Path, bucket: str | None, form: str) -> Iterator[MissEvent]:
    """The misses of a log, in any format that `ferryman consume` reads."""
    import gzip

    from scheduler.logs.filters import make_filter
    from scheduler.logs.formats.catalog import format_by_name
    from scheduler.logs.formats.detect import detect
    from scheduler.logs.formats.record import parse
    from scheduler.logs.place import Place
    from scheduler.misses.event import MissEvent

    only = bucket or (next(iter(settings.buckets)) if len(settings.buckets) == 1 else None)
    buckets = {name: found.hosts for name, found in settings.buckets.items()}
    wanted = make_filter(Place.of(buckets, bucket=only), methods=("GET", "HEAD"), deletes=False)
    opener = gzip.open if log_file.suffix == ".gz" else open
    with opener(log_file, "rb") as stream:
        line_format = format_by_name(form)
        if line_format is None:
            head = b"".join(line for _, line in zip(range(200), stream, strict=False))
            detected = detect(head)
            if detected is None:
                raise ConfigError(f"{log_file}: its format was not recognised; name it with --format")
            line_format = detected.format
            stream.seek(0)
        for line in stream:
            record = parse(line_format, line.rstrip(b"\r\n"))
            if record is not None and isinstance(event := wanted.judge(record), MissEvent):
                yield event


def _print(found: Explanation) -> None:
    say(f"{found.method} {found.key!r} in bucket {found.bucket}; the store answers {found.status}")
    say("rules, in order:")
    for verdict in found.rules:
        priority = "-" if verdict.priority is None else verdict.priority
        why = f"  because of {', '.join(verdict.reasons)}" if verdict.reasons else ""
        if verdict.verdict == "matched" and verdict.reasons:
            why = f", but {found.method} does not trigger it"
        state = verdict.verdict.replace("_", " ")
        say(f"  {_MARKS[verdict.verdict]} {verdict.name} (priority {priority}, {verdict.type}): {state}{why}")
    if found.url:
        say(f"origin URL: {found.url}")
    if found.candidates:
        say("candidates:")
    for candidate in found.candidates:
        credential = f", signed with {candidate.credential}" if candidate.credential else ""
        share = f", {candidate.share} % of picks" if candidate.role == "primary" else ""
        say(f"  group {candidate.group} {candidate.role}: {candidate.url}{share}{credential}")
    for title, pairs in (("headers sent", found.headers_sent), ("headers withheld", found.headers_withheld)):
        if pairs:
            say(f"{title}:")
        for name, value in pairs:
            say(f"  {name}: {value}")
    for title, lines in (("the client gets", found.client), ("is stored", found.stored)):
        say(f"{title}:")
        for line in lines:
            say(f"  {line}")
    if found.tag is not None:
        say(f"  x-oss-tag: {found.tag}")


def _print_replay(found: Replay, *, as_json: bool) -> None:
    rows = [
        {
            "before": before,
            "after": after,
            "count": count,
            "examples": [asdict(example) for example in found.examples[before, after]],
        }
        for (before, after), count in found.changes.most_common()
    ]
    if as_json:
        echo_json({"total": found.total, "same": found.same, "changes": rows})
        return
    say(f"{found.total} misses, {found.same} answered as before, {found.total - found.same} otherwise")
    for row in rows:
        say(f"{row['count']:>8}  {row['before']}  ->  {row['after']}")
        for example in _examples(row):
            say(f"          {example}")


def _examples(row: dict[str, Any]) -> Iterator[str]:
    for example in row["examples"]:
        before, after = example["before"]["url"] or "-", example["after"]["url"] or "-"
        yield f"{example['key']!r}: {before} -> {after}"
