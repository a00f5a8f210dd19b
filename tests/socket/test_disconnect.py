"""Hold disconnecting to what it says, in both its faces. The peers are plain sockets.

Modules: _socket.connection_end.
"""

from __future__ import annotations

import errno
import socket as stdlib_socket
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

from tests.connections import full
from tests.files import open_descriptors
from tests.helpers import (
    BIG,
    Ends,
    Told,
    ends as ends,
    kind as kind,
    never_called,
    read_exactly,
    read_to_end,
    reset,
    stack as stack,
    tcp as tcp,
)
from trio_send import (
    InvalidOperationError,
    ObjectDisposedError,
    OperationInProgressError,
    Socket,
    SocketAsyncEventArgs,
    SocketAsyncOperation,
    SocketError,
    SocketException,
    SocketShutdown,
    TracedOperation,
    add_instrument,
    open_initiator,
)
from trio_send._owners.exiting_owner import START_BUDGET
from trio_send.abc import Instrument
from trio_send.testing import ScriptedPort

every_face = pytest.mark.parametrize("face", ["disconnect", "disconnect_async"])


async def disconnect_through(face: str, socket: Socket, *, reuse_socket: bool = False) -> None:
    """Disconnect; raise what went wrong."""
    if face == "disconnect":
        await socket.disconnect(reuse_socket=reuse_socket)
        return
    args = SocketAsyncEventArgs(b"not looked at")
    args.completed += never_called
    args.disconnect_reuse_socket = reuse_socket
    assert socket.disconnect_async(args) is False
    assert args.last_operation is SocketAsyncOperation.DISCONNECT
    assert args.bytes_transferred == 0
    assert args.outcome is not None
    args.outcome.unwrap()


@pytest.mark.fact("F251")
@every_face
async def test_the_peer_gets_everything_and_then_the_end(ends: Ends, face: str) -> None:
    """At once; from then on nothing can be sent, and there is nothing to receive."""
    socket, peer = ends
    async with open_initiator():
        assert await socket.send(b"last words") == 10
        await disconnect_through(face, socket)
        assert not socket.connected
        assert socket.fileno() >= 0
        assert await read_to_end(peer) == b"last words"
        with pytest.raises(SocketException) as caught:
            await socket.send(b"x")
        assert caught.value.socket_error_code is SocketError.SHUTDOWN
        args = SocketAsyncEventArgs(b"x")
        assert socket.send_async(args) is False
        assert args.socket_error is SocketError.SHUTDOWN
        assert await socket.receive() == b""
        with pytest.raises(SocketException) as caught:
            await socket.connect(peer.getsockname())
        assert caught.value.socket_error_code is SocketError.IS_CONNECTED


@pytest.mark.fact("F215", "F251")
@pytest.mark.parametrize("reuse_socket", [False, True])
@every_face
async def test_what_is_pending_ends(ends: Ends, face: str, reuse_socket: bool) -> None:
    """Sends with SHUTDOWN and their counts, receives with the end; all of them once."""
    socket, peer = ends
    told = Told()
    async with open_initiator():
        assert socket.receive_async(told.args("received", bytearray(8))) is True
        cut = told.args("cut", BIG)
        assert socket.send_async(cut) is True
        assert socket.send_async(told.args("behind")) is True
        reading = socket.begin_receive(bytearray(8))
        await wait_all_tasks_blocked()
        await disconnect_through(face, socket, reuse_socket=reuse_socket)
        await wait_all_tasks_blocked()
        count = cut.bytes_transferred
        assert sorted(told.events) == [
            ("behind", SocketError.SHUTDOWN, 0),
            ("cut", SocketError.SHUTDOWN, count),
            ("received", SocketError.SUCCESS, 0),
        ]
        assert 0 < count < len(BIG)
        assert await socket.end_receive(reading) == 0
        assert socket.torn is None
        assert await read_to_end(peer) == BIG[:count]


