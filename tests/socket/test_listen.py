"""Hold binding, listening and accepting to what they say, in their three faces.

Those who connect are plain sockets of the standard library.
"""

from __future__ import annotations

import errno
import gc
import os
import socket as stdlib_socket
import sys
import weakref
from contextlib import ExitStack, closing
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.connections import (
    accept_through,
    address as address,
    every_accept,
    family,
    listener as listener,
    ours as ours,
)
from tests.helpers import (
    BIG,
    KINDS,
    connected,
    kind as kind,
    nothing_to_read,
    read_exactly,
    stack as stack,
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
    open_initiator,
)
from trio_send._base.errors import SocketClosedError


@pytest.fixture
def server(ours: Socket, address: Any) -> Socket:
    """One of ours that listens."""
    ours.bind(address)
    ours.listen()
    return ours


def client(socket: Socket, stack: ExitStack) -> stdlib_socket.socket:
    """A plain socket that has connected to one of ours."""
    sock = stack.enter_context(stdlib_socket.socket(socket.family))
    sock.connect(socket.local_end_point)
    sock.setblocking(False)
    return sock


@pytest.mark.page("B20", "S16")
@pytest.mark.fact("F248")
@every_accept
@pytest.mark.parametrize("first", ["the connection", "the accept"])
async def test_accepting(
    server: Socket, stack: ExitStack, kind: str, face: str, first: str
) -> None:
    """Whichever comes first; the accepted socket is connected, and of the listener's kind (F248)."""
    assert not server.connected
    accepted: list[Socket] = []

    async def accept() -> None:
        accepted.append(await accept_through(face, server))

    async with open_initiator(), trio.open_nursery() as nursery:
        if first == "the accept":
            nursery.start_soon(accept)
            await wait_all_tasks_blocked()
            peer = client(server, stack)
        else:
            peer = client(server, stack)
            nursery.start_soon(accept)
        await wait_all_tasks_blocked()
        [socket] = accepted
        with closing(socket):
            assert socket.connected
            assert socket.family == family(kind)
            assert socket.remote_end_point == peer.getsockname()
            assert socket.local_end_point == server.local_end_point
            assert await socket.send(b"welcome") == 7
            assert await read_exactly(peer, 7) == b"welcome"
            peer.send(b"thanks")
            assert await socket.receive() == b"thanks"
        assert not server.connected


async def test_waiting_accepts_are_served_in_their_order(server: Socket, stack: ExitStack) -> None:
    """Whatever their faces; one connection each, and a connection that came early goes to the first."""
    made: dict[str, Socket] = {}

    async def accept() -> None:
        made["third"] = await server.accept()

    async with open_initiator(), trio.open_nursery() as nursery:
        first = SocketAsyncEventArgs()
        first.completed += lambda _, e: made.__setitem__("first", e.accept_socket)
        assert server.accept_async(first) is True
        second = server.begin_accept()
        nursery.start_soon(accept)
        await wait_all_tasks_blocked()
        last = SocketAsyncEventArgs()
        assert server.accept_async(last) is True
        clients = []
        for name in ("first", "second", "third"):
            clients.append(client(server, stack))
            clients[-1].send(name.encode())
        await first.wait()
        made["second"] = await server.end_accept(second)
        await wait_all_tasks_blocked()
        for name, socket in made.items():
            stack.callback(socket.close)
            assert await socket.receive() == name.encode()
        assert sorted(made) == ["first", "second", "third"]
        assert last.pending
        assert last.accept_socket is None


@every_accept
async def test_an_accept_that_is_stopped_takes_no_connection(
    server: Socket, stack: ExitStack, face: str
) -> None:
    """The next accept gets it, and the listener goes on."""
    async with open_initiator():
        for _ in range(2):
            if face == "accept":
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(server.accept)
                    await wait_all_tasks_blocked()
                    nursery.cancel_scope.cancel()
            elif face == "begin_accept":
                result = server.begin_accept()
                assert result.cancel() is True
                with pytest.raises(SocketException) as caught:
                    await server.end_accept(result)
                assert caught.value.socket_error_code is SocketError.OPERATION_ABORTED
            else:
                args = SocketAsyncEventArgs()
                assert server.accept_async(args) is True
                await wait_all_tasks_blocked()
                assert args.cancel() is True
                await args.wait()
                assert args.socket_error is SocketError.OPERATION_ABORTED
                assert args.accept_socket is None
            peer = client(server, stack)
            await wait_all_tasks_blocked()
            accepted = await accept_through(face, server)
            with closing(accepted):
                peer.send(b"me")
                assert await accepted.receive() == b"me"


