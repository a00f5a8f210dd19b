"""Hold connecting by name to the moments at which Trio's own way to connect begins and ends its attempts.

The scenarios are those of Trio's tests of `trio.open_tcp_stream`: hosts that answer or refuse after a time, by a clock
that jumps. Here each scripted host stands in for the kernel's side of `Socket.connect`.
"""

from __future__ import annotations

import socket as stdlib_socket
import sys
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.connections import Resolver, open_sockets
from tests.helpers import needs_ipv6
from trio_send import Socket, SocketError, SocketException, connect_tcp
from trio_send._socket import connect_by_name

if sys.version_info < (3, 11):
    from exceptiongroup import ExceptionGroup

#: A host: its address, after how many seconds it answers, and what.
Host = tuple[str, float, str]

GOOD, BAD = "success", "error"


class Scenario:
    """Hosts of one name.

    Attributes:
      began: when the attempt at each address began, in seconds from the start.
      connected: which addresses have been connected.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *hosts: Host) -> None:
        self.hosts = {host: (delay, result) for host, delay, result in hosts}
        self.began: dict[str, float] = {}
        self.connected: dict[Socket, str] = {}
        self.start = trio.current_time()
        resolver = Resolver([])
        for host in self.hosts:
            is_six = ":" in host
            resolver.entries.append(
                (
                    stdlib_socket.AF_INET6 if is_six else stdlib_socket.AF_INET,
                    stdlib_socket.SOCK_STREAM,
                    stdlib_socket.IPPROTO_TCP,
                    "",
                    (host, 80, 0, 0) if is_six else (host, 80),
                )
            )
        scenario = self

        async def connect(self: Socket, address: Any) -> None:
            host = address[0]
            assert host not in scenario.began
            scenario.began[host] = scenario.now()
            delay, result = scenario.hosts[host]
            await trio.sleep(delay)
            if result == BAD:
                raise SocketException(SocketError.CONNECTION_REFUSED)
            scenario.connected[self] = host

        monkeypatch.setattr(Socket, "connect", connect)

    def now(self) -> float:
        return round(trio.current_time() - self.start, 6)

    async def winner(self, **settings: Any) -> str:
        """Connect, and say to whom; nothing may be left of the others."""
        before = open_sockets()
        socket = await connect_tcp("many.example", 80, **settings)
        assert open_sockets() - before == {socket}
        host = self.connected[socket]
        socket.close()
        return host


async def test_one_host(monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock) -> None:
    for delay in (0.123, 100):
        scenario = Scenario(monkeypatch, ("1.1.1.1", delay, GOOD))
        assert await scenario.winner() == "1.1.1.1"
        assert scenario.now() == delay


async def test_one_host_that_refuses(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    for delay in (0.123, 100):
        scenario = Scenario(monkeypatch, ("1.1.1.1", delay, BAD))
        with pytest.raises(SocketException):
            await scenario.winner()
        assert scenario.now() == delay


async def test_one_after_the_other(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    scenario = Scenario(
        monkeypatch, ("1.1.1.1", 1, GOOD), ("2.2.2.2", 1, GOOD), ("3.3.3.3", 0.2, GOOD)
    )
    assert await scenario.winner() == "3.3.3.3"
    assert scenario.now() == 0.7
    assert scenario.began == {"1.1.1.1": 0, "2.2.2.2": 0.25, "3.3.3.3": 0.5}


async def test_an_early_success_keeps_others_from_beginning(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    scenario = Scenario(
        monkeypatch, ("1.1.1.1", 1, GOOD), ("2.2.2.2", 0.1, GOOD), ("3.3.3.3", 0.2, GOOD)
    )
    assert await scenario.winner() == "2.2.2.2"
    assert scenario.now() == 0.35
    assert scenario.began == {"1.1.1.1": 0, "2.2.2.2": 0.25}


async def test_a_delay_of_ones_own(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    scenario = Scenario(
        monkeypatch, ("1.1.1.1", 1, GOOD), ("2.2.2.2", 1, GOOD), ("3.3.3.3", 0.2, GOOD)
    )
    assert await scenario.winner(happy_eyeballs_delay=0.45) == "1.1.1.1"
    assert scenario.now() == 1
    assert scenario.began == {"1.1.1.1": 0, "2.2.2.2": 0.45, "3.3.3.3": 0.9}


async def test_no_delay_means_one_at_a_time(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    scenario = Scenario(monkeypatch, ("1.1.1.1", 50, BAD), ("2.2.2.2", 1, GOOD))
    assert await scenario.winner(happy_eyeballs_delay=None) == "2.2.2.2"
    assert scenario.began == {"1.1.1.1": 0, "2.2.2.2": 50}


async def test_a_failure_has_the_next_one_begin_at_once(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    scenario = Scenario(
        monkeypatch,
        ("1.1.1.1", 0.1, BAD),
        ("2.2.2.2", 0.2, BAD),
        ("3.3.3.3", 10, GOOD),
        ("4.4.4.4", 0.25, GOOD),
    )
    assert await scenario.winner() == "4.4.4.4"
    assert scenario.now() == 0.8
    assert scenario.began == {"1.1.1.1": 0, "2.2.2.2": 0.1, "3.3.3.3": 0.3, "4.4.4.4": 0.55}


async def test_all_fail(monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock) -> None:
    scenario = Scenario(
        monkeypatch,
        ("1.1.1.1", 0.1, BAD),
        ("2.2.2.2", 0.2, BAD),
        ("3.3.3.3", 10, BAD),
        ("4.4.4.4", 0.25, BAD),
    )
    before = open_sockets()
    with pytest.raises(SocketException) as caught:
        await scenario.winner()
    assert scenario.now() == 10.3
    assert scenario.began == {"1.1.1.1": 0, "2.2.2.2": 0.1, "3.3.3.3": 0.3, "4.4.4.4": 0.55}
    group = caught.value.__cause__
    assert isinstance(group, ExceptionGroup)
    assert len(group.exceptions) == 4
    # In the order in which they failed.
    assert "tried 3.3.3.3:80" in str(group.exceptions[-1])
    assert open_sockets() == before


async def test_several_succeed_at_the_same_moment(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    scenario = Scenario(
        monkeypatch,
        ("1.1.1.1", 0.5, BAD),
        ("2.2.2.2", 10, GOOD),
        ("3.3.3.3", 10 - 1, GOOD),
        ("4.4.4.4", 10 - 2, GOOD),
        ("5.5.5.5", 0.5, BAD),
    )
    assert await scenario.winner(happy_eyeballs_delay=1) in {"2.2.2.2", "3.3.3.3", "4.4.4.4"}
    assert scenario.now() == 10.5
    assert scenario.began == {
        "1.1.1.1": 0,
        "2.2.2.2": 0.5,
        "3.3.3.3": 1.5,
        "4.4.4.4": 2.5,
        "5.5.5.5": 3.5,
    }


@needs_ipv6
async def test_the_other_family_comes_second(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    scenario = Scenario(monkeypatch, ("1.1.1.1", 10, BAD), ("2.2.2.2", 1, GOOD), ("::3", 0.5, GOOD))
    assert await scenario.winner(happy_eyeballs_delay=1) == "::3"
    assert scenario.now() == 1.5
    assert scenario.began == {"1.1.1.1": 0, "::3": 1}


@pytest.mark.parametrize("missing", [stdlib_socket.AF_INET, stdlib_socket.AF_INET6])
async def test_a_machine_with_one_family(
    missing: int, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """The attempts at the other one fail without taking any time."""

    def make(family: int, *arguments: Any, **settings: Any) -> Socket:
        if family == missing:
            raise SocketException(SocketError.ADDRESS_FAMILY_NOT_SUPPORTED)
        return Socket(stdlib_socket.AF_INET, *arguments, **settings)

    scenario = Scenario(
        monkeypatch,
        ("::1", 10, BAD),
        ("2.2.2.2", 0.1, GOOD if missing != stdlib_socket.AF_INET else BAD),
        ("::3", 0.1, GOOD if missing != stdlib_socket.AF_INET6 else BAD),
        ("4.4.4.4", 10, BAD),
    )
    monkeypatch.setattr(connect_by_name, "Socket", make)
    if missing == stdlib_socket.AF_INET6:
        assert await scenario.winner() == "2.2.2.2"
        assert scenario.began == {"2.2.2.2": 0}
        assert scenario.now() == 0.1
    else:
        assert await scenario.winner() == "::3"
        assert scenario.began == {"::1": 0, "::3": 0.25}
        assert scenario.now() == 0.35


async def test_a_cancellation_closes_everything(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    scenario = Scenario(
        monkeypatch,
        ("1.1.1.1", 10, GOOD),
        ("2.2.2.2", 10, GOOD),
        ("3.3.3.3", 10, GOOD),
        ("4.4.4.4", 10, GOOD),
    )
    before = open_sockets()
    with trio.move_on_after(5) as scope:
        await scenario.winner()
    assert scope.cancelled_caught
    assert scenario.now() == 5
    assert scenario.began == {"1.1.1.1": 0, "2.2.2.2": 0.25, "3.3.3.3": 0.5, "4.4.4.4": 0.75}
    assert open_sockets() == before