@every_face
async def test_a_socket_that_is_to_be_reused_is_connected_again(
    tcp: Ends, face: str, stack: ExitStack
) -> None:
    """On a fresh descriptor, in the same object, with whoever waits at the old one set free."""
    socket, peer = tcp
    listener = stack.enter_context(stdlib_socket.create_server(("127.0.0.1", 0)))
    async with open_initiator():
        assert await socket.send(b"first") == 5
        before = socket.trio
        await disconnect_through(face, socket, reuse_socket=True)
        assert await read_to_end(peer) == b"first"
        assert not socket.connected
        assert before.fileno() == -1
        assert socket.queued_operations == 0
        for start in (socket.send_async, socket.receive_async):
            args = SocketAsyncEventArgs(bytearray(b"x"))
            assert start(args) is False
            assert args.socket_error is SocketError.NOT_CONNECTED
        await socket.connect(listener.getsockname())
        assert socket.connected
        other = stack.enter_context(listener.accept()[0])
        other.setblocking(False)
        told = Told()
        sent = told.args("sent", BIG)
        received = told.args("received", bytearray(8))
        assert socket.receive_async(received) is True
        socket.send_async(sent)
        other.send(b"hello")
        assert await read_exactly(other, len(BIG)) == BIG
        assert await received.wait() == 5
        await sent.wait()
        assert socket.trio is not before
        assert socket.trio.fileno() == socket.fileno()
        audit = socket.audit()
        assert audit.bytes_accepted == 5 + len(BIG)
        assert audit.agrees


@every_face
async def test_a_torn_stream_is_whole_again_on_a_fresh_descriptor(
    tcp: Ends, face: str, stack: ExitStack
) -> None:
    """The operation that was cut is an ordinary idle one then."""
    socket, _ = tcp
    listener = stack.enter_context(stdlib_socket.create_server(("127.0.0.1", 0)))
    args = SocketAsyncEventArgs(BIG)
    async with open_initiator():
        assert socket.send_async(args) is True
        args.cancel()
        await args.wait()
        assert socket.torn is not None
        await disconnect_through(face, socket, reuse_socket=True)
        assert socket.torn is None
        await socket.connect(listener.getsockname())
        args.set_buffer(b"hello")
        assert socket.send_async(args) is False
        assert args.bytes_transferred == 5


class Closer(Instrument):
    """Closes a socket as soon as an operation has ended."""

    def __init__(self, socket: Socket) -> None:
        self.socket = socket

    def operation_completed(self, *_: object) -> None:
        self.socket.close()


@every_face
async def test_a_socket_that_is_closed_in_the_middle_stays_closed(tcp: Ends, face: str) -> None:
    """No descriptor is left behind."""
    socket, _ = tcp
    told = Told()
    async with open_initiator():
        assert socket.receive_async(told.args("received", bytearray(8))) is True
        with add_instrument(Closer(socket)):
            await disconnect_through(face, socket, reuse_socket=True)
        assert socket.fileno() == -1
        with pytest.raises(ObjectDisposedError):
            await socket.connect(("127.0.0.1", 1))
    assert len(told.events) == 1


class MeddledSocket(stdlib_socket.socket):
    """A socket of the system in whose calls something else happens.

    Attributes:
      received: called in front of each call that receives.
      error: what a shutdown fails with, if it does.
      options: the numbers of the options that were set.
    """

    received: Callable[[], object] | None = None
    error: OSError | None = None
    options: tuple[int, ...] = ()

    def setsockopt(self, level: int, name: int, *value: Any) -> None:
        self.options += (name,)
        super().setsockopt(level, name, *value)

    def recv_into(self, *arguments: Any) -> int:
        if self.received is not None:
            self.received()
        return super().recv_into(*arguments)

    def shutdown(self, how: int) -> None:
        if self.error is not None:
            raise self.error
        super().shutdown(how)


def meddled(stack: ExitStack) -> tuple[MeddledSocket, stdlib_socket.socket]:
    """A connected pair, of which nobody has closed the first."""
    left, peer = stdlib_socket.socketpair()
    stack.enter_context(peer)
    return MeddledSocket(left.family, left.type, left.proto, left.detach()), peer


@every_face
async def test_a_socket_that_is_closed_while_its_descriptor_is_replaced_stays_closed(
    face: str, stack: ExitStack
) -> None:
    """By what runs in the last attempt of a receive: the connection as it is asked for, and both descriptors."""
    before = open_descriptors()
    plain, _ = meddled(stack)
    socket = Socket.from_stdlib(plain)
    told = Told()
    async with open_initiator():
        assert socket.receive_async(told.args("received", bytearray(8))) is True
        plain.received = partial(socket.close, reset=True)
        await disconnect_through(face, socket, reuse_socket=True)
        assert plain.fileno() == socket.fileno() == -1
        assert plain.options == (stdlib_socket.SO_LINGER,)
        with pytest.raises(ObjectDisposedError):
            await socket.connect(("127.0.0.1", 1))
    assert told.events == [("received", SocketError.SUCCESS, 0)]
    stack.close()
    assert open_descriptors() == before


