"""Hold the socket as a whole to what it says: the ways to make one, its trio face, its end, and who may use it.

Modules: _socket.close, _socket.core, _socket.trio_face.
"""

from __future__ import annotations

import errno
import gc
import os
import socket as stdlib_socket
import sys
import weakref
from collections.abc import Callable
from contextlib import ExitStack, closing
from typing import Any

import pytest
import trio
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

from tests.files import needs_proc, open_descriptors
from tests.helpers import (
    BIG,
    CLEAN,
    HOSTS,
    Ends,
    a_reset,
    connected,
    end_of,
    ends as ends,
    kind as kind,
    nothing_to_read,
    read_exactly,
    read_some,
    read_to_end,
    stack as stack,
    stdlib_pair,
    unix as unix,
)
from trio_send import (
    InvalidOperationError,
    ObjectDisposedError,
    Socket,
    SocketAsyncEventArgs,
    SocketError,
    SocketException,
    SocketShutdown,
    open_initiator,
    socketpair,
)
from trio_send._kernel.port import KernelPort
from trio_send._socket import socket as socket_module
from trio_send.testing import Blocked, ScriptedPort

# Making one -----------------------------------------------------------------------------------


def test_a_new_socket(stack: ExitStack) -> None:
    """Is of the family and type that were asked for, and connected to nobody."""
    for family, type_ in (
        (stdlib_socket.AF_INET, stdlib_socket.SOCK_STREAM),
        (stdlib_socket.AF_INET, stdlib_socket.SOCK_DGRAM),
        (stdlib_socket.AF_UNIX, stdlib_socket.SOCK_STREAM),
    ):
        socket = stack.enter_context(closing(Socket(family, type_)))
        assert (socket.family, socket.type) == (family, type_)
        assert socket.fileno() >= 0
        assert not os.get_blocking(socket.fileno())
        assert not socket.connected
        assert socket.queued_operations == 0
        assert socket.torn is None
        assert repr(socket) == "<trio_send.Socket: not connected, 0 operations queued>"
    assert stack.enter_context(closing(Socket())).type == stdlib_socket.SOCK_STREAM


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ((12345,), SocketError.ADDRESS_FAMILY_NOT_SUPPORTED),
        (
            (stdlib_socket.AF_INET, stdlib_socket.SOCK_STREAM, 255),
            SocketError.PROTOCOL_NOT_SUPPORTED,
        ),
        ((stdlib_socket.AF_INET, 77), SocketError.INVALID_ARGUMENT),
    ],
    ids=["family", "protocol", "type"],
)
def test_what_the_system_refuses_to_make(arguments: tuple[int, ...], code: SocketError) -> None:
    with pytest.raises(SocketException) as caught:
        Socket(*arguments)
    assert caught.value.socket_error_code is code
    assert isinstance(caught.value.__cause__, OSError)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows makes pairs of this family alone")
def test_a_pair_that_the_system_does_not_make() -> None:
    with pytest.raises(SocketException) as caught:
        socketpair(stdlib_socket.AF_INET)
    assert caught.value.socket_error_code is SocketError.OPERATION_NOT_SUPPORTED


def test_what_to_do_about_a_cut_message_is_one_of_two(stack: ExitStack) -> None:
    """A refused call leaves nothing open, and what it was given as it was."""
    before = open_descriptors()
    sentence = r"^on_torn must be one of 'refuse', 'allow', not 'maybe'$"
    with pytest.raises(ValueError, match=sentence):
        Socket(on_torn="maybe")
    with pytest.raises(ValueError, match=sentence):
        Socket.from_port(ScriptedPort(), on_torn="maybe")
    with pytest.raises(ValueError, match=sentence):
        socketpair(on_torn="maybe")
    gc.collect()
    assert open_descriptors() == before
    plain, _ = map(stack.enter_context, stdlib_socket.socketpair())
    with pytest.raises(ValueError, match=sentence):
        Socket.from_stdlib(plain, on_torn="maybe")
    assert plain.fileno() >= 0
    assert plain.gettimeout() is None  # it blocks as before


class Odd(Exception):
    pass


