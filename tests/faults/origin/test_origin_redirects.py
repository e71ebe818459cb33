"""Redirects, the address guard, loops and leaks, against real sockets."""

import pytest
from pydantic import SecretStr

from scheduler.config.ports import free_ports
from support.origin.chaos import ChaosOrigin
from support.origin.fetching import QUICK, FakeResolver, plan_for, rig
from workers.errors import (
    AddressRefused,
    CredentialMissing,
    OriginLoop,
    OriginsExhausted,
    OriginUnreachable,
    RedirectRefused,
)
from workers.origin.fetch.fetcher import PassedRedirect
from workers.plan import FetchItem, FetchPlan, Lane, Origin, OriginGroup, RedirectPolicy
from workers.settings import CredentialSettings, OriginSettings

LOOPBACK = OriginSettings(allow_networks=("127.0.0.0/8",))


def named(host, **kwargs):
    return FetchPlan(
        bucket="b",
        rule="r",
        groups=(OriginGroup(primary=Origin(host=host, scheme="http")),),
        timeouts=QUICK,
        **kwargs,
    )


async def failing(one, plan, path="ok/x", **kwargs):
    with pytest.raises(OriginsExhausted) as caught:
        await one.get(plan, path, **kwargs)
    return caught.value.last


# ---------------------------------------------------------------- redirects


async def test_redirects_are_followed_to_the_last_hop(chaos):
    """A7, L11."""
    async with rig() as one:
        got = await one.get(plan_for(chaos), "redirect_chain,n=10,size=100/x")
        assert got.body == chaos.body("/x", 100)
        assert got.answer.url == chaos.url("/redirect_chain%2Cn=10,size=100/x").replace("%2C", ",")
        assert chaos.count() == 11
        assert isinstance(await failing(one, plan_for(chaos), "redirect_chain,n=11/x"), RedirectRefused)


@pytest.mark.parametrize(
    "path",
    [
        "redirect_loop/x",
        "redirect_endless/x",
        "redirect_bad/x",
        "redirect_bad,kind=scheme/x",
        "redirect_bad,kind=userinfo/x",
        "redirect_bad,kind=empty/x",
    ],
)
async def test_a_redirect_that_leads_nowhere_ends_the_fetch_without_blaming_the_host(chaos, path):
    """A7 as A9, B4: no switch."""
    async with rig() as one, ChaosOrigin() as standby:
        last = await failing(one, plan_for(chaos, standbys=[standby]), path)
        assert isinstance(last, RedirectRefused)
        assert standby.count() == 0
        assert one.control.health.usable(chaos.host)
    assert chaos.count() <= 11


async def test_p11_a_location_reaches_the_next_hop_byte_for_byte(chaos):
    """P11."""
    async with rig() as one:
        await one.get(plan_for(chaos), "redirect_odd/x")
    assert chaos.asked()[-1].target == "/ok/a%2Bb%2fc%7Ed+e/f%20g?X-Sig=ab%2Bcd%2f%3D&x=1+2&empty=&%7e=~"


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
async def test_every_followable_status_is_followed(chaos, code):
    async with rig() as one:
        assert (await one.get(plan_for(chaos), f"redirect,code={code}/x")).body == chaos.body("/x")


@pytest.mark.parametrize(("code", "follow"), [(302, False), (308, False), (300, False)])
async def test_a_redirect_is_passed_on_where_the_rule_says_so(chaos, code, follow):
    """A8."""
    plan = plan_for(chaos, redirects=RedirectPolicy(follow=follow))
    async with rig() as one:
        got = await one.get(plan, f"redirect_odd,code={code}/x")
    assert isinstance(got.answer, PassedRedirect)
    assert got.answer.status == code
    assert got.answer.location.startswith("/ok/a%2Bb%2fc%7Ed+e/f%20g?")
    assert chaos.count() == 1


