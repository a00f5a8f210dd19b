"""Hold the counters to what they say that they count."""

from __future__ import annotations

import socket as stdlib_socket
from typing import Any

import pytest
import trio
from hypothesis import given, strategies as st

from tests.helpers import scripted
from tests.scripted import run_virtual
from trio_send import (
    Counters,
    CountingInstrument,
    Socket,
    SocketAsyncEventArgs,
    SocketException,
    SocketFlags,
    add_instrument,
    open_initiator,
    socketpair,
)
from trio_send.testing import Blocked, ScriptedPort


@pytest.mark.fact("F048", "F282")
async def test_the_part_of_a_stopped_send_counts(autojump_clock: Any) -> None:
    """Unlike in any version of .NET: it has gone out, and nobody need ask for the result."""
    socket, _ = scripted(4, Blocked())
    counting = CountingInstrument()
    add_instrument(counting)
    async with open_initiator():
        result = socket.begin_send(bytes(10))
        assert counting.snapshot() == Counters(bytes_sent=4)
    assert not result._operation.is_taken
    assert counting.snapshot() == Counters(bytes_sent=4)


@pytest.mark.fact("F277", "F281", "F282")
async def test_datagrams_count_also_when_they_are_empty() -> None:
    left, right = socketpair(type=stdlib_socket.SOCK_DGRAM)
    counting = CountingInstrument()
    add_instrument(counting)
    async with left, right, open_initiator():
        await left.send(b"abc")
        await left.send(b"")
        assert left.send_async(SocketAsyncEventArgs(b"de")) is False
        for _ in range(3):
            await right.receive()
    assert counting.snapshot() == Counters(
        bytes_sent=5, bytes_received=5, datagrams_sent=3, datagrams_received=3
    )


async def test_datagrams_that_failed_do_not_count_and_those_before_them_in_a_batch_do() -> None:
    socket, _ = scripted(9, 9, "EHOSTUNREACH", "EMSGSIZE", is_stream=False)
    counting = CountingInstrument()
    add_instrument(counting)
    with pytest.raises(SocketException):
        await socket.send_datagrams([b"a", b"bc", b"d"])
    with pytest.raises(SocketException):
        await socket.send(b"e")
    assert counting.snapshot() == Counters(bytes_sent=3, datagrams_sent=2)


@pytest.mark.fact("F281")
async def test_connections_count_when_they_stand() -> None:
    counting = CountingInstrument()
    add_instrument(counting)
    async with Socket() as listener, Socket() as client, Socket() as unlucky:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        address = listener.local_end_point
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.connect, address)
            served = await listener.accept()
        served.close()
        listener.close()
        with pytest.raises(SocketException):
            await unlucky.connect(address)
    async with Socket(type=stdlib_socket.SOCK_DGRAM) as datagrams:
        await datagrams.connect(address)  # establishes nothing
    assert counting.snapshot() == Counters(
        outgoing_connections_established=1, incoming_connections_established=1
    )


async def test_only_what_happens_while_it_watches_counts() -> None:
    left, right = socketpair()
    counting = CountingInstrument()
    async with left, right:
        await left.send(b"before")
        with add_instrument(counting):
            await left.send(b"now")
            before = counting.snapshot()
        await left.send(b"after")
        assert counting.snapshot() == before == Counters(bytes_sent=3)
        assert len(await right.receive()) == 14
    assert before == Counters(bytes_sent=3)  # a snapshot does not move


async def test_what_was_only_peeked_at_counts_as_received() -> None:
    left, right = socketpair()
    counting = CountingInstrument()
    async with left, right, open_initiator():
        await left.send(b"abc")
        args = SocketAsyncEventArgs(bytearray(10))
        args.socket_flags = SocketFlags.PEEK
        with add_instrument(counting):
            assert right.receive_async(args) is False
    assert counting.snapshot() == Counters(bytes_received=3)


@given(
    script=st.lists(
        st.one_of(st.integers(1, 40), st.just(Blocked(1.0)), st.just("ECONNRESET")), max_size=8
    ),
    sizes=st.lists(st.integers(0, 30), max_size=6),
)
def test_bytes_sent_are_those_that_the_kernel_has(script: list[Any], sizes: list[int]) -> None:
    async def main() -> None:
        port = ScriptedPort(script)
        socket = Socket.from_port(port)
        counting = CountingInstrument()
        add_instrument(counting)
        async with open_initiator():
            for size in sizes:
                socket.send_async(SocketAsyncEventArgs(bytes(size)))
            await trio.sleep(1.5)
        assert counting.snapshot() == Counters(bytes_sent=len(port.accepted))

    run_virtual(main)