async def test_an_accept_in_a_scope_that_was_cancelled_before_takes_no_connection(
    server: Socket, stack: ExitStack
) -> None:
    client(server, stack)
    with trio.CancelScope() as scope:
        scope.cancel()
        await server.accept()
    assert scope.cancelled_caught
    (await server.accept()).close()


@pytest.mark.fact("F153", "F159", "F288")
async def test_accept_socket_must_be_free(server: Socket, stack: ExitStack) -> None:
    """F153, F288; a refusal changes nothing."""
    async with open_initiator():
        for _ in range(2):
            client(server, stack)
        args = SocketAsyncEventArgs()
        assert server.accept_async(args) is False
        assert args.socket_error is SocketError.SUCCESS
        kept = args.accept_socket
        assert kept is not None
        stack.callback(kept.close)
        # Nor is a socket that was made for it taken, as .NET would.
        with closing(Socket()) as made:
            for taken in (kept, made):
                args.accept_socket = taken
                with pytest.raises(InvalidOperationError, match=r"^accept_socket is set already"):
                    server.accept_async(args)
                assert args.accept_socket is taken
            assert not made.connected
        args.accept_socket = None
        assert server.accept_async(args) is False
        assert args.accept_socket is not None
        assert args.accept_socket is not kept
        args.accept_socket.close()
        assert kept.connected
        args.accept_socket = None
        # The same object can send then (F159).
        args.set_buffer(b"x")
        assert kept.send_async(args) is False
        assert args.last_operation is SocketAsyncOperation.SEND
        assert args.bytes_transferred == 1


@pytest.mark.fact("F246", "F247")
async def test_the_order_of_the_checks_of_an_accept(ours: Socket, address: Any) -> None:
    """Closed, then the args, then what they hold, then the listener (F246), then the initiator."""
    closed = SocketAsyncEventArgs()
    closed.close()
    with_list = SocketAsyncEventArgs(buffer_list=[])
    with_buffer = SocketAsyncEventArgs(bytearray(64))
    in_use = SocketAsyncEventArgs(BIG)
    ready = SocketAsyncEventArgs()

    def refuse(args: Any, kind: type[Exception], sentence: str) -> None:
        with pytest.raises(kind, match=sentence) as caught:
            ours.accept_async(args)
        assert type(caught.value) is kind

    with connected("unix") as (other, _):
        async with open_initiator():
            assert other.send_async(in_use) is True
            refuse(in_use, OperationInProgressError, r"^these args are in use")
            refuse(ready, InvalidOperationError, r"^this socket does not listen")
            with pytest.raises(InvalidOperationError, match=r"^this socket does not listen"):
                ours.begin_accept()
            with pytest.raises(InvalidOperationError, match=r"^this socket does not listen"):
                await ours.accept()
            ours.bind(address)
            refuse(ready, InvalidOperationError, r"^this socket does not listen")
    refuse(None, TypeError, r"^args must be a SocketAsyncEventArgs, not NoneType")
    refuse(closed, ObjectDisposedError, r"^these args were closed")
    refuse(with_list, ValueError, r"^buffer_list is set")
    refuse(with_buffer, ValueError, r"^buffer is set")
    ours.listen()
    refuse(ready, InvalidOperationError, r"^no initiator is open here")
    with pytest.raises(InvalidOperationError, match=r"^no initiator is open here"):
        ours.begin_accept()
    assert ready.last_operation is SocketAsyncOperation.NONE
    ours.close()
    for args in (None, closed, with_list, ready):
        refuse(args, SocketClosedError, r"^this socket was closed")


