"""Matching and planning: microseconds a request with 100 rules (target: at most 25).

    python bench/rules.py [--requests N]

Prints one row a shape of rule set: `match` and `plan` together, in processor time, best of seven rounds.
"""

from __future__ import annotations

import argparse
import time

from scheduler.rules.matching import RequestFacts, match
from scheduler.rules.model import (
    Header,
    HeaderTest,
    HeaderTestKind,
    HostGroup,
    OriginHost,
    OriginPart,
    Path,
    Request,
    Rule,
    RuleSet,
    When,
)
from scheduler.rules.planning import plan

RULES = 100
TARGET_US = 25.0
HEADERS = (
    ("Host", "cdn.example"), ("User-Agent", "Mozilla/5.0"), ("Accept", "image/avif,image/webp,*/*"),
    ("Accept-Language", "en"), ("Accept-Encoding", "gzip"), ("Referer", "https://cdn.example/"),
    ("Cookie", "session=1"), ("X-Request-Id", "abc"),
)  # fmt: skip
HOSTS = (
    HostGroup(primary=OriginHost(host="a.example"), weight=8, standbys=(OriginHost(host="b.example"),)),
    HostGroup(primary=OriginHost(host="c.example"), weight=2),
)


def rule_set(shape: str) -> RuleSet:
    """100 rules of one shape."""
    tests = (HeaderTest(name="X-Absent", kind=HeaderTestKind.EQUALS, value="1"),)
    rules = []
    for n in range(RULES):
        last = n == RULES - 1
        when = {
            "prefixes": When(prefix=f"{'deep/' * (n % 5)}dir{n}/"),
            "suffixes": When(suffix="" if last else f".x{n}"),
            "headers": When(headers=() if last else tests),
        }[shape.partition("+")[0]]
        passes = "passing" in shape
        rules.append(
            Rule(
                name=f"rule-{n}",
                priority=n + 1,
                when=when,
                request=Request(
                    protocol="https",
                    follow_query="query" in shape,
                    pass_=("Accept", "Accept-Language") if passes else (),
                    new=(Header(name="X-Key", value="v"),),
                ),
                path=Path(add_prefix="old/") if "rewriting" in shape else Path(),
                origin=OriginPart(hosts=HOSTS),
            )
        )
    return RuleSet(bucket="b", rules=tuple(rules))


def measure(shape: str, requests: int) -> float:
    """Microseconds a request."""
    rules = rule_set(shape)
    facts = [
        RequestFacts(
            key=f"{'deep/' * (n % 5)}dir{n % RULES}/2026/photo {n} of somebody.jpg",
            headers=HEADERS,
            scheme="https",
            query="v=1&w=200",
        )
        for n in range(1000)
    ]
    best = float("inf")
    for _ in range(7):
        began = time.process_time()
        for n in range(requests):
            one = facts[n % 1000]
            rule = match(rules, one)
            if rule is not None:
                plan(rule, rules, "b", one)
        best = min(best, time.process_time() - began)
    return best / requests * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=5_000)
    arguments = parser.parse_args()
    print(f"match + plan, {RULES} rules, {arguments.requests} requests, best of 7; target {TARGET_US} us")
    for shape in (
        "prefixes",
        "prefixes+query",
        "prefixes+rewriting",
        "prefixes+passing",
        "suffixes",
        "headers",
    ):
        taken = measure(shape, arguments.requests)
        print(f"{shape:<20} {taken:8.1f} us  {'ok' if taken <= TARGET_US else 'ABOVE THE TARGET'}")


if __name__ == "__main__":
    main()