def test_a_socket_whose_making_is_interrupted_leaves_no_descriptor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By what a signal handler raises, for example."""
    made: list[stdlib_socket.socket] = []

    def make(sock: stdlib_socket.socket) -> KernelPort:
        made.append(sock)
        raise Odd

    monkeypatch.setattr(socket_module, "KernelPort", make)
    with pytest.raises(Odd):
        Socket()
    assert [sock.fileno() for sock in made] == [-1]


async def test_a_trio_socket_outlives_a_refused_call(stack: ExitStack) -> None:
    left, right = trio.socket.socketpair()
    with left, right:
        with pytest.raises(ValueError, match=r"^on_torn must be one of"):
            Socket.from_trio(left, on_torn="maybe")
        assert left.fileno() >= 0
        await left.send(b"x")
        assert await right.recv(1) == b"x"


async def test_taking_over_a_plain_socket(kind: str, stack: ExitStack) -> None:
    """In any state; it becomes non-blocking."""
    left, peer = stdlib_pair(kind)
    stack.enter_context(peer)
    descriptor = left.fileno()
    socket = stack.enter_context(closing(Socket.from_stdlib(left)))
    assert socket.fileno() == descriptor
    assert socket.connected
    assert left.gettimeout() == 0
    assert await socket.send(b"x") == 1
    assert peer.recv(9) == b"x"
    new = stack.enter_context(closing(Socket.from_stdlib(stdlib_socket.socket(left.family))))
    assert not new.connected
    with pytest.raises(InvalidOperationError, match=r"^this socket does not listen"):
        await new.accept()
    socket.close()
    assert left.fileno() == -1  # it is the same socket


async def test_taking_over_a_listener(stack: ExitStack) -> None:
    """It accepts, and is not to be connected."""
    for taken_from in ("stdlib", "trio"):
        plain = stdlib_socket.socket()
        plain.bind(("127.0.0.1", 0))
        plain.listen()
        where = plain.getsockname()
        if taken_from == "stdlib":
            socket = stack.enter_context(closing(Socket.from_stdlib(plain)))
        else:
            socket = stack.enter_context(
                closing(Socket.from_trio(trio.socket.from_stdlib_socket(plain)))
            )
        assert not socket.connected
        client = stack.enter_context(stdlib_socket.socket())
        client.connect(where)
        stack.enter_context(closing(await socket.accept()))
        with pytest.raises(InvalidOperationError, match=r"^this socket listens"):
            await socket.connect(where)


async def test_taking_over_a_socket_that_does_not_say_whether_it_listens(stack: ExitStack) -> None:
    """Not every system knows the option. The socket counts as one that does not listen."""

    class Silent(stdlib_socket.socket):
        def getsockopt(self, *arguments: Any) -> Any:
            raise OSError(errno.ENOPROTOOPT, "no such option")

    left, peer = stdlib_socket.socketpair()
    stack.enter_context(peer)
    silent = Silent(left.family, left.type, left.proto, left.detach())
    socket = stack.enter_context(closing(Socket.from_stdlib(silent)))
    assert socket.connected
    assert await socket.send(b"x") == 1
    assert peer.recv(9) == b"x"
    with pytest.raises(InvalidOperationError, match=r"^this socket does not listen"):
        await socket.accept()


async def test_taking_over_a_datagram_socket(stack: ExitStack) -> None:
    peer = stack.enter_context(stdlib_socket.socket(type=stdlib_socket.SOCK_DGRAM))
    peer.bind(("127.0.0.1", 0))
    plain = stdlib_socket.socket(type=stdlib_socket.SOCK_DGRAM)
    plain.connect(peer.getsockname())
    socket = stack.enter_context(closing(Socket.from_stdlib(plain)))
    assert socket.connected
    assert await socket.send(b"datagram") == 8
    assert peer.recv(9) == b"datagram"


async def test_taking_over_a_trio_socket(kind: str, stack: ExitStack) -> None:
    """It is detached from its descriptor."""
    left, peer = stdlib_pair(kind)
    stack.enter_context(peer)
    wrapped = trio.socket.from_stdlib_socket(left)
    descriptor = wrapped.fileno()
    socket = stack.enter_context(closing(Socket.from_trio(wrapped)))
    assert wrapped.fileno() == -1
    wrapped.close()  # closes nothing any more
    assert socket.fileno() == descriptor
    assert (socket.family, socket.type) == (left.family, left.type)
    assert socket.connected
    assert await socket.send(b"x") == 1
    assert peer.recv(9) == b"x"


async def test_what_cannot_be_taken_over(stack: ExitStack) -> None:
    plain = stdlib_socket.socket()
    wrapped = trio.socket.from_stdlib_socket(stdlib_socket.socket())
    ours = stack.enter_context(closing(Socket()))
    foreign: Any
    for foreign in (wrapped, ours, None, 5):
        with pytest.raises(TypeError, match=r"^sock must be a socket.socket, not "):
            Socket.from_stdlib(foreign)
    for foreign in (plain, ours, None, 5):
        with pytest.raises(TypeError, match=r"^sock must be a trio socket, not "):
            Socket.from_trio(foreign)
    for foreign in (plain, ours, None, 5):
        with pytest.raises(TypeError, match=r"^port must be a trio_send.abc.Port, not "):
            Socket.from_port(foreign)
    plain.close()
    wrapped.close()
    with pytest.raises(ValueError, match=r"^sock is closed$"):
        Socket.from_stdlib(plain)
    with pytest.raises(ValueError, match=r"^sock is closed$"):
        Socket.from_trio(wrapped)
    with pytest.raises(RuntimeError, match=r"^this descriptor belongs to a trio_send.Socket"):
        Socket.from_trio(ours.trio)
    assert ours.fileno() >= 0


async def test_a_socket_on_a_port_of_ones_own(stack: ExitStack) -> None:
    """What the port does not offer is refused."""
    port = ScriptedPort()
    socket = stack.enter_context(closing(Socket.from_port(port)))
    assert socket.connected
    assert socket.fileno() == -1
    assert await socket.send(b"hello") == 5
    assert port.accepted == b"hello"
    refused: list[Callable[[], object]] = [
        lambda: socket.family,
        lambda: socket.type,
        lambda: socket.local_end_point,
        lambda: socket.remote_end_point,
        lambda: socket.trio,
        lambda: socket.getsockopt(1, 1),
        lambda: socket.setsockopt(1, 1, 1),
        lambda: socket.bind(("127.0.0.1", 0)),
        lambda: socket.listen(),
    ]
    for call in refused:
        with pytest.raises(SocketException, match=r"can only send$") as caught:
            call()
        assert caught.value.socket_error_code is SocketError.OPERATION_NOT_SUPPORTED
    socket.close()
    assert port.closed
    unconnected = stack.enter_context(closing(Socket.from_port(ScriptedPort(), connected=False)))
    with pytest.raises(SocketException) as caught:
        await unconnected.send(b"x")
    assert caught.value.socket_error_code is SocketError.NOT_CONNECTED


@pytest.mark.parametrize("pending", [False, True])
async def test_a_port_is_told_how_to_close(pending: bool) -> None:
    port = ScriptedPort([2, Blocked()] if pending else [])
    socket = Socket.from_port(port)
    async with open_initiator():
        assert socket.send_async(SocketAsyncEventArgs(b"hello")) is pending
        socket.close()
    assert port.closed
    assert port.was_reset == pending


async def test_a_pair(stack: ExitStack) -> None:
    """Two sockets that are connected to each other."""
    for family, type_ in (
        (None, stdlib_socket.SOCK_STREAM),
        (stdlib_socket.AF_UNIX, stdlib_socket.SOCK_STREAM),
        (stdlib_socket.AF_UNIX, stdlib_socket.SOCK_DGRAM),
    ):
        left, right = (stack.enter_context(closing(end)) for end in socketpair(family, type_))
        assert left.connected
        assert right.connected
        assert left.type == right.type == type_
        for one, other in ((left, right), (right, left)):
            assert await one.send(b"hello") == 5
            assert await other.receive() == b"hello"


def test_the_text_of_a_socket(unix: Ends) -> None:
    socket, _ = unix

    async def main() -> None:
        assert repr(socket) == "<trio_send.Socket: connected, 0 operations queued>"
        async with open_initiator():
            result = socket.begin_send(BIG)
            socket.begin_send(b"x")
            assert repr(socket) == "<trio_send.Socket: connected, 2 operations queued>"
            result.cancel()
            assert repr(socket) == "<trio_send.Socket: torn, 0 operations queued>"
        socket.close()
        assert repr(socket) == "<trio_send.Socket: closed>"

    trio.run(main)


# The trio face --------------------------------------------------------------------------------


async def test_the_trio_face_is_the_same_socket(ends: Ends) -> None:
    """A trio socket on the same descriptor, for everything that is not here."""
    socket, peer = ends
    face = socket.trio
    assert socket.trio is face
    assert isinstance(face, trio.socket.SocketType)
    assert face.fileno() == socket.fileno()
    assert (face.family, face.type) == (socket.family, socket.type)
    assert face.getsockname() == socket.local_end_point
    assert face.getpeername() == socket.remote_end_point
    assert await face.send(b"hello") == 5
    assert await read_exactly(peer, 5) == b"hello"
    peer.send(b"there")
    assert await face.recv(3) == b"the"
    assert await socket.receive() == b"re"
    assert not face.did_shutdown_SHUT_WR
    face.shutdown(stdlib_socket.SHUT_WR)
    assert face.did_shutdown_SHUT_WR
    assert await read_some(peer) == b""
    assert "trio_send.Socket" in repr(face)


async def test_a_trio_stream_works_on_it(ends: Ends) -> None:
    """`trio.SocketStream` asks for a trio socket by its type."""
    socket, peer = ends
    stream = trio.SocketStream(socket.trio)
    received: list[bytes] = []

    async def read() -> None:
        received.append(await read_exactly(peer, len(BIG)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await stream.send_all(BIG)
    assert received == [BIG]
    peer.send(b"hello")
    assert await stream.receive_some(100) == b"hello"
    await stream.send_eof()
    assert await read_to_end(peer) == b""
    await stream.aclose()
    assert socket.fileno() == -1
    with pytest.raises(ObjectDisposedError):
        await socket.send(b"x")
    with pytest.raises(trio.ClosedResourceError):
        await stream.send_all(b"x")


@pytest.mark.parametrize("how", ["close", "with", "stream"])
async def test_closing_the_trio_face_closes_ours_and_ends_what_is_pending(
    ends: Ends, how: str
) -> None:
    """It must not close the descriptor under operations that wait for it."""
    socket, _ = ends
    told: list[SocketError] = []
    args = SocketAsyncEventArgs(BIG)
    args.completed += lambda _, e: told.append(e.socket_error)
    errors: list[SocketError] = []

    async def receive() -> None:
        with pytest.raises(SocketException) as caught:
            await socket.receive()
        errors.append(caught.value.socket_error_code)

    async with open_initiator(), trio.open_nursery() as nursery:
        assert socket.send_async(args) is True
        result = socket.begin_send(b"x")
        nursery.start_soon(receive)
        await wait_all_tasks_blocked()
        if how == "close":
            socket.trio.close()
        elif how == "with":
            with socket.trio as face:
                assert face.fileno() >= 0
        else:
            await trio.SocketStream(socket.trio).aclose()
        assert socket.fileno() == -1
        await args.wait()
        with pytest.raises(SocketException) as caught:
            await socket.end_send(result)
        assert caught.value.error_code == 995
    assert told == errors == [SocketError.OPERATION_ABORTED]


async def test_the_descriptor_cannot_be_taken_away(unix: Ends) -> None:
    socket, _ = unix
    with pytest.raises(RuntimeError, match=r"^this descriptor belongs to a trio_send.Socket"):
        socket.trio.detach()
    assert socket.fileno() >= 0
    assert await socket.send(b"x") == 1


async def test_closing_ours_wakes_who_waits_on_the_trio_face(ends: Ends) -> None:
    socket, _ = ends
    log: list[type[BaseException]] = []

    async def receive() -> None:
        with pytest.raises(trio.ClosedResourceError) as caught:
            await socket.trio.recv(1)
        log.append(caught.type)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        await wait_all_tasks_blocked()
        socket.close()
    assert log == [trio.ClosedResourceError]


# The end --------------------------------------------------------------------------------------


@pytest.mark.fact("F180", "F210", "F211", "F213")
@pytest.mark.parametrize(
    "state",
    ["idle", "pending", "pending, deaf", "torn", "shut down", "torn, shut down"],
)
@pytest.mark.parametrize("reset", [None, True, False])
async def test_how_the_peer_sees_the_end(
    ends: Ends, kind: str, state: str, reset: bool | None
) -> None:
    """A message that was cut cannot be taken for a complete one (F210), unless one says so (F211).

    What was accepted is delivered when the end is clean (F180).
    """
    socket, peer = ends
    accepted = b""
    async with open_initiator():
        if state == "idle":
            assert await socket.send(b"hello") == 5
            accepted = b"hello"
        else:
            args = SocketAsyncEventArgs(BIG)
            assert socket.send_async(args) is True
            await wait_all_tasks_blocked()
            if "torn" in state:
                assert args.cancel() is True
                assert socket.torn is not None
            accepted = BIG[: args.bytes_transferred]
            if "shut down" in state:
                socket.shutdown(SocketShutdown.SEND)
            elif "deaf" in state:
                socket.shutdown(SocketShutdown.RECEIVE)  # says nothing about sending
        socket.close(reset=reset)
    by_default = state in ("pending", "pending, deaf", "torn")
    expected = a_reset(kind) if (by_default if reset is None else reset) else CLEAN
    data, end = await end_of(peer)
    assert end == expected
    assert data == accepted if end == CLEAN else accepted.startswith(data)


@pytest.mark.fact("F205", "F206")
async def test_every_operation_that_is_pending_ends_with_995_each_once(ends: Ends) -> None:
    """F205, F206; each with its own count, in its order, and never from inside the close."""
    socket, _ = ends
    told: list[tuple[object, SocketError]] = []
    awaited: list[tuple[int, int]] = []

    async def send() -> None:
        with pytest.raises(SocketException) as caught:
            await socket.send(b"awaited")
        awaited.append((caught.value.error_code, caught.value.bytes_transferred))

    async with open_initiator(), trio.open_nursery() as nursery:
        operations: list[SocketAsyncEventArgs] = []
        for number in range(3):
            args = SocketAsyncEventArgs(BIG, user_token=number)
            args.completed += lambda _, e: told.append((e.user_token, e.socket_error))
            assert socket.send_async(args) is True
            operations.append(args)
        socket.begin_send(
            b"x",
            callback=lambda r: told.append(("begun", socket.try_end_send_nowait(r)[1])),
        )
        nursery.start_soon(send)
        await wait_all_tasks_blocked()
        count = operations[0].bytes_transferred
        assert count > 0
        socket.close()
        assert told == []
        assert socket.queued_operations == 0
        await wait_all_tasks_blocked()
        aborted = SocketError.OPERATION_ABORTED
        assert told == [(0, aborted), (1, aborted), (2, aborted), ("begun", aborted)]
        assert awaited == [(995, 0)]
        assert [args.bytes_transferred for args in operations] == [count, 0, 0]
        assert b"".join(operations[0].remaining) == BIG[count:]
    assert len(told) == 4


async def test_closing_again_does_no_harm(ends: Ends) -> None:
    """Whatever it is told then."""
    socket, peer = ends
    socket.close()
    socket.close()
    socket.close(reset=True)
    await socket.aclose()
    async with socket:
        pass
    assert await end_of(peer) == (b"", CLEAN)


async def test_aclose_lets_queued_sends_finish_and_then_ends_cleanly(ends: Ends) -> None:
    """The peer reads every byte and then the end; nobody is told of an abort."""
    socket, peer = ends
    told: list[tuple[object, SocketError, int]] = []
    data: list[tuple[bytes, str]] = []

    async def read() -> None:
        data.append(await end_of(peer))

    async with open_initiator(), trio.open_nursery() as nursery:
        for number in range(2):
            args = SocketAsyncEventArgs(BIG, user_token=number)
            args.completed += lambda _, e: told.append(
                (e.user_token, e.socket_error, e.bytes_transferred)
            )
            assert socket.send_async(args) is True
        nursery.start_soon(socket.send, b"awaited")
        await wait_all_tasks_blocked()
        nursery.start_soon(socket.aclose)
        await wait_all_tasks_blocked()
        assert socket.fileno() >= 0
        assert told == []
        nursery.start_soon(read)
    assert data == [(2 * BIG + b"awaited", CLEAN)]
    assert told == [
        (0, SocketError.SUCCESS, len(BIG)),
        (1, SocketError.SUCCESS, len(BIG)),
    ]
    assert socket.fileno() == -1


@pytest.mark.parametrize("when", ["before", "meanwhile"])
async def test_an_aclose_that_is_cancelled_closes_at_once(ends: Ends, kind: str, when: str) -> None:
    """As `close` does: what was pending is aborted, and the peer is not led to believe that this was all."""
    socket, peer = ends
    args = SocketAsyncEventArgs(BIG)
    async with open_initiator():
        assert socket.send_async(args) is True
        await wait_all_tasks_blocked()
        async with trio.open_nursery() as nursery:
            if when == "before":
                nursery.cancel_scope.cancel()
            nursery.start_soon(socket.aclose)
            if when == "meanwhile":
                await wait_all_tasks_blocked()
                assert socket.fileno() >= 0
                nursery.cancel_scope.cancel()
        assert nursery.cancel_scope.cancelled_caught
        assert socket.fileno() == -1
        count = await args.wait()
        assert args.socket_error is SocketError.OPERATION_ABORTED
    data, end = await end_of(peer)
    assert end == a_reset(kind)
    assert BIG[:count].startswith(data)


async def test_aclose_of_an_idle_socket_in_a_cancelled_scope_ends_cleanly(ends: Ends) -> None:
    """Nothing was cut."""
    socket, peer = ends
    await socket.send(b"hello")
    with trio.CancelScope() as scope:
        scope.cancel()
        await socket.aclose()
    assert scope.cancelled_caught
    assert await end_of(peer) == (b"hello", CLEAN)


async def test_aclose_of_a_torn_stream_is_a_reset_at_once(ends: Ends, kind: str) -> None:
    """It cannot be finished."""
    socket, peer = ends
    async with open_initiator():
        args = SocketAsyncEventArgs(BIG)
        assert socket.send_async(args) is True
        assert args.cancel() is True
        await socket.aclose()
        assert socket.fileno() == -1
    assert (await end_of(peer))[1] == a_reset(kind)


async def test_aclose_of_sockets_in_all_states(stack: ExitStack) -> None:
    """It is always a checkpoint, and leaves a closed socket."""
    listener = Socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    broken, gone = socketpair()
    gone.close()
    with pytest.raises(SocketException):
        await broken.send(b"x")
    closed = Socket()
    closed.close()
    datagrams = Socket(type=stdlib_socket.SOCK_DGRAM)
    await datagrams.connect(("127.0.0.1", 9))
    for socket in (
        Socket(),
        Socket(type=stdlib_socket.SOCK_DGRAM),
        datagrams,
        listener,
        broken,
        closed,
        Socket.from_port(ScriptedPort()),
    ):
        with assert_checkpoints():
            await socket.aclose()
        with assert_checkpoints():
            await socket.aclose()
        assert socket.fileno() == -1
        assert not socket.connected


async def test_aclose_tells_the_peer_although_somebody_else_holds_the_descriptor(
    ends: Ends, stack: ExitStack
) -> None:
    """A child process, say. The end is told, not left to the last close."""
    socket, peer = ends
    twin = stack.enter_context(stdlib_socket.socket(fileno=os.dup(socket.fileno())))
    await socket.send(b"hello")
    await socket.aclose()
    assert await read_exactly(peer, 5) == b"hello"
    assert not nothing_to_read(peer)
    assert await read_some(peer) == b""
    assert twin.fileno() >= 0


async def test_aclose_by_several_tasks_at_once(ends: Ends) -> None:
    socket, peer = ends
    data: list[tuple[bytes, str]] = []

    async def read() -> None:
        data.append(await end_of(peer))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(socket.send, BIG)
        await wait_all_tasks_blocked()
        for _ in range(3):
            nursery.start_soon(socket.aclose)
        await wait_all_tasks_blocked()
        nursery.start_soon(read)
    assert data == [(BIG, CLEAN)]


@pytest.mark.parametrize("late", [b"late", BIG], ids=["small", "big"])
async def test_what_is_started_behind_an_aclose(ends: Ends, kind: str, late: bytes) -> None:
    """It may still be sent, or be cut by the close; and then the peer must not take it for a whole message (F210)."""
    socket, peer = ends
    data: list[tuple[bytes, str]] = []

    async def read() -> None:
        data.append(await end_of(peer))

    async with open_initiator(), trio.open_nursery() as nursery:
        nursery.start_soon(socket.send, BIG)
        await wait_all_tasks_blocked()
        nursery.start_soon(socket.aclose)
        await wait_all_tasks_blocked()
        args = SocketAsyncEventArgs(late)
        assert socket.send_async(args) is True
        nursery.start_soon(read)
        count = await args.wait()
    [(received, end)] = data
    whole = count == len(late)
    assert (args.socket_error is SocketError.SUCCESS) == whole
    assert end == (CLEAN if whole or count == 0 else a_reset(kind))
    if end == CLEAN:
        assert received == BIG + late[:count]
    else:
        assert (BIG + late[:count]).startswith(received)


async def test_async_with(kind: str) -> None:
    """Left normally it drains and ends cleanly."""
    left, peer = stdlib_pair(kind, tiny=True)
    peer.setblocking(False)
    data: list[tuple[bytes, str]] = []

    async def read() -> None:
        data.append(await end_of(peer))

    with peer:
        async with open_initiator(), trio.open_nursery() as nursery:
            async with Socket.from_stdlib(left) as socket:
                args = SocketAsyncEventArgs(BIG)
                assert socket.send_async(args) is True
                nursery.start_soon(read)
            assert socket.fileno() == -1
        assert data == [(BIG, CLEAN)]
        assert args.socket_error is SocketError.SUCCESS


@pytest.mark.parametrize("how", ["exception", "cancelled"])
async def test_async_with_that_is_left_early(kind: str, how: str) -> None:
    """It closes at once, and the exception goes on its way."""
    left, peer = stdlib_pair(kind, tiny=True)
    peer.setblocking(False)
    args = SocketAsyncEventArgs(BIG)
    with peer:
        async with open_initiator():
            if how == "exception":
                with pytest.raises(KeyError):
                    async with Socket.from_stdlib(left) as socket:
                        assert socket.send_async(args) is True
                        raise KeyError
            else:
                with trio.CancelScope() as scope:
                    async with Socket.from_stdlib(left) as socket:
                        assert socket.send_async(args) is True
                        scope.cancel()
                        await trio.lowlevel.checkpoint()
                assert scope.cancelled_caught
            assert socket.fileno() == -1
            await args.wait()
            assert args.socket_error is SocketError.OPERATION_ABORTED
        assert (await end_of(peer))[1] == a_reset(kind)


async def test_a_closed_socket_refuses_everything(unix: Ends) -> None:
    """With one error that is also Trio's for the same."""
    socket, _ = unix
    async with open_initiator():
        socket.close()
        assert socket.fileno() == -1
        assert not socket.connected
        assert socket.queued_operations == 0
        assert socket.torn is None
        for name, call in synchronous_calls(socket).items():
            if name != "close":
                with pytest.raises(
                    ObjectDisposedError, match=r"^this socket was closed$"
                ) as caught:
                    call()
                assert isinstance(caught.value, trio.ClosedResourceError)
        for name, start in asynchronous_calls(socket).items():
            if name != "aclose":
                with pytest.raises(ObjectDisposedError, match=r"^this socket was closed$"):
                    await start()
        for name in ("local_end_point", "remote_end_point", "trio"):
            with pytest.raises(ObjectDisposedError, match=r"^this socket was closed$"):
                getattr(socket, name)