@pytest.mark.parametrize("pending", [False, True])
async def test_args_hold_on_to_no_socket_but_the_one_in_accept_socket(
    server: Socket, stack: ExitStack, pending: bool
) -> None:
    args = SocketAsyncEventArgs()
    args.completed += lambda *_: None
    async with open_initiator():
        if not pending:
            client(server, stack)
        assert server.accept_async(args) is pending
        if pending:
            client(server, stack)
        await args.wait()
        await wait_all_tasks_blocked()
    assert args.accept_socket is not None
    accepted = weakref.ref(args.accept_socket)
    args.accept_socket.close()
    args.accept_socket = None
    gc.collect()
    assert accepted() is None
    listener = Socket.from_stdlib(stdlib_socket.socket())
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    async with open_initiator():
        assert listener.accept_async(args) is True
        listener.close()
        await args.wait()
        await wait_all_tasks_blocked()
    reference = weakref.ref(listener)
    del listener
    gc.collect()
    assert reference() is None


@pytest.mark.fact("F232")
@pytest.mark.parametrize("first", ["a task", "an initiator"])
async def test_closing_a_listener_ends_the_accepts_that_wait(server: Socket, first: str) -> None:
    """F232, whoever waits for the descriptor at the time."""
    errors: list[SocketError] = []
    told: list[SocketError] = []

    async def accept() -> None:
        with pytest.raises(SocketException) as caught:
            await server.accept()
        errors.append(caught.value.socket_error_code)

    args = SocketAsyncEventArgs()
    args.completed += lambda _, e: told.append(e.socket_error)
    async with open_initiator(), trio.open_nursery() as nursery:
        if first == "a task":
            nursery.start_soon(accept)
            await wait_all_tasks_blocked()
        assert server.accept_async(args) is True
        result = server.begin_accept()
        if first != "a task":
            nursery.start_soon(accept)
        await wait_all_tasks_blocked()
        server.close()
        assert told == []
        await args.wait()
        with pytest.raises(SocketException) as caught:
            await server.end_accept(result)
        assert caught.value.socket_error_code is SocketError.OPERATION_ABORTED
    assert errors == told == [SocketError.OPERATION_ABORTED]


async def test_leaving_an_initiator_ends_its_accepts_and_no_others(
    server: Socket, stack: ExitStack
) -> None:
    accepted: list[Socket] = []

    async def accept() -> None:
        accepted.append(await server.accept())

    args = SocketAsyncEventArgs()
    async with trio.open_nursery() as nursery:
        async with open_initiator():
            assert server.accept_async(args) is True
            nursery.start_soon(accept)
            await wait_all_tasks_blocked()
        assert args.socket_error is SocketError.OPERATION_ABORTED
        peer = client(server, stack)
        await wait_all_tasks_blocked()
        [socket] = accepted
        with closing(socket):
            peer.send(b"me")
            assert await socket.receive() == b"me"


@pytest.mark.fact("F248")
@pytest.mark.parametrize("on_torn", ["refuse", "allow"])
async def test_an_accepted_socket_has_its_listeners_settings(
    on_torn: str, stack: ExitStack
) -> None:
    """Also what is to be done about a message that was cut."""
    server = stack.enter_context(closing(Socket(on_torn=on_torn)))
    server.bind(("127.0.0.1", 0))
    server.listen()
    peer = client(server, stack)
    socket = stack.enter_context(closing(await server.accept()))
    async with open_initiator():
        args = SocketAsyncEventArgs(bytes(50_000_000))
        assert socket.send_async(args) is True
        assert args.bytes_transferred > 0
        assert args.cancel() is True
        assert (socket.torn is None) == (on_torn == "allow")
    assert not nothing_to_read(peer)


@pytest.mark.fact("F256")
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
@every_accept
async def test_a_process_that_is_out_of_descriptors(stack: ExitStack, face: str) -> None:
    """F256; the connection is not lost, and can be accepted when there is room again."""
    import resource

    server = stack.enter_context(closing(Socket()))
    server.bind(("127.0.0.1", 0))
    server.listen()
    peer = client(server, stack)
    async with open_initiator():
        free = os.dup(server.fileno())
        os.close(free)
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))
        try:
            with pytest.raises(SocketException) as caught:
                await accept_through(face, server)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert caught.value.socket_error_code is SocketError.TOO_MANY_OPEN_SOCKETS
        socket = stack.enter_context(closing(await accept_through(face, server)))
        assert socket.remote_end_point == peer.getsockname()


