"""TLS towards origins: verification, SNI, client certificates, downgrades, the inspection of an origin."""

import ssl

import pytest

from support.certificates import Authority
from support.origin.chaos import ChaosOrigin
from support.origin.fetching import QUICK, FakeResolver, plan_for, rig
from workers.errors import OriginsExhausted, OriginUnreachable, RedirectRefused
from workers.origin.fetch.inspect import inspect_origin, is_well
from workers.plan import FetchPlan, Origin, OriginGroup, RedirectPolicy
from workers.settings import CredentialSettings, OriginSettings


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    """A private authority with a server certificate for localhost and 127.0.0.1, and one for a client."""
    authority = Authority(tmp_path_factory.mktemp("pki"))
    authority.issue("client")
    authority.issue("server")
    return authority.folder


@pytest.fixture
def server_tls(pki):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pki / "server.pem", pki / "server.key")
    return context


def secure(host, *, credential=None, **kwargs):
    origin = Origin(host=host, scheme="https", credential=credential)
    values = {"trusted_hosts": True, "timeouts": QUICK, **kwargs}
    return FetchPlan(bucket="b", rule="r", groups=(OriginGroup(primary=origin),), **values)


async def test_a_certificate_of_a_configured_authority_is_accepted_and_others_are_not(pki, server_tls):
    async with ChaosOrigin(tls=server_tls) as origin:
        async with rig(OriginSettings(ca_file=pki / "ca.pem")) as one:
            assert (await one.get(secure(origin.host), "ok/x")).body == origin.body("/x")
        async with rig() as one:
            with pytest.raises(OriginsExhausted) as caught:
                await one.get(secure(origin.host), "ok/x")
            assert isinstance(caught.value.last, OriginUnreachable)
        async with rig(OriginSettings(verify_tls=False)) as one:
            assert (await one.get(secure(origin.host), "ok/x")).body


@pytest.mark.parametrize("sni", [True, False])
async def test_the_name_is_sent_and_checked_or_only_checked(pki, server_tls, sni):
    """F19."""
    names = []
    server_tls.sni_callback = lambda _socket, name, _context: names.append(name)
    async with ChaosOrigin(host="localhost", tls=server_tls) as origin:
        async with rig(OriginSettings(ca_file=pki / "ca.pem")) as one:
            got = await one.get(secure(f"localhost:{origin.port}", sni=sni), "ok/x")
            assert got.body == origin.body("/x")
        assert names == (["localhost"] if sni else [None])


async def test_a_wrong_name_is_refused_also_where_no_sni_is_sent(pki, server_tls):
    """F19: without SNI the certificate is still somebody's."""
    resolver = FakeResolver({"other.example": [["127.0.0.1"]]})
    async with ChaosOrigin(tls=server_tls) as origin:
        for sni in (True, False):
            async with rig(OriginSettings(ca_file=pki / "ca.pem"), resolver=resolver) as one:
                with pytest.raises(OriginsExhausted) as caught:
                    await one.get(secure(f"other.example:{origin.port}", sni=sni), "ok/x")
                assert isinstance(caught.value.last, OriginUnreachable)
        assert origin.count() == 0


async def test_what_tls_is_verified_with_is_loaded_for_origins_that_speak_it_and_for_no_others(
    pki, server_tls, monkeypatch
):
    """Loading it keeps every client of the process waiting."""
    loaded = []
    load = ssl.create_default_context
    monkeypatch.setattr(
        ssl, "create_default_context", lambda **kwargs: loaded.append(kwargs) or load(**kwargs)
    )
    async with ChaosOrigin() as plain, ChaosOrigin(tls=server_tls) as behind:
        async with rig(OriginSettings(ca_file=pki / "ca.pem")) as one:
            plan = plan_for(plain.host)
            assert (await one.get(plan, "ok/x")).body == plain.body("/x")
            assert loaded == []
            assert (await one.get(secure(behind.host), "ok/x")).body == behind.body("/x")
            assert [kwargs["cafile"] for kwargs in loaded] == [pki / "ca.pem"]
        async with rig() as one:
            with pytest.raises(OriginsExhausted) as caught:
                await one.get(secure(behind.host), "ok/x")
            assert isinstance(caught.value.last, OriginUnreachable)