@pytest.mark.parametrize("code", [300, 304, 305])
async def test_a_3xx_that_nobody_can_follow_is_a_failure_like_any_other_status(chaos, code):
    """A9: a worker lists it, and does not skip it."""
    async with rig() as one:
        with pytest.raises(OriginsExhausted) as caught:
            await one.get(plan_for(chaos), f"status,code={code}/x")
    assert (caught.value.status, caught.value.last.reason, caught.value.retryable) == (
        code,
        "origin_status",
        True,
    )


async def test_p12_nothing_that_identifies_us_reaches_another_host(chaos):
    """P12, H10, F27."""
    settings = OriginSettings(
        allow_networks=("127.0.0.0/8",),
        credentials={"c": CredentialSettings(type="bearer", token=SecretStr("t0ps3cret"))},
    )
    async with rig(settings) as one, ChaosOrigin() as other:
        chaos.script("/x", f"redirect,to=http://{other.host}/ok/x")
        plan = FetchPlan(
            bucket="b",
            rule="r",
            groups=(OriginGroup(primary=Origin(host=chaos.host, scheme="http", credential="c")),),
            trusted_hosts=True,
            timeouts=QUICK,
            headers=(("Cookie", "session=1"), ("X-Token", "p"), ("Accept-Language", "en")),
            new_headers=(("X-Key", "k"), ("Host", "virtual.example"), ("Authorization", "other")),
        )
        await one.get(plan, "x")
        [first] = chaos.asked()
        assert first.header("cookie") == "session=1"
        assert first.header("x-key") == "k"
        assert first.header("host") == "virtual.example"
        [second] = other.asked()
        for name in ("cookie", "x-token", "x-key", "authorization"):
            assert second.header(name) is None
        assert second.header("host") == other.host
        assert second.header("accept-language") == "en"
        assert "t0ps3cret" not in str(second.headers)
        # F17 sends headers again, never what authenticates.
        other.forget()
        resending = FetchPlan(
            bucket="b",
            rule="r",
            groups=plan.groups,
            trusted_hosts=True,
            timeouts=QUICK,
            headers=plan.headers,
            new_headers=plan.new_headers,
            redirects=RedirectPolicy(resend_headers=True),
        )
        await one.get(resending, "x")
        [second] = other.asked()
        assert second.header("x-key") == "k"
        assert second.header("cookie") == "session=1"
        assert second.header("authorization") is None
        assert second.header("host") == other.host


async def test_what_left_once_does_not_come_back_by_a_detour(chaos):
    """H10: back on the first host, the credential stays away."""
    settings = OriginSettings(
        allow_networks=("127.0.0.0/8",),
        credentials={"c": CredentialSettings(type="basic", username="u", password=SecretStr("p"))},
    )
    async with rig(settings) as one, ChaosOrigin() as other:
        chaos.script("/x", f"redirect,to=http://{other.host}/back")
        other.script("/back", f"redirect,to=http://{chaos.host}/ok/x")
        plan = FetchPlan(
            bucket="b",
            rule="r",
            groups=(OriginGroup(primary=Origin(host=chaos.host, scheme="http", credential="c")),),
            trusted_hosts=True,
            timeouts=QUICK,
        )
        await one.get(plan, "x")
        assert [entry.header("authorization") for entry in chaos.asked()] == ["Basic dTpw", None]


async def test_a_redirect_within_the_host_keeps_credentials_and_signs_anew(chaos):
    """F27."""
    settings = OriginSettings(
        credentials={
            "s": CredentialSettings(type="s3v4", access_key_id="AK", secret_access_key=SecretStr("SK"))
        }
    )
    plan = FetchPlan(
        bucket="b",
        rule="r",
        groups=(OriginGroup(primary=Origin(host=chaos.host, scheme="http", credential="s")),),
        trusted_hosts=True,
        timeouts=QUICK,
    )
    async with rig(settings) as one:
        await one.get(plan, "redirect/x")
    first, second = (entry.header("authorization") for entry in chaos.asked())
    assert first.startswith("AWS4-HMAC-SHA256 Credential=AK/")
    assert second.startswith("AWS4-HMAC-SHA256 Credential=AK/")
    assert first != second