class FullKernel:
    """A listener's socket, of a system in which all descriptors are taken until some are given back."""

    def __init__(self, sock: stdlib_socket.socket, errno: int) -> None:
        self._sock = sock
        self._errno = errno
        self.is_full = True
        #: When an accept was tried.
        self.tries: list[float] = []

    def accept(self) -> Any:
        self.tries.append(trio.current_time())
        if self.is_full:
            raise OSError(self._errno, os.strerror(self._errno))
        return self._sock.accept()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


SHORTAGES = [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS]


@every_accept
@pytest.mark.parametrize("number", SHORTAGES, ids=errno.errorcode.get)
async def test_a_server_that_accepts_again_at_once_without_descriptors(
    stack: ExitStack, face: str, number: int, autojump_clock: MockClock
) -> None:
    """Each accept fails, but only so many in a second; the connection is taken soon after there is room."""
    server = stack.enter_context(closing(Socket()))
    server.bind(("127.0.0.1", 0))
    server.listen()
    peer = client(server, stack)
    kernel = FullKernel(server._core.require_kernel(), number)
    server._core.kernel = kernel  # type: ignore[assignment]
    failures = 0
    async with open_initiator(), trio.open_nursery() as nursery:

        async def free_some() -> None:
            await trio.sleep(1.05)
            kernel.is_full = False

        nursery.start_soon(free_some)
        while True:
            try:
                accepted = await accept_through(face, server)
            except SocketException:
                failures += 1
            else:
                break
    with closing(accepted):
        assert accepted.remote_end_point == peer.getsockname()
    assert len(kernel.tries) == failures + 1
    assert kernel.tries == pytest.approx([number * 0.1 for number in range(12)])


async def test_accepts_that_wait_without_descriptors_fail_one_after_the_other(
    stack: ExitStack, autojump_clock: MockClock
) -> None:
    """One that is stopped meanwhile ends at once, and the next one waits out the same pause."""
    server = stack.enter_context(closing(Socket()))
    server.bind(("127.0.0.1", 0))
    server.listen()
    kernel = FullKernel(server._core.require_kernel(), errno.EMFILE)
    server._core.kernel = kernel  # type: ignore[assignment]
    ends: list[tuple[str, SocketError, float]] = []
    async with open_initiator():
        kernel.is_full = False  # an accept that has nobody to accept is just pending
        several = {}
        for name in "abcd":
            several[name] = args = SocketAsyncEventArgs(user_token=name)
            args.completed += lambda _, args: ends.append(
                (args.user_token, args.socket_error, trio.current_time())
            )
            assert server.accept_async(args)
        kernel.is_full = True
        client(server, stack)
        await several["a"].wait()
        begun = trio.current_time()
        await trio.sleep(0.05)
        assert several["b"].cancel()
        await several["c"].wait()
        kernel.is_full = False
        await several["d"].wait()
        several["d"].accept_socket.close()  # type: ignore[union-attr]
    full = SocketError.TOO_MANY_OPEN_SOCKETS
    assert [(name, error) for name, error, _ in ends] == [
        ("a", full),
        ("b", SocketError.OPERATION_ABORTED),
        ("c", full),
        ("d", SocketError.SUCCESS),
    ]
    assert [when - begun for *_, when in ends] == pytest.approx([0, 0.05, 0.1, 0.2])


async def test_a_result_of_an_accept_or_a_connect_is_taken_once(
    server: Socket, stack: ExitStack, kind: str
) -> None:
    async with open_initiator():
        accepting = server.begin_accept(state="state")
        connecting = stack.enter_context(closing(Socket(family(kind))))
        connected_result = connecting.begin_connect(server.local_end_point)
        await connecting.end_connect(connected_result)
        accepted = stack.enter_context(closing(await server.end_accept(accepting)))
        assert accepted.connected
        assert accepting.async_state == "state"
        with pytest.raises(InvalidOperationError, match=r"^the end method was called"):
            await server.end_accept(accepting)
        with pytest.raises(InvalidOperationError, match=r"^the end method was called"):
            await connecting.end_connect(connected_result)
        with pytest.raises(ValueError, match=r"^ar is the result of an operation on another"):
            await connecting.end_accept(accepting)
        with pytest.raises(ValueError, match=r"^ar is the result of CONNECT, not of ACCEPT"):
            await connecting.end_accept(connected_result)