async def test_a_handler_may_close_the_socket(ends: Ends) -> None:
    """The others hear of it after that, each once; none is lost."""
    socket, peer = ends
    told: list[tuple[object, SocketError]] = []

    def handler(sender: Socket, args: SocketAsyncEventArgs) -> None:
        told.append((args.user_token, args.socket_error))
        sender.close(reset=False)

    async with open_initiator():
        for number, data in enumerate((BIG, b"small", BIG, b"x")):
            args = SocketAsyncEventArgs(data, user_token=number)
            args.completed += handler
            assert socket.send_async(args) is True
        received = await read_exactly(peer, len(BIG))
        assert received == BIG
        rest, end = await end_of(peer)
    assert end == CLEAN
    success, aborted = SocketError.SUCCESS, SocketError.OPERATION_ABORTED
    # How far the kernel had got by the time of the first handler is its business.
    finished = 2 if rest.startswith(b"small") else 1
    assert told == [(number, success if number < finished else aborted) for number in range(4)]
    assert (b"small" + BIG + b"x").startswith(rest)


# Descriptors ----------------------------------------------------------------------------------


@pytest.mark.parametrize("owner", ["an initiator", "a task"])
@pytest.mark.parametrize("sockets", [1, 3])
async def test_a_descriptor_that_is_reused_gets_no_byte_of_a_closed_socket(
    owner: str, sockets: int, stack: ExitStack
) -> None:
    """The number may belong to somebody else a moment after the close."""
    errors: list[int] = []

    async def send(socket: Socket) -> None:
        with pytest.raises(SocketException) as caught:
            await socket.send(BIG)
        errors.append(caught.value.error_code)

    async with open_initiator(), trio.open_nursery() as nursery:
        for _ in range(5):
            old = [stdlib_pair("unix", tiny=True) for _ in range(sockets)]
            ours = [Socket.from_stdlib(left) for left, _ in old]
            numbers = sorted(socket.fileno() for socket in ours)
            for socket in ours:
                if owner == "a task":
                    nursery.start_soon(send, socket)
                else:
                    assert not socket.begin_send(BIG).is_completed
                    assert not socket.begin_send(BIG).is_completed
            await wait_all_tasks_blocked()
            for socket in ours:
                socket.close()
            with ExitStack() as new:
                pairs = []
                taken: list[int] = []
                while not set(numbers) <= set(taken):
                    pair = stdlib_socket.socketpair()
                    for end in pair:
                        new.enter_context(end)
                        end.setblocking(False)
                        taken.append(end.fileno())
                    pairs.append(pair)
                for _, peer in old:
                    while peer.recv(65536):  # makes room, and then there is the end
                        pass
                    peer.close()
                await wait_all_tasks_blocked()
                for pair in pairs:
                    assert nothing_to_read(pair[0])
                    assert nothing_to_read(pair[1])
    assert errors == ([995] * 5 * sockets if owner == "a task" else [])