@every_face
async def test_a_disconnect_that_the_system_refuses_leaves_the_connection_as_it_is(
    face: str, stack: ExitStack
) -> None:
    """And no fresh descriptor open."""
    plain, peer = meddled(stack)
    socket = stack.enter_context(closing(Socket.from_stdlib(plain)))
    async with open_initiator():
        before = open_descriptors()
        for reuse_socket in (False, True):
            plain.error = OSError(errno.ENOBUFS, "no room")
            with pytest.raises(SocketException) as caught:
                await disconnect_through(face, socket, reuse_socket=reuse_socket)
            assert caught.value.socket_error_code is SocketError.NO_BUFFER_SPACE_AVAILABLE
            assert open_descriptors() == before
            assert socket.connected
            assert await socket.send(b"hello") == 5
            assert peer.recv(9) == b"hello"
        plain.error = None
        await disconnect_through(face, socket)
        assert not socket.connected


@every_face
async def test_a_connection_that_the_peer_has_reset(tcp: Ends, face: str, stack: ExitStack) -> None:
    """It has ended, which is what was asked for; also for a socket that is to be reused."""
    socket, peer = tcp
    listener = stack.enter_context(stdlib_socket.create_server(("127.0.0.1", 0)))
    reset(peer)
    with pytest.raises(SocketException):
        await socket.receive()
    async with open_initiator():
        await disconnect_through(face, socket)
        assert not socket.connected
        await disconnect_through(face, socket, reuse_socket=True)
        await socket.connect(listener.getsockname())
        assert await socket.send(b"x") == 1
        # The peer has not read the byte, and so resets the connection.
        listener.accept()[0].close()
        with pytest.raises(SocketException):
            await socket.receive()
        await disconnect_through(face, socket, reuse_socket=True)
        await socket.connect(listener.getsockname())
        listener.accept()[0].close()
        assert await socket.receive() == b""


@every_face
async def test_the_next_connection_breaks_with_a_cause_of_its_own(
    tcp: Ends, face: str, stack: ExitStack
) -> None:
    """Not with the one that the connection before it has ended with."""
    socket, _ = tcp
    listener = stack.enter_context(stdlib_socket.create_server(("127.0.0.1", 0)))
    async with open_initiator():
        await disconnect_through(face, socket, reuse_socket=True)
        await socket.connect(listener.getsockname())
        assert await socket.send(b"x") == 1
        # The peer has not read the byte, and so resets the connection.
        listener.accept()[0].close()
        with pytest.raises(SocketException) as received:
            await socket.receive()
        assert received.value.socket_error_code is SocketError.CONNECTION_RESET
        args = SocketAsyncEventArgs(b"later")
        assert socket.send_async(args) is False
        assert args.socket_error is SocketError.CONNECTION_RESET


class Ended(Instrument):
    """Notes what has ended."""

    def __init__(self) -> None:
        self.seen: list[tuple[SocketAsyncOperation, SocketError]] = []

    def operation_completed(
        self, operation: TracedOperation, error: SocketError, *_: object
    ) -> None:
        self.seen.append((operation.kind, error))


@every_face
async def test_instruments_are_told_of_it(tcp: Ends, face: str) -> None:
    socket, _ = tcp
    instrument = Ended()
    async with open_initiator():
        with add_instrument(instrument):
            await disconnect_through(face, socket)
    assert instrument.seen == [(SocketAsyncOperation.DISCONNECT, SocketError.SUCCESS)]


@every_face
async def test_a_socket_without_a_peer(face: str) -> None:
    """Never connected, being connected, or listening."""
    with full() as listener, ExitStack() as stack:
        sockets = [stack.enter_context(closing(Socket())) for _ in range(3)]
        async with open_initiator():
            sockets[1].begin_connect(listener.getsockname())
            sockets[2].bind(("127.0.0.1", 0))
            sockets[2].listen()
            for socket in sockets:
                for reuse_socket in (False, True):
                    with pytest.raises(SocketException) as caught:
                        await disconnect_through(face, socket, reuse_socket=reuse_socket)
                    assert caught.value.socket_error_code is SocketError.NOT_CONNECTED
                    assert "byte" not in str(caught.value)
            assert sockets[1].queued_operations == 1


