"""Ports of servers that this machine starts."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from scheduler.config import ports
from scheduler.config.data_dir import read_json
from scheduler.config.ports import choose_ports, free_ports
from workers.errors import ConfigError


def test_ports_are_remembered_while_they_are_free(tmp_path):
    first = choose_ports(tmp_path, ["a", "b", "c"])
    assert len(set(first.values())) == 3
    assert choose_ports(tmp_path, ["a", "b", "c"]) == first


def test_a_remembered_port_that_is_taken_is_replaced_and_the_others_stay(tmp_path):
    first = choose_ports(tmp_path, ["a", "b"])
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", first["a"]))
        taken.listen()
        second = choose_ports(tmp_path, ["a", "b"])
    assert second["a"] != first["a"]
    assert second["b"] == first["b"]
    assert read_json(tmp_path / "ports.json") == second


@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_broken_file_is_told_with_its_remedy(tmp_path, text):
    (tmp_path / "ports.json").write_text(text)
    with pytest.raises(ConfigError, match="delete it"):
        choose_ports(tmp_path, ["a"])


def test_no_outgoing_connection_can_come_by_a_port_that_was_chosen():
    first, last = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    chosen = free_ports(50)
    assert len(set(chosen)) == 50
    assert not [port for port in chosen if first <= port <= last]


@pytest.mark.parametrize(
    ("outgoing", "lowest", "highest"),
    [
        ("32768\t60999\n", 15_000, 29_999),
        ("10000 60999", 1024, 9_999),
        ("1024 65000", 65_001, 65_535),
        ("damaged", 15_000, 29_999),
    ],
)
def test_ports_lie_outside_of_what_the_kernel_hands_out(tmp_path, monkeypatch, outgoing, lowest, highest):
    (tmp_path / "range").write_text(outgoing)
    monkeypatch.setattr(ports, "_OUTGOING", tmp_path / "range")
    assert all(lowest <= port <= highest for port in free_ports(20))


def test_where_every_port_of_the_range_is_taken_the_kernel_chooses(monkeypatch):
    (port,) = free_ports(1)
    monkeypatch.setattr(ports, "_range", lambda: (port, port))
    one, two = free_ports(2)
    assert one == port
    assert two not in {0, port}