async def test_a_credential_that_is_not_configured_is_a_failure_with_its_name(chaos):
    plan = FetchPlan(
        bucket="b",
        rule="r",
        groups=(OriginGroup(primary=Origin(host=chaos.host, scheme="http", credential="gone")),),
        trusted_hosts=True,
    )
    async with rig() as one:
        last = await failing(one, plan)
    assert isinstance(last, CredentialMissing)
    assert chaos.count() == 0


async def test_cookies_of_an_origin_are_not_kept(chaos):
    async with rig() as one:
        await one.get(plan_for(chaos), "set_cookie/x")
    assert [entry.header("cookie") for entry in chaos.asked()] == [None, None]


async def test_no_proxy_of_the_environment_is_used(chaos, monkeypatch):
    """B11: `trust_env` off."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    async with rig() as one:
        assert (await one.get(plan_for(chaos), "ok/x")).body == chaos.body("/x")


async def test_a_redirect_takes_the_slot_of_the_host_that_serves_the_bytes(chaos):
    """L15, guarantee 5."""
    async with rig(LOOPBACK) as one, ChaosOrigin() as other:
        chaos.script("/x", f"redirect,to=http://{other.host}/ok/x")
        await one.get(plan_for(chaos), "x")
        assert [host for host, _ in one.control.slots] == [chaos.host, other.host]


# ---------------------------------------------------------------- guard


async def test_hosts_of_the_configuration_may_be_loopback_and_others_may_not(chaos):
    """B11."""
    async with rig() as one:
        assert (await one.get(plan_for(chaos), "ok/x")).body
        last = await failing(one, plan_for(chaos, trusted_hosts=False))
        assert isinstance(last, AddressRefused)
        assert "loopback" in str(last)
    assert chaos.count() == 1
    async with rig(LOOPBACK) as one:
        assert (await one.get(plan_for(chaos, trusted_hosts=False), "ok/x")).body


@pytest.mark.parametrize("path", ["redirect_metadata/x", "redirect_private/x"])
async def test_a_redirect_to_metadata_or_a_private_address_is_refused(chaos, path):
    """B11; issue: redirect to metadata address."""
    async with rig() as one:
        assert isinstance(await failing(one, plan_for(chaos), path), AddressRefused)
    assert chaos.count() == 1


async def test_a_redirect_target_counts_as_unconfigured_unless_the_plan_names_it(chaos):
    """B11."""
    async with rig() as one, ChaosOrigin() as other:
        chaos.script("/x", f"redirect,to=http://{other.host}/ok/x")
        assert isinstance(await failing(one, plan_for(chaos), "x"), AddressRefused)
        assert other.count() == 0
        assert (await one.get(plan_for(chaos, standbys=[other]), "x")).body == other.body("/x")


async def test_a_pooled_connection_of_a_trusted_plan_is_not_lent_to_an_untrusted_one(chaos):
    """B11."""
    async with rig() as one:
        await one.get(plan_for(chaos), "ok/x")
        assert isinstance(await failing(one, plan_for(chaos, trusted_hosts=False)), AddressRefused)
    assert chaos.count() == 1


async def test_a_name_that_resolves_to_a_private_address_is_refused(chaos):
    """B11: the address counts, not the name."""
    resolver = FakeResolver({"evil.example": [["127.0.0.1"]]})
    async with rig(resolver=resolver) as one:
        last = await failing(one, named(f"evil.example:{chaos.port}"))
        assert isinstance(last, AddressRefused)
    assert chaos.count() == 0


async def test_dns_rebinding_meets_the_guard_at_every_connection(chaos):
    """B11: a good address at the first lookup earns nothing at the second."""
    resolver = FakeResolver({"rebind.example": [["127.0.0.1"], ["169.254.169.254"]]})
    async with rig(OriginSettings(allow_networks=("127.0.0.0/8",)), resolver=resolver) as one:
        plan = named(f"rebind.example:{chaos.port}")
        assert (await one.get(plan, "close/x")).body == chaos.body("/x")
        for pool in one.client._pools.values():
            pool.connector.clear_dns_cache()
        assert isinstance(await failing(one, plan, "close/x"), AddressRefused)
    assert resolver.asked == ["rebind.example", "rebind.example"]
    assert chaos.count() == 1


async def test_of_several_addresses_only_the_allowed_ones_are_connected_to(chaos):
    """B11."""
    resolver = FakeResolver({"mixed.example": [["10.0.0.1", "127.0.0.1"]]})
    async with rig(LOOPBACK, resolver=resolver) as one:
        assert (await one.get(named(f"mixed.example:{chaos.port}"), "ok/x")).body == chaos.body("/x")


@pytest.mark.parametrize("host", ["2130706433", "127.1", "0x7f.1", "0177.0.0.1"])
async def test_odd_spellings_of_an_address_do_not_pass(chaos, host):
    """B11: literals included."""
    async with rig(resolver=FakeResolver({})) as one:
        await failing(one, named(f"{host}:{chaos.port}"))
    assert chaos.count() == 0


async def test_an_origin_that_resolves_to_our_own_listener_is_a_loop(chaos):
    """H11; the seed's warning: the name was already moved to the new store."""
    async with rig(listeners=[("0.0.0.0", chaos.port)]) as one:
        with pytest.raises(OriginLoop, match="already moved"):
            await one.get(plan_for(chaos), "ok/x")
        assert one.control.bad == []
    assert chaos.count() == 0


