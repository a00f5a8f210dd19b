"""Hold `Socket.aclose` to losing nothing, and every close to stopping nobody.

Modules: _kernel.orderly_end, _socket.close.
"""

from __future__ import annotations

import os
import socket as stdlib_socket
import struct
import sys

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.helpers import (
    BIG,
    CLEAN,
    RESET,
    Ends,
    end_of,
    ends as ends,
    kind as kind,
    reset_on_close,
    tcp as tcp,
)
from trio_send import (
    ObjectDisposedError,
    Socket,
    SocketAsyncEventArgs,
    SocketError,
    add_instrument,
    open_initiator,
)
from trio_send.abc import Instrument

LINGER = struct.Struct("hh" if sys.platform == "win32" else "ii")

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what was acknowledged")


@pytest.fixture
def clogged(tcp: Ends) -> Ends:
    """One whose accepted bytes do not all reach the peer as long as that does not read."""
    socket, peer = tcp
    socket.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_SNDBUF, 4 * len(BIG))
    return socket, peer


async def let_arrive(socket: Socket) -> None:
    """Wait until there is something to read."""
    await trio.lowlevel.wait_readable(socket.fileno())


# What nobody has read ---------------------------------------------------------------------------


@linux
@pytest.mark.parametrize("when", ["before", "meanwhile", "both"])
async def test_input_that_nobody_reads_costs_the_peer_nothing(clogged: Ends, when: str) -> None:
    """Closed on the spot, the kernel would answer it with a reset and drop most of what it has accepted."""
    socket, peer = clogged
    read: list[tuple[bytes, str]] = []
    if when != "meanwhile":
        peer.send(b"nobody reads this")
        await let_arrive(socket)
    assert await socket.send(BIG) == len(BIG)

    async def read_all() -> None:
        read.append(await end_of(peer))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(socket.aclose)
        await wait_all_tasks_blocked()
        assert socket.fileno() >= 0
        if when != "before":
            peer.send(b"nor this")
        nursery.start_soon(read_all)
    assert socket.fileno() == -1
    assert read == [(BIG, CLEAN)]


@linux
async def test_a_plain_close_loses_it(clogged: Ends) -> None:
    """As its page says; and so this machine's kernel can show the difference."""
    socket, peer = clogged
    peer.send(b"nobody reads this")
    await let_arrive(socket)
    assert await socket.send(BIG) == len(BIG)
    socket.close()
    data, end = await end_of(peer)
    assert end == RESET
    assert len(data) < len(BIG)


async def test_what_has_arrived_is_read_on_every_kind(ends: Ends, kind: str) -> None:
    """A Unix peer gets all bytes in any case, but finds a reset behind them if input was unread."""
    socket, peer = ends
    peer.send(bytes(5000))
    await let_arrive(socket)
    await socket.send(b"answer")
    with trio.CancelScope() as scope:
        await socket.aclose()
    assert not scope.cancelled_caught
    assert await end_of(peer) == (b"answer", CLEAN)


@linux
async def test_a_peer_that_never_stops_sending_holds_up_nobody(clogged: Ends) -> None:
    """When it has everything, what it still sends is its own affair."""
    socket, peer = clogged
    assert await socket.send(BIG) == len(BIG)
    with peer.dup() as sender:

        async def flood() -> None:
            try:
                while True:
                    await trio.lowlevel.wait_writable(sender)
                    sender.send(bytes(65536))
            except OSError:
                pass

        received = bytearray()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(flood)
            await wait_all_tasks_blocked()
            nursery.start_soon(socket.aclose)
            while len(received) < len(BIG):
                await trio.lowlevel.wait_readable(peer)
                received += peer.recv(65536)
        assert socket.fileno() == -1
    assert received == BIG


@linux
async def test_a_peer_that_has_everything_is_not_waited_for(tcp: Ends) -> None:
    """Its kernel takes its time to acknowledge the end alone, 40 ms on Linux."""
    socket, peer = tcp
    await socket.send(b"hello")
    await socket.wait_acknowledged()
    done = False

    async def close() -> None:
        nonlocal done
        await socket.aclose()
        done = True

    async with trio.open_nursery() as nursery:
        nursery.start_soon(close)
        await wait_all_tasks_blocked()
        assert done
    assert await end_of(peer) == (b"hello", CLEAN)


