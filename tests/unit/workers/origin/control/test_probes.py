"""Active probes: B10 as far as one process is concerned."""

from __future__ import annotations

import asyncio

import pytest

from workers.origin.control.probes import ActiveProbes


class Slot:
    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        return None


async def acquire(_host, _lane, *, timeout_s):
    return Slot()


async def test_b10_a_probe_url_that_does_not_answer_delays_no_other():
    """B10: every 10 s, also where many are dead."""
    probes = ActiveProbes(None, acquire, lambda: 0.0)
    urls = [f"http://o{number}.example/health" for number in range(20)]
    for url in urls:
        probes.name(url, trusted=False)
    asked = []
    everybody = asyncio.Event()

    async def probe(url, *, trusted):
        asked.append(url)
        if len(asked) == len(urls):
            everybody.set()
        await everybody.wait()
        return False

    async with asyncio.timeout(1.5):
        await probes.once(probe)
    assert sorted(asked) == sorted(urls)


async def test_b10_three_bad_answers_put_the_standby_first_and_two_good_ones_restore():
    """B10."""
    probes = ActiveProbes(None, acquire, lambda: 0.0)
    url = "http://o.example/health"
    probes.name(url, trusted=False)
    answers = [False, False, False, True, False, True, True]
    turns = [False, False, True, True, True, True, False]
    for good, down in zip(answers, turns, strict=True):

        async def probe(_url, *, trusted, good=good):
            return good

        await probes.once(probe)
        assert (url in probes.down) is down


@pytest.mark.parametrize("named_at", [0.0, 1000.0])
async def test_a_probe_url_that_no_plan_names_any_more_is_forgotten(named_at):
    now = 0.0
    probes = ActiveProbes(None, acquire, lambda: now)
    probes.name("http://old.example/", trusted=False)
    now = named_at
    probes.name("http://new.example/", trusted=False)
    now = 700.0
    asked = []

    async def probe(url, *, trusted):
        asked.append(url)
        return True

    await probes.once(probe)
    assert asked == ([] if named_at == 0.0 else ["http://new.example/"])


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://O.example/health", "o.example"),
        ("http://o.example:80/health", "o.example"),
        ("https://o.example:443?x", "o.example"),
        ("https://o.example:8443/health", "o.example:8443"),
        ("ftp://o.example/", None),
    ],
)
async def test_l15_a_probe_spends_the_budget_of_the_host_as_rules_name_it(url, host):
    """L15, B10: budgets are by host, default port dropped; a URL that is none is no good answer."""
    taken = []

    async def remember(host, _lane, *, timeout_s):
        taken.append(host)
        return Slot()

    async def probe(_url, *, trusted):
        return True

    probes = ActiveProbes(None, remember, lambda: 0.0)
    probes.name(url, trusted=False)
    await probes.once(probe)
    assert taken == ([] if host is None else [host])