@pytest.mark.parametrize("owner", ["an initiator", "a task"])
async def test_a_socket_on_a_reused_descriptor_is_served(owner: str) -> None:
    """What the engine knew of the number is no obstacle, whether it was watched or silent when it was closed."""
    numbers = set()
    async with open_initiator(), trio.open_nursery() as nursery:
        for round_number in range(6):
            with connected("unix") as (socket, peer):
                numbers.add(socket.fileno())
                for _ in range(2):
                    if owner == "a task":
                        nursery.start_soon(socket.send, BIG)
                        await wait_all_tasks_blocked()
                    else:
                        result = socket.begin_send(BIG)
                        await wait_all_tasks_blocked()
                        assert not result.is_completed
                    assert await read_exactly(peer, len(BIG)) == BIG
                    await wait_all_tasks_blocked()
                if round_number % 2 and owner != "a task":
                    socket.begin_send(BIG)
                    await wait_all_tasks_blocked()
    assert len(numbers) == 1


async def use(kind: str) -> None:
    """Do a little of everything."""
    with connected(kind) as (socket, peer):
        async with open_initiator(), trio.open_nursery() as nursery:
            args = SocketAsyncEventArgs(BIG)
            assert socket.send_async(args) is True
            nursery.start_soon(socket.send, b"awaited")
            await wait_all_tasks_blocked()
            result = socket.begin_send(BIG)
            assert await read_exactly(peer, len(BIG) + 7) == BIG + b"awaited"
            await args.wait()
            result.cancel()
            assert socket.trio.fileno() == socket.fileno()
    with closing(Socket(HOSTS["tcp4"][0])) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        async with open_initiator():
            waiting = SocketAsyncEventArgs()
            assert listener.accept_async(waiting) is True
            async with Socket() as client:
                await client.connect(listener.local_end_point)
                await waiting.wait()
                assert waiting.accept_socket is not None
                waiting.accept_socket.close()
            with pytest.raises(SocketException):
                async with Socket() as client:
                    await client.connect(("127.0.0.1", 0))


