"""Ports that a server can come back to."""

import socket
from random import Random

import pytest

from custody.app.demo import ports
from custody.app.demo.ports import PORTS, free_ports
from custody.errors import UnavailableError


def test_ports_are_different_free_and_none_that_the_kernel_gives_away() -> None:
    found = free_ports(20, Random(1))
    assert len(set(found)) == 20
    given_away = ports._given_away()
    for port in found:
        assert port in PORTS
        assert port not in given_away
        with socket.create_server(("127.0.0.1", port)):
            pass


def test_a_port_at_which_somebody_listens_is_passed_over() -> None:
    for seed in range(5):  # whatever the order
        one, *others = free_ports(4, Random(seed))
        with socket.create_server(("127.0.0.1", one)):
            assert sorted(free_ports(3, Random(seed), [one, *others])) == sorted(others)
            with pytest.raises(UnavailableError, match="no 4 ports"):
                free_ports(4, Random(seed), [one, *others])


def test_ports_that_the_kernel_gives_away_come_last(monkeypatch: pytest.MonkeyPatch) -> None:
    among = free_ports(6, Random(2))
    monkeypatch.setattr(ports, "_given_away", lambda: among[:3])
    for seed in range(5):
        assert set(free_ports(3, Random(seed), among)) == set(among[3:])
    assert set(free_ports(5, Random(3), among)) > set(among[3:])


def test_two_who_look_at_the_same_time_hardly_find_the_same() -> None:
    assert set(free_ports(3, Random(4))).isdisjoint(free_ports(3, Random(5)))