# Who holds it, and who does not -----------------------------------------------------------------


@linux
async def test_a_peer_that_neither_reads_nor_goes_holds_it_until_its_scope_ends(
    clogged: Ends,
) -> None:
    """Then it closes as `close` does."""
    socket, peer = clogged
    peer.send(b"nobody reads this")
    await let_arrive(socket)
    assert await socket.send(BIG) == len(BIG)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(socket.aclose)
        await wait_all_tasks_blocked()
        assert socket.fileno() >= 0
        nursery.cancel_scope.cancel()
    assert nursery.cancel_scope.cancelled_caught
    assert socket.fileno() == -1
    data, _ = await end_of(peer)
    assert BIG.startswith(data)


@linux
@pytest.mark.parametrize("how", ["reset", "closed"])
async def test_a_peer_that_goes_ends_it(clogged: Ends, how: str) -> None:
    socket, peer = clogged
    assert await socket.send(BIG) == len(BIG)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(socket.aclose)
        await wait_all_tasks_blocked()
        assert socket.fileno() >= 0
        if how == "reset":
            reset_on_close(peer)
        peer.close()
    assert socket.fileno() == -1


@linux
async def test_a_peer_that_has_ended_but_reads_on_is_waited_for(clogged: Ends) -> None:
    """Its end is no sign that it has everything."""
    socket, peer = clogged
    read: list[tuple[bytes, str]] = []
    assert await socket.send(BIG) == len(BIG)
    peer.shutdown(stdlib_socket.SHUT_WR)

    async def read_all() -> None:
        read.append(await end_of(peer))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(socket.aclose)
        await wait_all_tasks_blocked()
        assert socket.fileno() >= 0
        nursery.start_soon(read_all)
    assert read == [(BIG, CLEAN)]


# The others meanwhile ---------------------------------------------------------------------------


@linux
async def test_the_socket_is_closed_for_everybody_else(clogged: Ends) -> None:
    """Who receives would get pieces of what is thrown away."""
    socket, peer = clogged
    ends_of_receives: list[BaseException] = []
    closed: list[bool] = []

    class Watcher(Instrument):
        def socket_closed(self, socket_id: int, *, reset: bool) -> None:
            closed.append(reset)

    async def receive(wait: object) -> None:
        with pytest.raises(trio.ClosedResourceError) as caught:
            await wait()  # type: ignore[operator]
        ends_of_receives.append(caught.value)

    assert await socket.send(BIG) == len(BIG)
    async with open_initiator(), trio.open_nursery() as nursery:
        args = SocketAsyncEventArgs(bytearray(10))
        assert socket.receive_async(args) is True
        nursery.start_soon(receive, socket.receive)
        await wait_all_tasks_blocked()
        async with trio.open_nursery() as closing:
            closing.start_soon(socket.aclose)
            await wait_all_tasks_blocked()
            await args.wait()
            assert args.outcome is not None
            with pytest.raises(ObjectDisposedError):
                args.outcome.unwrap()
            assert len(ends_of_receives) == 1
            assert not socket.connected
            for call in (lambda: socket.begin_send(b"x"), lambda: socket.local_end_point):
                with pytest.raises(ObjectDisposedError):
                    call()
            with pytest.raises(ObjectDisposedError):
                await socket.receive()
            assert socket.fileno() >= 0
            assert (await end_of(peer)) == (BIG, CLEAN)
    assert socket.fileno() == -1


@linux
async def test_a_second_one_waits_for_the_first(clogged: Ends) -> None:
    socket, peer = clogged
    done: list[str] = []

    async def close(name: str) -> None:
        await socket.aclose()
        done.append(name)

    assert await socket.send(BIG) == len(BIG)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(close, "first")
        await wait_all_tasks_blocked()
        nursery.start_soon(close, "second")
        await wait_all_tasks_blocked()
        assert done == []
        assert (await end_of(peer)) == (BIG, CLEAN)
    assert sorted(done) == ["first", "second"]