@needs_proc
@pytest.mark.filterwarnings("error::ResourceWarning")
def test_no_descriptor_and_no_warning_is_left(kind: str) -> None:
    """Neither by operations that were cut off, nor by the engine."""

    trio.run(trio.lowlevel.checkpoint)
    before = open_descriptors()
    for _ in range(3):
        trio.run(use, kind)
        gc.collect()
        assert open_descriptors() == before


@needs_proc
@pytest.mark.filterwarnings("error::ResourceWarning")
def test_cancelled_runs_leave_nothing_either(kind: str) -> None:
    async def main() -> None:
        with connected(kind) as (socket, _), trio.CancelScope() as scope:
            async with open_initiator(), trio.open_nursery() as nursery:
                assert socket.send_async(SocketAsyncEventArgs(BIG)) is True
                nursery.start_soon(socket.send, BIG)
                nursery.start_soon(socket.receive)
                await wait_all_tasks_blocked()
                scope.cancel()

    trio.run(trio.lowlevel.checkpoint)
    before = open_descriptors()
    for _ in range(3):
        trio.run(main)
        gc.collect()
        assert open_descriptors() == before


@needs_proc
async def test_an_initiator_that_was_left_has_nothing_open_and_is_held_by_no_closed_socket(
    unix: Ends,
) -> None:
    """At once, not when the collector gets round to it."""
    socket, _ = unix
    before = open_descriptors()
    async with open_initiator() as initiator:
        assert socket.send_async(SocketAsyncEventArgs(BIG)) is True
        await wait_all_tasks_blocked()
    assert open_descriptors() == before
    reference = weakref.ref(initiator)
    del initiator
    socket.close()
    gc.collect()
    assert reference() is None