async def test_a_client_certificate_is_shown_only_by_the_plan_that_names_it(pki, server_tls):
    """F27."""
    server_tls.verify_mode = ssl.CERT_REQUIRED
    server_tls.load_verify_locations(pki / "ca.pem")
    settings = OriginSettings(
        ca_file=pki / "ca.pem",
        credentials={
            "me": CredentialSettings(
                type="client_certificate",
                certificate_file=pki / "client.pem",
                key_file=pki / "client.key",
            )
        },
    )
    async with ChaosOrigin(tls=server_tls) as origin, rig(settings) as one:
        assert (await one.get(secure(origin.host, credential="me"), "ok/x")).body
        with pytest.raises(OriginsExhausted) as caught:
            await one.get(secure(origin.host), "ok/x")
        assert isinstance(caught.value.last, OriginUnreachable)


async def test_a_downgrade_to_http_is_refused_unless_allowed(pki, server_tls, chaos):
    """F56."""
    settings = OriginSettings(ca_file=pki / "ca.pem", allow_networks=("127.0.0.0/8",))
    async with ChaosOrigin(tls=server_tls) as origin, rig(settings) as one:
        origin.script("/x", f"redirect,to={chaos.url('/ok/x')}")
        with pytest.raises(OriginsExhausted) as caught:
            await one.get(secure(origin.host), "x")
        assert isinstance(caught.value.last, RedirectRefused)
        assert chaos.count() == 0
        allowing = secure(origin.host, redirects=RedirectPolicy(allow_downgrade=True))
        assert (await one.get(allowing, "x")).body == chaos.body("/x")


async def test_an_inspection_says_what_an_origin_offers(pki, server_tls):
    """Issue: `ferryman origins probe URL`."""
    settings = OriginSettings(ca_file=pki / "ca.pem")
    async with ChaosOrigin(tls=server_tls) as origin, rig(settings) as one:
        origin.put("/img/a.jpg", b"picture")
        report = await inspect_origin(one.client, one.control, origin.url("/img/a.jpg"), trusted=True)
    assert report.reachable
    assert (report.status, report.length, report.framing) == (200, 7, "length")
    assert (report.ranges, report.head, report.missing_status, report.soft_404) == ("bytes", True, 404, False)
    assert report.validator
    assert report.tls
    assert report.problems == ("no digest is offered",)


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("close/x", "Content-Length"),
        ("no_range/x", "ranges are ignored"),
        ("error_page/x", "nobody has gets 200"),
        ("gzip_unasked/x", "gzip-encoded"),
        ("status,code=503/x", "answers 503"),
        ("hangup/x", "without an answer"),
    ],
)
async def test_an_inspection_names_what_stands_in_the_way(chaos, path, word):
    async with rig() as one:
        report = await inspect_origin(one.client, one.control, chaos.url("/" + path), trusted=True)
    assert any(word in problem for problem in report.problems), report.problems


async def test_an_inspection_names_a_head_that_denies_what_get_gives(chaos):
    chaos.put("/k", b"x")
    chaos.script("/k", "ok", "status,code=404", "ok")
    async with rig() as one:
        report = await inspect_origin(one.client, one.control, chaos.url("/k"), trusted=True)
    assert report.head is False
    assert any("HEAD denies what GET gives" in problem for problem in report.problems), report.problems


async def test_an_inspection_of_an_untrusted_private_address_reaches_nobody(chaos):
    async with rig() as one:
        report = await inspect_origin(one.client, one.control, chaos.url("/ok/x"), trusted=False)
    assert not report.reachable
    assert "loopback" in report.problems[0]
    assert chaos.count() == 0


async def test_a_probe_url_is_well_with_2xx_or_3xx_in_time(chaos):
    """B10."""
    async with rig() as one:
        for path, well in (("ok/x", True), ("redirect/x", True), ("status/x", False), ("nothing", False)):
            assert await is_well(one.client, chaos.url("/" + path), True) is well
        assert not await is_well(one.client, "http://127.0.0.1:1/", trusted=True)
        assert not await is_well(one.client, "gopher://x/", trusted=True)


async def test_a_plain_plan_still_works_beside_tls(chaos):
    async with rig() as one:
        assert (await one.get(plan_for(chaos), "ok/x")).body == chaos.body("/x")
