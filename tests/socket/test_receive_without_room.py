"""Hold receives without room to what they are for: to wait until there is something, and to leave it."""

from __future__ import annotations

import socket as stdlib_socket
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.datagrams import receiver
from tests.helpers import Ends, ends as ends, kind as kind
from trio_send import (
    Socket,
    SocketAsyncEventArgs,
    SocketError,
    SocketException,
    SocketFlags,
    open_initiator,
)
from trio_send._kernel import received_message

DGRAM = stdlib_socket.SOCK_DGRAM

#: What there is no room in.
ROOMS: dict[str, dict[str, Any]] = {
    "an empty buffer": {"buffer": bytearray()},
    "an empty range": {"buffer": bytearray(8), "offset": 8},
    "nothing that could be written": {"buffer": b""},
    "a list of empty buffers": {"buffer_list": [bytearray(), bytearray()]},
    "an empty list": {"buffer_list": []},
}

NAMES = ("receive", "receive_from", "receive_message_from")
FORMS = (
    "receive_into",
    *(f"begin_{name}" for name in NAMES),
    *(f"{name}_async {room}" for name in NAMES for room in ROOMS),
)

every_form = pytest.mark.parametrize("form", FORMS)


async def look(socket: Socket, form: str) -> None:
    """Wait in one of the forms until there is something."""
    if form == "receive_into":
        assert await socket.receive_into(bytearray()) == 0
        return
    async with open_initiator():
        name, _, room = form.partition(" ")
        if room:
            args = SocketAsyncEventArgs(**ROOMS[room])
            if getattr(socket, name)(args):
                await args.wait()
            assert args.outcome is not None
            assert args.outcome.unwrap() == args.bytes_transferred == 0
            assert args.socket_flags is SocketFlags.NONE
        else:
            end = getattr(socket, form.replace("begin", "end"))
            told = await end(getattr(socket, form)(bytearray(3), 3))
            assert (told if isinstance(told, int) else told[0]) == 0


@pytest.fixture
def datagrams() -> Iterator[Ends]:
    with receiver() as peer, closing(Socket(type=DGRAM)) as socket:
        socket.bind(("127.0.0.1", 0))
        peer.connect(socket.local_end_point)
        yield socket, peer


async def look_and_receive(socket: Socket, peer: stdlib_socket.socket, form: str) -> None:
    """It comes when somebody waits, and is there for whoever looks next, and is all there afterwards."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(look, socket, form)
        await wait_all_tasks_blocked()
        assert nursery.child_tasks
        peer.send(b"hello")
    await look(socket, form)
    assert await socket.receive() == b"hello"


@every_form
async def test_waiting_for_a_stream(ends: Ends, form: str) -> None:
    await look_and_receive(*ends, form)


@every_form
async def test_waiting_for_a_datagram(datagrams: Ends, form: str) -> None:
    """Of a long one too nothing is lost."""
    await look_and_receive(*datagrams, form)


@every_form
async def test_waiting_where_the_standard_library_tells_less(
    datagrams: Ends, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(received_message, "HAVE_SCATTER", False)
    await look_and_receive(*datagrams, form)


@every_form
async def test_the_end_is_something_too(ends: Ends, form: str) -> None:
    socket, peer = ends
    async with trio.open_nursery() as nursery:
        nursery.start_soon(look, socket, form)
        await wait_all_tasks_blocked()
        peer.shutdown(stdlib_socket.SHUT_WR)
    await look(socket, form)
    assert await socket.receive() == b""


@every_form
async def test_an_empty_datagram_is_something_too(datagrams: Ends, form: str) -> None:
    socket, peer = datagrams
    peer.send(b"")
    await look(socket, form)
    assert await socket.receive() == b""


async def test_a_reset_is_told() -> None:
    """Once for everybody, though the system tells it once in all."""
    with closing(Socket()) as listener, closing(Socket()) as client:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        await client.connect(listener.local_end_point)
        with closing(await listener.accept()) as server:
            server.close(reset=True)
        for _ in range(2):
            with pytest.raises(SocketException) as caught:
                await client.receive_into(bytearray())
            assert caught.value.socket_error_code is SocketError.CONNECTION_RESET


async def test_it_waits_its_turn(ends: Ends) -> None:
    """In the one queue of receives, so what came for the one in front of it is not there for it."""
    socket, peer = ends
    async with open_initiator():
        first, behind = SocketAsyncEventArgs(bytearray(5)), SocketAsyncEventArgs(bytearray())
        assert socket.receive_async(first) is True
        assert socket.receive_async(behind) is True
        peer.send(b"hello")
        await first.wait()
        await wait_all_tasks_blocked()
        assert behind.pending
        peer.send(b"!")
        assert await behind.wait() == 0
    assert await socket.receive() == b"!"


async def test_the_sender_of_what_waits_is_told(datagrams: Ends) -> None:
    socket, peer = datagrams
    peer.send(b"hello")
    args = SocketAsyncEventArgs(bytearray())
    async with open_initiator():
        assert socket.receive_from_async(args) is False
        assert args.remote_end_point == peer.getsockname()
        result = socket.begin_receive_message_from(bytearray())
        count, flags, sender, _ = socket.end_receive_message_from_nowait(result)
        assert (count, flags, sender) == (0, SocketFlags.NONE, peer.getsockname())
    assert await socket.receive() == b"hello"


async def test_without_a_connection_there_is_nothing_to_wait_for() -> None:
    with closing(Socket()) as socket:
        with pytest.raises(SocketException) as caught:
            await socket.receive_into(bytearray())
        assert caught.value.socket_error_code is SocketError.NOT_CONNECTED


async def test_who_waits_can_be_stopped(ends: Ends) -> None:
    socket, _ = ends
    async with open_initiator():
        args = SocketAsyncEventArgs(bytearray())
        assert socket.receive_async(args) is True
        args.cancel()
        await args.wait()
        assert args.socket_error is SocketError.OPERATION_ABORTED
    with trio.move_on_after(0) as scope:
        await socket.receive_into(bytearray())
    assert scope.cancelled_caught