async def test_a_public_name_of_ours_is_a_loop_before_anybody_is_asked():
    resolver = FakeResolver({})
    async with rig(public_hosts=["files.example.com"], resolver=resolver) as one:
        with pytest.raises(OriginLoop, match="public name"):
            await one.get(named("files.example.com"), "x")
    assert resolver.asked == []


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ([("X-Ferryman-Hop", "me")], b""),
        ([("Content-Type", "application/xml")], b"<Error><Code>LoopDetected</Code></Error>"),
    ],
)
async def test_the_508_of_our_own_gateway_is_a_loop(chaos, headers, body):
    """H11."""
    from scheduler.chaos.behaviour import Behaviour
    from scheduler.chaos.catalogue import CATALOGUE

    async def run(ex):
        await ex.head(508, [*headers, ("Content-Length", str(len(body)))])
        await ex.raw(body)

    chaos.server._behaviours = {
        **CATALOGUE,
        "loop": Behaviour(name="loop", summary="", params={}, run=run),
    }
    async with rig() as one:
        with pytest.raises(OriginLoop):
            await one.get(plan_for(chaos), "loop/x")
        # Shared hosts answer 508 when they are out of resources.
        last = await failing(one, plan_for(chaos), "status,code=508/x")
        assert last.status == 508


async def test_a_name_without_an_address_and_a_closed_port_are_unreachable():
    async with rig(resolver=FakeResolver({"gone.example": [["127.0.0.1"]]})) as one:
        assert isinstance(await failing(one, named("none.example")), OriginUnreachable)
        (port,) = free_ports(1)
        last = await failing(one, named(f"127.0.0.1:{port}", trusted_hosts=True))
        assert isinstance(last, OriginUnreachable)


async def test_the_path_of_an_item_is_asked_for_as_it_is(chaos):
    """U32, U34, P13: nothing is normalised or quoted again."""
    async with rig() as one:
        for path in ("a//b.txt", "//destfolder/x", "a/%2e/b", "q%3F1%232.txt", "a%2520b", "%E4%B8%AD"):
            item = FetchItem(key="k", path=path, query="x=%2f+%20")
            async with one.fetcher.session(plan_for(chaos), item, lane=Lane.HOT) as session:
                await session.open()
            assert chaos.asked()[-1].target == f"/{path}?x=%2f+%20"