@pytest.mark.parametrize("kind", ["tcp4"])
async def test_synchronous_callbacks_take_their_results(server: Socket, stack: ExitStack) -> None:
    """While the operations are pending there is nothing to take."""
    log: list[Any] = []
    async with open_initiator():
        accepting = server.begin_accept(lambda ar: log.append(server.end_accept_nowait(ar)))
        with pytest.raises(trio.WouldBlock):
            server.end_accept_nowait(accepting)
        other = stack.enter_context(closing(Socket()))
        connecting = other.begin_connect(
            server.local_end_point, lambda ar: log.append(other.end_connect_nowait(ar))
        )
        with pytest.raises(trio.WouldBlock):
            other.end_connect_nowait(connecting)
        await connecting.async_wait_handle.wait_one()
        await accepting.async_wait_handle.wait_one()
        await wait_all_tasks_blocked()
        log.remove(None)
        [accepted] = log
        with accepted.trio:
            assert accepted.remote_end_point == other.local_end_point
        with pytest.raises(InvalidOperationError, match=r"^the end method was called"):
            server.end_accept_nowait(accepting)
        with pytest.raises(ValueError, match=r"^ar is the result of an operation on another"):
            other.end_connect_nowait(accepting)


# Binding --------------------------------------------------------------------------------------


async def test_an_address_that_is_taken(
    ours: Socket, listener: stdlib_socket.socket, kind: str
) -> None:
    with pytest.raises(SocketException) as caught:
        ours.bind(listener.getsockname())
    assert caught.value.socket_error_code is SocketError.ADDRESS_ALREADY_IN_USE
    assert caught.value.native_error_code == errno.EADDRINUSE
    assert isinstance(caught.value.__cause__, OSError)


@pytest.mark.parametrize("kind", KINDS[:2])
def test_a_host_to_bind_to_is_numeric_or_empty(ours: Socket, kind: str) -> None:
    """Looking a name up would have to wait."""
    for host in ("localhost", "nobody.example", "a..b"):
        with pytest.raises(ValueError, match=f"^address has the host '{host}'"):
            ours.bind((host, 0))
    with pytest.raises(SocketException) as caught:  # it is for documentation, and nobody's
        ours.bind(("192.0.2.1" if kind == "tcp4" else "2001:db8::1", 0))
    assert caught.value.socket_error_code is SocketError.ADDRESS_NOT_AVAILABLE
    ours.bind(("", 0))
    assert ours.local_end_point[1] != 0


@pytest.mark.parametrize("host", ["127.0.0.1", ""])
@pytest.mark.parametrize("port", [-1, 65536])
def test_a_port_to_bind_to_is_a_number_of_sixteen_bits(host: str, port: int) -> None:
    with closing(Socket()) as socket:
        with pytest.raises(ValueError, match=f"^address has the port {port}"):
            socket.bind((host, port))


@pytest.mark.parametrize("where", [None, 5, ("127.0.0.1",), ("127.0.0.1", "80")], ids=str)
def test_what_is_no_address_cannot_be_bound_to(where: Any) -> None:
    with closing(Socket()) as socket:
        with pytest.raises(TypeError, match=r"address"):
            socket.bind(where)


def test_listening_where_it_makes_no_sense() -> None:
    """What the system refuses is told, and the socket does not listen then."""
    with closing(Socket(type=stdlib_socket.SOCK_DGRAM)) as socket:
        with pytest.raises(SocketException) as caught:
            socket.listen()
        assert caught.value.socket_error_code is SocketError.OPERATION_NOT_SUPPORTED
        assert isinstance(caught.value.__cause__, OSError)