@pytest.mark.parametrize("state", ["new", "used", "pending", "with a trio face"])
async def test_a_closed_socket_that_nobody_needs_is_gone(state: str) -> None:
    """The initiator it was used in is still there; without the collector of cycles if it was not seen by trio."""
    async with open_initiator():
        left, right = stdlib_socket.socketpair()
        with right:
            socket = Socket.from_stdlib(left)
            if state == "used":
                assert socket.send_async(SocketAsyncEventArgs(b"x")) is False
            elif state == "pending":
                socket.begin_send(bytes(50_000_000))
            elif state == "with a trio face":
                assert socket.trio.fileno() >= 0
            await wait_all_tasks_blocked()
            socket.close()
            await wait_all_tasks_blocked()
            reference = weakref.ref(socket)
            del socket
            gc.collect()
            assert reference() is None


# Who may use it -------------------------------------------------------------------------------


def synchronous_calls(socket: Socket) -> dict[str, Callable[[], object]]:
    """A call of each synchronous method that uses the socket, with arguments that are fine."""
    args = SocketAsyncEventArgs(b"x")
    args.remote_end_point = ("127.0.0.1", 9)
    return {
        "send_async": lambda: socket.send_async(args),
        "begin_send": lambda: socket.begin_send(b"x"),
        "try_begin_send": lambda: socket.try_begin_send(b"x"),
        "resume": lambda: socket.resume(args),
        "forget_torn": lambda: socket.forget_torn(),
        "bind": lambda: socket.bind(("127.0.0.1", 0)),
        "listen": lambda: socket.listen(),
        "connect_async": lambda: socket.connect_async(args),
        "begin_connect": lambda: socket.begin_connect(("127.0.0.1", 9)),
        "accept_async": lambda: socket.accept_async(args),
        "begin_accept": lambda: socket.begin_accept(),
        "shutdown": lambda: socket.shutdown(SocketShutdown.BOTH),
        "audit": lambda: socket.audit(),
        "close": lambda: socket.close(),
    }


