"""Which addresses may be connected to (B11)."""

import asyncio
import errno
import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.origin.wire.addresses import Kind, kind_of
from workers.origin.wire.dial import Dial
from workers.origin.wire.guard import Guard, current_dial, is_local_address

NOTHING = Guard.of([])


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("8.8.8.8", Kind.PUBLIC),
        ("2606:4700::1111", Kind.PUBLIC),
        ("127.0.0.1", Kind.LOOPBACK),
        ("127.255.0.9", Kind.LOOPBACK),
        ("::1", Kind.LOOPBACK),
        ("10.0.0.1", Kind.PRIVATE),
        ("172.16.0.1", Kind.PRIVATE),
        ("192.168.1.1", Kind.PRIVATE),
        ("100.64.0.1", Kind.PRIVATE),
        ("198.18.0.1", Kind.PRIVATE),
        ("240.0.0.1", Kind.PRIVATE),
        ("fc00::1", Kind.PRIVATE),
        ("fec0::1", Kind.PRIVATE),
        ("169.254.1.1", Kind.LINK_LOCAL),
        ("fe80::1", Kind.LINK_LOCAL),
        ("169.254.169.254", Kind.METADATA),
        ("100.100.100.200", Kind.METADATA),
        ("168.63.129.16", Kind.METADATA),
        ("fd00:ec2::254", Kind.METADATA),
        ("0.0.0.0", Kind.UNSPECIFIED),
        ("0.1.2.3", Kind.UNSPECIFIED),
        ("::", Kind.UNSPECIFIED),
        ("224.0.0.1", Kind.MULTICAST),
        ("255.255.255.255", Kind.MULTICAST),
        ("ff02::1", Kind.MULTICAST),
        ("::ffff:127.0.0.1", Kind.LOOPBACK),
        ("::ffff:169.254.169.254", Kind.METADATA),
        ("::ffff:8.8.8.8", Kind.PUBLIC),
        ("2002:7f00:1::", Kind.LOOPBACK),
        ("64:ff9b::a00:1", Kind.PRIVATE),
        ("64:ff9b::169.254.169.254", Kind.METADATA),
        ("::127.0.0.1", Kind.LOOPBACK),
        ("::ffff:0:127.0.0.1", Kind.LOOPBACK),
        ("::ffff:0:169.254.169.254", Kind.METADATA),
        ("64:ff9b::808:808", Kind.PUBLIC),
        ("64:ff9b:1::808:808", Kind.PRIVATE),
        ("192.0.0.8", Kind.PRIVATE),
        ("192.0.0.192", Kind.METADATA),
        ("192.88.99.1", Kind.PRIVATE),
        ("3fff::1", Kind.PRIVATE),
        ("5f00::1", Kind.PRIVATE),
    ],
)
def test_an_address_is_what_it_leads_to(address, kind):
    assert kind_of(ipaddress.ip_address(address)) is kind


@pytest.mark.parametrize("kind_and_address", [(Kind.LOOPBACK, "127.0.0.1"), (Kind.PRIVATE, "10.1.2.3")])
def test_loopback_and_private_are_for_configured_hosts_only(kind_and_address):
    kind, address = kind_and_address
    assert NOTHING.refusal(address, 80, configured=True) is None
    refused = NOTHING.refusal(address, 80, configured=False)
    assert refused is not None
    assert refused.kind is kind


@pytest.mark.parametrize(
    "address", ["169.254.169.254", "169.254.7.7", "fe80::1%eth0", "224.0.0.1", "0.0.0.0", "100.100.100.200"]
)
def test_link_local_metadata_and_the_like_always_need_allow_networks(address):
    assert NOTHING.refusal(address, 80, configured=True) is not None
    allowed = Guard.of([str(ipaddress.ip_network(address.partition("%")[0]))])
    assert allowed.refusal(address, 80, configured=False) is None


def test_allow_networks_also_covers_mapped_addresses():
    assert Guard.of(["10.0.0.0/8"]).refusal("::ffff:10.2.3.4", 80, configured=False) is None


@pytest.mark.parametrize(
    ("own", "address", "port", "is_own"),
    [
        (("127.0.0.1", 8080), "127.0.0.1", 8080, True),
        (("localhost", 8080), "127.0.0.1", 8080, True),
        (("127.0.0.1", 8080), "127.0.0.1", 8081, False),
        (("0.0.0.0", 8080), "127.0.0.1", 8080, True),
        (("0.0.0.0", 8080), "192.0.2.1", 8080, False),
        (("127.0.0.1", 8080), "::ffff:127.0.0.1", 8080, True),
        (("127.0.0.1", 8080), "0.0.0.0", 8080, True),
        (("203.0.113.9", 80), "203.0.113.9", 80, True),
    ],
)
def test_our_own_listeners_are_recognised_even_where_everything_is_allowed(own, address, port, is_own):
    guard = Guard.of(["0.0.0.0/0", "::/0"], [own])
    refused = guard.refusal(address, port, configured=True)
    assert (refused is not None and refused.kind is Kind.OWN) is is_own


def test_a_listener_on_every_address_covers_the_addresses_of_this_machine():
    guard = Guard.of(["0.0.0.0/0"], [("0.0.0.0", 80)])
    assert guard.refusal("198.51.100.7", 80, configured=True, is_local=lambda _: True) is not None
    assert guard.refusal("198.51.100.7", 80, configured=True, is_local=lambda _: False) is None


@given(st.ip_addresses())
def test_every_address_gets_a_verdict_and_untrusted_hosts_reach_public_ones_only(address):
    refused = NOTHING.refusal(str(address), 80, configured=False)
    assert (refused is None) == (kind_of(address) is Kind.PUBLIC)


async def test_the_socket_factory_makes_no_socket_for_a_refused_address():
    make = NOTHING.socket_factory(configured=False)
    dial = Dial(0.0, asyncio.get_running_loop())
    token = current_dial.set(dial)
    try:
        with pytest.raises(OSError, match="loopback") as caught:
            make((socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 80)))
    finally:
        current_dial.reset(token)
    assert caught.value.errno == errno.EACCES
    assert [one.kind for one in dial.refusals] == [Kind.LOOPBACK]
    with NOTHING.socket_factory(configured=True)(
        (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 80))
    ) as made:
        assert made.family is socket.AF_INET


def test_this_machines_addresses_are_told_from_others():
    assert is_local_address("127.0.0.1")
    assert not is_local_address("192.0.2.1")