@linux
@pytest.mark.parametrize("how", ["close", "reset", "second is cancelled"])
async def test_a_close_cuts_it_short(clogged: Ends, how: str) -> None:
    socket, peer = clogged
    assert await socket.send(BIG) == len(BIG)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(socket.aclose)
        await wait_all_tasks_blocked()
        assert socket.fileno() >= 0
        if how == "second is cancelled":
            with trio.CancelScope() as scope:
                scope.cancel()
                await socket.aclose()
            assert scope.cancelled_caught
        else:
            socket.close(reset=how == "reset")
        assert socket.fileno() == -1
    data, end = await end_of(peer)
    assert end == (RESET if how == "reset" else CLEAN)
    assert data == BIG or how == "reset"


@linux
async def test_a_close_as_soon_as_the_peer_is_told_cuts_it_short_too(clogged: Ends) -> None:
    """By who is told there that a receive has ended. Nothing is waited for then, for nobody would end the wait."""
    socket, peer = clogged
    told: list[SocketError] = []

    class Closer(Instrument):
        def operation_completed(self, operation: object, error: SocketError, *_: object) -> None:
            told.append(error)
            socket.close()

    assert await socket.send(BIG) == len(BIG)
    async with open_initiator():
        result = socket.begin_receive(bytearray(10))
        with add_instrument(Closer()):
            await socket.aclose()
        assert told == [SocketError.OPERATION_ABORTED]
        assert socket.fileno() == -1
        with pytest.raises(ObjectDisposedError):
            await socket.end_receive(result)
    assert await end_of(peer) == (BIG, CLEAN)


@linux
async def test_after_a_disconnect_nothing_is_lost_either(clogged: Ends) -> None:
    """The connection counts as broken then, and its bytes are still on their way."""
    socket, peer = clogged
    peer.send(b"nobody reads this")
    await let_arrive(socket)
    assert await socket.send(BIG) == len(BIG)
    await socket.disconnect()
    read: list[tuple[bytes, str]] = []

    async def read_all() -> None:
        read.append(await end_of(peer))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(socket.aclose)
        await wait_all_tasks_blocked()
        assert socket.fileno() >= 0
        nursery.start_soon(read_all)
    assert read == [(BIG, CLEAN)]


# Lingering --------------------------------------------------------------------------------------


def linger_of(descriptor: int) -> tuple[bool, int]:
    """What a second descriptor of a socket says, also after the first was closed."""
    with stdlib_socket.socket(fileno=os.dup(descriptor)) as twin:
        option = twin.getsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_LINGER, LINGER.size)
    is_on, seconds = LINGER.unpack(option)
    return bool(is_on), seconds if is_on else 0


@pytest.mark.fact("F213")
@pytest.mark.skipif(sys.platform == "win32", reason="a socket is no descriptor there")
@pytest.mark.parametrize("how", ["close", "aclose", "disconnect", "trio", "stream"])
@pytest.mark.parametrize("seconds", [3600, 0])
async def test_no_close_waits_for_the_time_to_linger(tcp: Ends, how: str, seconds: int) -> None:
    """The call would block the thread for as long. What asks for a reset stays as it is."""
    socket, _peer = tcp
    socket.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_LINGER, LINGER.pack(1, seconds))
    twin = os.dup(socket.fileno())
    try:
        if how == "close":
            socket.close()
        elif how == "aclose":
            await socket.aclose()
        elif how == "disconnect":
            await socket.disconnect(reuse_socket=True)
        elif how == "trio":
            socket.trio.close()
        else:
            await socket.as_stream().aclose()
        assert linger_of(twin) == (seconds == 0, 0)
    finally:
        os.close(twin)


@linux
async def test_a_peer_that_never_reads_holds_up_no_other_task(clogged: Ends) -> None:
    """If the close blocked the thread, the peer could not go either, and the test would never end."""
    socket, peer = clogged
    socket.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_LINGER, LINGER.pack(1, 3600))
    assert await socket.send(BIG) == len(BIG)
    socket.close()
    assert (await end_of(peer)) == (BIG, CLEAN)