def asynchronous_calls(socket: Socket) -> dict[str, Callable[[], Any]]:
    """The same for the asynchronous methods."""
    return {
        "send": lambda: socket.send(b"x"),
        "send args": lambda: socket.send(SocketAsyncEventArgs(b"x")),
        "send_rest": lambda: socket.send_rest(),
        "receive": lambda: socket.receive(),
        "receive_into": lambda: socket.receive_into(bytearray(1)),
        "connect": lambda: socket.connect(("127.0.0.1", 9)),
        "accept": lambda: socket.accept(),
        "wait_acknowledged": lambda: socket.wait_acknowledged(),
        "aclose": lambda: socket.aclose(),
    }


WRONG_THREAD = (
    r"^this socket belongs to another thread; from here, start operations with "
    r"trio_send\.from_thread\.start\(\), or call it there, for example with trio\.from_thread\.run_sync\(\)$"
)


async def test_another_thread_is_refused_and_changes_nothing(unix: Ends) -> None:
    """Also one that trio started, which inherits the initiator; the sentence tells what to do instead."""
    socket, peer = unix
    async with open_initiator():
        assert await socket.send(b"x") == 1
        pending = socket.begin_send(BIG)
        done = SocketAsyncEventArgs(b"")
        for name, call in synchronous_calls(socket).items():
            with pytest.raises(InvalidOperationError, match=WRONG_THREAD):
                await trio.to_thread.run_sync(call)
            assert socket.fileno() >= 0, name
        for name, start in asynchronous_calls(socket).items():

            def run_there(start: Callable[[], Any] = start) -> None:
                trio.run(start)

            with pytest.raises(InvalidOperationError, match=WRONG_THREAD):
                await trio.to_thread.run_sync(run_there)
            assert socket.fileno() >= 0, name
        for end in (socket.end_send_nowait, socket.try_end_send_nowait):
            with pytest.raises(InvalidOperationError, match=WRONG_THREAD):
                await trio.to_thread.run_sync(end, pending)
        with pytest.raises(InvalidOperationError, match=WRONG_THREAD):
            await trio.to_thread.run_sync(trio.run, socket.end_send, pending)
        assert socket.queued_operations == 1
        assert await read_exactly(peer, len(BIG) + 1) == b"x" + BIG
        assert await socket.end_send(pending) == len(BIG)
        # With nothing queued, and an initiator that the socket knows.
        assert socket.send_async(done) is False
        with pytest.raises(InvalidOperationError, match=WRONG_THREAD):
            await trio.to_thread.run_sync(socket.send_async, SocketAsyncEventArgs(b"x"))
    assert nothing_to_read(peer)