@every_face
async def test_a_port_has_no_fresh_descriptor(face: str) -> None:
    port = ScriptedPort()
    with closing(Socket.from_port(port)) as socket:
        async with open_initiator():
            with pytest.raises(SocketException, match=r"can only send$"):
                await disconnect_through(face, socket, reuse_socket=True)
            assert await socket.send(b"x") == 1
            assert port.shut_down == []


@every_face
async def test_a_port_that_can_be_shut_down(face: str) -> None:
    port = ScriptedPort()
    with closing(Socket.from_port(port)) as socket:
        async with open_initiator():
            await disconnect_through(face, socket)
        assert not socket.connected
        assert port.shut_down == [SocketShutdown.BOTH]


@pytest.mark.parametrize("reuse_socket", [False, True])
async def test_a_datagram_socket(reuse_socket: bool) -> None:
    """It loses its default remote host."""
    with stdlib_socket.socket(type=stdlib_socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        with closing(Socket(type=stdlib_socket.SOCK_DGRAM)) as socket:
            await socket.connect(peer.getsockname())
            await socket.disconnect(reuse_socket=reuse_socket)
            assert not socket.connected
            with pytest.raises(SocketException) as caught:
                await socket.send(b"x")
            code = SocketError.NOT_CONNECTED if reuse_socket else SocketError.SHUTDOWN
            assert caught.value.socket_error_code is code
            if reuse_socket:
                await socket.connect(peer.getsockname())
                assert await socket.send(b"x") == 1


async def test_disconnecting_is_always_a_checkpoint(tcp: Ends) -> None:
    socket, _ = tcp
    with assert_checkpoints():
        await socket.disconnect(reuse_socket=True)
    with assert_checkpoints():
        with pytest.raises(SocketException):
            await socket.disconnect()


async def test_a_disconnect_in_a_scope_that_was_cancelled_before_does_nothing(tcp: Ends) -> None:
    socket, _ = tcp
    with trio.CancelScope() as scope:
        scope.cancel()
        await socket.disconnect()
    assert scope.cancelled_caught
    assert socket.connected


async def test_the_order_of_the_checks_of_a_disconnect(tcp: Ends) -> None:
    socket, peer = tcp
    closed = SocketAsyncEventArgs()
    closed.close()
    ready = SocketAsyncEventArgs()
    with pytest.raises(TypeError, match=r"^args must be a SocketAsyncEventArgs"):
        socket.disconnect_async(None)  # type: ignore[arg-type]
    with pytest.raises(ObjectDisposedError, match=r"^these args were closed"):
        socket.disconnect_async(closed)
    with pytest.raises(InvalidOperationError, match=r"^no initiator is open"):
        socket.disconnect_async(ready)
    async with open_initiator():
        in_use = SocketAsyncEventArgs(bytearray(8))
        assert socket.receive_async(in_use) is True
        with pytest.raises(OperationInProgressError):
            socket.disconnect_async(in_use)
        peer.send(b"x")
        await in_use.wait()
    assert ready.last_operation is SocketAsyncOperation.NONE
    assert socket.connected
    socket.close()
    with pytest.raises(ObjectDisposedError, match=r"^this socket was closed"):
        socket.disconnect_async(closed)
    with pytest.raises(ObjectDisposedError, match=r"^this socket was closed"):
        await socket.disconnect()


async def test_a_disconnect_while_its_initiator_is_left_does_nothing(tcp: Ends) -> None:
    socket, _ = tcp
    told = Told()
    errors: list[SocketError] = []

    def disconnect(_: Socket, args: SocketAsyncEventArgs) -> None:
        assert socket.disconnect_async(args) is False
        errors.append(args.socket_error)

    async with open_initiator():
        args = told.args("args", bytearray(8))
        args.completed += disconnect
        assert socket.receive_async(args) is True
    assert errors == [SocketError.OPERATION_ABORTED]
    assert socket.connected


async def test_disconnects_that_never_wait_yield_now_and_then(tcp: Ends) -> None:
    socket, _ = tcp
    told = Told()
    args = told.args("args")
    async with open_initiator():
        for _ in range(START_BUDGET):
            assert socket.disconnect_async(args) is False
        assert socket.disconnect_async(args) is True
        assert args.socket_error is SocketError.IO_PENDING
        await args.wait()
    assert told.events == [("args", SocketError.SUCCESS, 0)]