async def test_a_thread_may_call_in_by_way_of_trio(unix: Ends) -> None:
    """As the sentence says."""
    socket, peer = unix
    async with open_initiator():

        def in_thread() -> int:
            result = trio.from_thread.run_sync(socket.begin_send, b"hello")
            return trio.from_thread.run(socket.end_send, result)

        assert await trio.to_thread.run_sync(in_thread) == 5
    assert await read_exactly(peer, 5) == b"hello"


ANOTHER_RUN = r"^this socket was used in another call of trio\.run\(\), whose tasks are gone"


@pytest.mark.parametrize("first", ["send_async", "begin_send", "send", "receive"])
def test_a_second_run_is_refused_and_may_only_close(first: str) -> None:
    """A socket belongs to the run in which it was first used."""
    with connected("unix") as (socket, peer):

        async def first_run() -> None:
            async with open_initiator():
                if first == "send_async":
                    socket.send_async(SocketAsyncEventArgs(b""))
                elif first == "begin_send":
                    socket.begin_send(b"")
                elif first == "send":
                    await socket.send(b"")
                else:
                    peer.send(b"x")
                    await socket.receive()

        async def second_run() -> None:
            async with open_initiator():
                for name, call in synchronous_calls(socket).items():
                    if name != "close":
                        with pytest.raises(InvalidOperationError, match=ANOTHER_RUN):
                            call()
                for name, start in asynchronous_calls(socket).items():
                    if name != "aclose":
                        with pytest.raises(InvalidOperationError, match=ANOTHER_RUN):
                            await start()
            assert socket.fileno() >= 0
            socket.close()

        trio.run(first_run)
        trio.run(second_run)
        assert socket.fileno() == -1
        assert peer.recv(1) == b""


def test_a_socket_may_be_set_up_and_closed_outside_of_trio() -> None:
    """Only what waits needs a run."""
    with closing(Socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        async def main() -> None:
            async with Socket() as client:
                await client.connect(listener.local_end_point)
                (await listener.accept()).close()

        trio.run(main)
        with pytest.raises(InvalidOperationError, match=r"^no initiator is open here"):
            listener.begin_accept()
    with connected("unix") as (socket, _):
        for start in (
            lambda: socket.begin_send(b"x"),
            lambda: socket.send_async(SocketAsyncEventArgs(b"x")),
        ):
            with pytest.raises(InvalidOperationError, match=r"^no initiator is open here"):
                start()


async def test_shutting_down_what_is_not_connected() -> None:
    with closing(Socket()) as socket:
        with pytest.raises(SocketException) as caught:
            socket.shutdown(SocketShutdown.SEND)
        assert caught.value.socket_error_code is SocketError.NOT_CONNECTED
        assert caught.value.native_error_code == errno.ENOTCONN
        for nonsense in (3, -1, None):
            with pytest.raises(
                ValueError, match=r"^how is .*, but must be a SocketShutdown, such as "
            ):
                socket.shutdown(nonsense)  # type: ignore[arg-type]
