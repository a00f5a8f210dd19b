"""Hold connecting to what it says, in its three faces.

The listener is a plain socket of the standard library.
"""

from __future__ import annotations

import errno
import os
import socket as stdlib_socket
import sys
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

from tests.connections import (
    Resolver,
    address as address,
    connect_through,
    every_connect,
    family,
    full,
    listener as listener,
    ours as ours,
)
from tests.helpers import (
    BIG,
    HOSTS,
    KINDS,
    Told,
    connected,
    kind as kind,
    needs_ipv6,
    never_called,
    read_exactly,
    read_some,
    stack as stack,
)
from trio_send import (
    AsyncResult,
    InvalidOperationError,
    ObjectDisposedError,
    OperationInProgressError,
    Socket,
    SocketAsyncEventArgs,
    SocketAsyncOperation,
    SocketError,
    SocketException,
    SocketFlags,
    SocketShutdown,
    open_initiator,
)

# Connecting -----------------------------------------------------------------------------------


@pytest.mark.page("B20", "S16")
@every_connect
async def test_connecting(
    ours: Socket, listener: stdlib_socket.socket, kind: str, face: str
) -> None:
    """Both sides know each other then, and bytes go both ways."""
    assert not ours.connected
    async with open_initiator():
        await connect_through(face, ours, listener.getsockname())
        assert ours.connected
        peer, _ = listener.accept()
        with peer:
            assert ours.remote_end_point == listener.getsockname() == peer.getsockname()
            assert ours.local_end_point == peer.getpeername()
            peer.setblocking(False)
            assert await ours.send(b"there") == 5
            assert await read_exactly(peer, 5) == b"there"
            peer.send(b"and back")
            assert await ours.receive() == b"and back"
            assert ours.family == family(kind)
            assert ours.type == stdlib_socket.SOCK_STREAM


@pytest.mark.parametrize("kind", ["tcp4"])
@every_connect
async def test_connecting_by_name(
    ours: Socket, listener: stdlib_socket.socket, face: str, kind: str
) -> None:
    """A name is looked up."""
    async with open_initiator():
        await connect_through(face, ours, ("localhost", listener.getsockname()[1]))
    assert ours.remote_end_point == listener.getsockname()


@every_connect
async def test_each_address_of_a_name_is_tried_in_turn(stack: ExitStack, face: str) -> None:
    """The first that answers is taken; if none does, the last error is told."""
    deaf = stack.enter_context(stdlib_socket.socket())
    deaf.bind(("127.0.0.1", 0))  # without listening, it refuses
    listener = stack.enter_context(stdlib_socket.socket())
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    other = stack.enter_context(stdlib_socket.socket())
    other.bind(("127.0.0.1", 0))
    refused, answers = [deaf.getsockname(), other.getsockname()], listener.getsockname()
    resolver = Resolver([refused[0], answers, refused[1]])
    async with open_initiator():
        socket = stack.enter_context(closing(Socket()))
        await connect_through(face, socket, ("many.example", 80))
        assert socket.remote_end_point == answers
        assert resolver.names == ["many.example"]
        resolver.answer = refused
        socket = stack.enter_context(closing(Socket()))
        with pytest.raises(SocketException) as caught:
            await connect_through(face, socket, ("many.example", 80))
        assert caught.value.socket_error_code is SocketError.CONNECTION_REFUSED
        assert not socket.connected


@pytest.mark.fact("F258")
@pytest.mark.parametrize(
    ("error", "code"),
    [
        (stdlib_socket.gaierror(stdlib_socket.EAI_AGAIN, "again"), SocketError.TRY_AGAIN),
        (stdlib_socket.gaierror(stdlib_socket.EAI_FAIL, "fail"), SocketError.NO_RECOVERY),
        (stdlib_socket.gaierror(stdlib_socket.EAI_NONAME, "none"), SocketError.HOST_NOT_FOUND),
        (stdlib_socket.gaierror(stdlib_socket.EAI_NODATA, "no data"), SocketError.NO_DATA),
        (OSError(errno.EIO, "broken"), SocketError.HOST_NOT_FOUND),
    ],
    ids=["again", "fail", "no name", "no data", "broken"],
)
@every_connect
async def test_a_name_that_is_not_found(face: str, error: OSError, code: SocketError) -> None:
    """The socket can be connected to another one then."""
    resolver = Resolver(error)
    with stdlib_socket.socket() as listener, closing(Socket()) as socket:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        async with open_initiator():
            with pytest.raises(SocketException) as caught:
                await connect_through(face, socket, ("nobody.example", 80))
            assert caught.value.socket_error_code is code
            resolver.answer = [listener.getsockname()]
            await connect_through(face, socket, ("somebody.example", 80))
            assert socket.connected


@pytest.mark.parametrize(
    "host",
    ["a..b", "x" * 64 + ".example", "\udc80.example"],
    ids=["empty label", "long label", "lone surrogate"],
)
@every_connect
async def test_a_name_that_cannot_be_a_name(face: str, host: str) -> None:
    """There is no host of that name, and that is what is told."""
    with closing(Socket()) as socket:
        async with open_initiator():
            with pytest.raises(SocketException) as caught:
                await connect_through(face, socket, (host, 80))
            assert caught.value.socket_error_code is SocketError.HOST_NOT_FOUND


@pytest.mark.fact("F240")
@pytest.mark.parametrize("kind", KINDS[:2])
@every_connect
async def test_a_connect_that_is_refused(ours: Socket, kind: str, face: str) -> None:
    """F240; no bytes are spoken of, and the socket may connect elsewhere."""
    async with open_initiator():
        with stdlib_socket.socket(family(kind)) as listener:
            listener.bind((HOSTS[kind][1], 0))
            for _ in range(2):
                with pytest.raises(SocketException) as caught:
                    await connect_through(face, ours, listener.getsockname())
                assert caught.value.socket_error_code is SocketError.CONNECTION_REFUSED
                assert caught.value.error_code == 10061
                assert "byte" not in str(caught.value)
                assert not ours.connected
            listener.listen()
            await connect_through(face, ours, listener.getsockname())
            assert ours.connected


@pytest.mark.fact("F256")
@every_connect
async def test_unix_paths_that_lead_nowhere(tmp_path: Path, face: str) -> None:
    with closing(Socket(stdlib_socket.AF_UNIX)) as socket:
        async with open_initiator():
            with stdlib_socket.socket(stdlib_socket.AF_UNIX) as deaf:
                deaf.bind(str(tmp_path / "deaf"))
                for path, code in (
                    (str(tmp_path / "missing"), SocketError.ADDRESS_NOT_AVAILABLE),  # F256
                    (str(tmp_path / "deaf"), SocketError.CONNECTION_REFUSED),
                ):
                    with pytest.raises(SocketException) as caught:
                        await connect_through(face, socket, path)
                    assert caught.value.socket_error_code is code
            assert not socket.connected


@every_connect
async def test_a_unix_path_that_is_too_long_is_refused_by_name(tmp_path: Path, face: str) -> None:
    """Python would refuse it too, but late and without an errno."""
    path = str(tmp_path / ("x" * 200))
    with closing(Socket(stdlib_socket.AF_UNIX)) as socket:
        async with open_initiator():
            with pytest.raises(ValueError, match=r"^(address|remote_end_point) is a path of"):
                await connect_through(face, socket, path)
            assert not socket.connected
        with pytest.raises(ValueError, match=r"^address is a path of"):
            socket.bind(path)


@pytest.mark.fact("F236")
@every_connect
async def test_a_socket_that_is_connected_is_not_connected_again(
    ours: Socket, listener: stdlib_socket.socket, face: str
) -> None:
    """F236: raised by the call itself in every face, and the connection lives on."""
    async with open_initiator():
        await ours.connect(listener.getsockname())
        args = SocketAsyncEventArgs()
        args.remote_end_point = listener.getsockname()
        with pytest.raises(SocketException) as caught:
            if face == "connect":
                await ours.connect(listener.getsockname())
            elif face == "begin_connect":
                ours.begin_connect(listener.getsockname(), never_called)
            else:
                ours.connect_async(args)
        assert caught.value.socket_error_code is SocketError.IS_CONNECTED
        assert args.last_operation is SocketAsyncOperation.NONE
        assert ours.connected
        assert await ours.send(b"x") == 1


@pytest.mark.parametrize("kind", ["tcp4"])
@pytest.mark.fact("F298")
async def test_a_connect_is_ended_after_the_close_as_it_has_ended(
    listener: stdlib_socket.socket, stack: ExitStack
) -> None:
    resolver = Resolver([listener.getsockname()], held=True)
    connected, waiting = Socket(), Socket()
    async with open_initiator():
        succeeded = connected.begin_connect(listener.getsockname())
        while not succeeded.is_completed:
            await wait_all_tasks_blocked()
        stopped = waiting.begin_connect(("slow.example", 80))
        await wait_all_tasks_blocked()
        connected.close()
        waiting.close()
        connected.end_connect_nowait(succeeded)
        with pytest.raises(ObjectDisposedError) as caught:
            await waiting.end_connect(stopped)
        assert isinstance(caught.value, SocketException)
        assert caught.value.socket_error_code is SocketError.OPERATION_ABORTED
    resolver.released.set()


@pytest.mark.parametrize("kind", ["tcp4"])
@pytest.mark.parametrize("elsewhere", [False, True])
async def test_two_connects_at_once(
    ours: Socket, listener: stdlib_socket.socket, stack: ExitStack, elsewhere: bool
) -> None:
    """They take turns; the second finds the socket connected, and not to whom it meant."""
    other = stack.enter_context(stdlib_socket.socket())
    other.bind(("127.0.0.1", 0))
    other.listen()
    async with open_initiator():
        first = ours.begin_connect(listener.getsockname())
        second = ours.begin_connect((other if elsewhere else listener).getsockname())
        behind = ours.begin_send(b"behind")
        await ours.end_connect(first)
        with pytest.raises(SocketException) as caught:
            await ours.end_connect(second)
        assert caught.value.socket_error_code is SocketError.IS_CONNECTED
        assert ours.connected
        assert ours.remote_end_point == listener.getsockname()
        assert await ours.end_send(behind) == 6


@pytest.mark.fact("F236")
async def test_a_listener_is_not_connected(ours: Socket, address: Any) -> None:
    """F236."""
    ours.bind(address)
    ours.listen()
    args = SocketAsyncEventArgs()
    args.remote_end_point = ours.local_end_point
    async with open_initiator():
        with pytest.raises(InvalidOperationError, match=r"^this socket listens"):
            await ours.connect(ours.local_end_point)
        with pytest.raises(InvalidOperationError, match=r"^this socket listens"):
            ours.begin_connect(ours.local_end_point)
        with pytest.raises(InvalidOperationError, match=r"^this socket listens"):
            ours.connect_async(args)
        assert not ours.connected
        assert ours.queued_operations == 0


@pytest.mark.fact("F233")
@pytest.mark.parametrize(
    ("where", "kind", "sentence"),
    [
        (None, TypeError, r"is None"),
        ("127.0.0.1", TypeError, r"must be \(host, port\) for this socket"),
        (("127.0.0.1",), TypeError, r"must be \(host, port\) for this socket"),
        (("127.0.0.1", "80"), TypeError, r"must be \(host, port\) for this socket"),
        (("127.0.0.1", -1), ValueError, r"has the port -1, but a port is a number from 0 to 65535"),
        (("127.0.0.1", 65536), ValueError, r"has the port 65536"),
    ],
    ids=["none", "text", "no port", "a port as text", "port -1", "port 65536"],
)
async def test_what_is_no_address_is_refused_by_its_parameters_name(
    where: Any, kind: type[Exception], sentence: str
) -> None:
    """F233; and nothing is changed."""
    args = SocketAsyncEventArgs()
    args.remote_end_point = where
    with closing(Socket()) as socket:
        async with open_initiator():
            with pytest.raises(kind, match=f"^remote_end_point {sentence}"):
                socket.connect_async(args)
            with pytest.raises(kind, match=f"^address {sentence}"):
                await socket.connect(where)
            with pytest.raises(kind, match=f"^address {sentence}"):
                socket.begin_connect(where)
            assert args.last_operation is SocketAsyncOperation.NONE
            assert args.outcome is None
            assert socket.queued_operations == 0


@pytest.mark.fact("F234")
async def test_the_order_of_the_checks_of_a_connect() -> None:
    """Closed, then the args, then what they hold (F234), then the address, then the initiator."""
    in_use = SocketAsyncEventArgs(BIG)
    closed = SocketAsyncEventArgs()
    closed.close()
    with_list = SocketAsyncEventArgs(buffer_list=[])
    bare = SocketAsyncEventArgs()
    ready = SocketAsyncEventArgs()
    ready.remote_end_point = ("127.0.0.1", 1)
    with closing(Socket()) as socket, connected("unix") as (other, _):
        async with open_initiator():
            assert other.send_async(in_use) is True
            with pytest.raises(OperationInProgressError):
                socket.connect_async(in_use)
        with pytest.raises(TypeError, match=r"^args must be a SocketAsyncEventArgs, not NoneType"):
            socket.connect_async(None)  # type: ignore[arg-type]
        with pytest.raises(ObjectDisposedError, match=r"^these args were closed"):
            socket.connect_async(closed)
        with pytest.raises(ValueError, match=r"^buffer_list is set"):
            socket.connect_async(with_list)
        with pytest.raises(TypeError, match=r"^remote_end_point is None"):
            socket.connect_async(bare)
        for start in (
            lambda: socket.connect_async(ready),
            lambda: socket.begin_connect(("127.0.0.1", 1)),
        ):
            with pytest.raises(InvalidOperationError, match=r"^no initiator is open here"):
                start()
        assert ready.last_operation is SocketAsyncOperation.NONE
        socket.close()
        for args in (None, closed, with_list, bare, ready):
            with pytest.raises(ObjectDisposedError, match=r"^this socket was closed"):
                socket.connect_async(args)  # type: ignore[arg-type]
        with pytest.raises(ObjectDisposedError, match=r"^this socket was closed"):
            await socket.connect(None)
        with pytest.raises(ObjectDisposedError, match=r"^this socket was closed"):
            socket.begin_connect(None)


async def test_connect_and_accept_are_always_checkpoints(
    ours: Socket, listener: stdlib_socket.socket, address: Any, kind: str, tmp_path: Path
) -> None:
    with assert_checkpoints():
        await ours.connect(listener.getsockname())
    with closing(Socket(family(kind))) as other:
        other.bind(address if kind != "unix" else str(tmp_path / "other"))
        other.listen()
        with stdlib_socket.socket(family(kind)) as client:
            client.connect(other.local_end_point)
            with assert_checkpoints():
                accepted = await other.accept()
            accepted.close()


@pytest.mark.fact("F294")
@pytest.mark.parametrize("kind", ["tcp4"])
async def test_a_callback_and_a_handler_hear_of_a_connect(
    ours: Socket, listener: stdlib_socket.socket
) -> None:
    """Each once, never from inside the start; the classic chain goes on from there (F294)."""
    log: list[Any] = []

    async def called_back(result: AsyncResult) -> None:
        await result.async_state.end_connect(result)
        log.append("connected")
        result.async_state.begin_send(b"hello", callback=lambda r: log.append("sent"))

    async with open_initiator():
        ours.begin_connect(listener.getsockname(), called_back, ours)
        assert log == []
        peer, _ = listener.accept()
        with peer:
            peer.setblocking(False)
            assert await read_exactly(peer, 5) == b"hello"
        await wait_all_tasks_blocked()
        assert log == ["connected", "sent"]
        with closing(Socket()) as other:
            args = SocketAsyncEventArgs(user_token="token")
            args.remote_end_point = listener.getsockname()
            args.completed += lambda sender, e: log.append((sender, e.connect_socket))
            assert other.connect_async(args) is True
            assert args.connect_socket is None
            assert len(log) == 2
            assert args.socket_error is SocketError.IO_PENDING
            await args.wait()
            assert log == ["connected", "sent", (other, other)]
            assert args.outcome is not None
            assert args.outcome.unwrap() == 0


async def test_a_connect_in_a_scope_that_was_cancelled_before_does_not_begin(
    ours: Socket, listener: stdlib_socket.socket
) -> None:
    """The socket is as it was, and can be connected."""
    with trio.CancelScope() as scope:
        scope.cancel()
        await ours.connect(listener.getsockname())
    assert scope.cancelled_caught
    assert not ours.connected
    await ours.connect(listener.getsockname())
    assert ours.connected


@pytest.mark.fact("F151")
@pytest.mark.parametrize("kind", ["tcp4"])
async def test_connect_socket_is_about_the_latest_connect(
    ours: Socket, listener: stdlib_socket.socket, stack: ExitStack
) -> None:
    """None from its start on, and after it has failed (F151)."""
    deaf = stack.enter_context(stdlib_socket.socket())
    deaf.bind(("127.0.0.1", 0))
    async with open_initiator():
        args = SocketAsyncEventArgs()
        args.remote_end_point = listener.getsockname()
        assert ours.connect_async(args) is True
        await args.wait()
        assert args.connect_socket is ours
        args.set_buffer(b"x")
        assert ours.send_async(args) is False
        assert args.connect_socket is ours  # later sends leave it alone
        other = stack.enter_context(closing(Socket()))
        args.remote_end_point = deaf.getsockname()
        assert other.connect_async(args) is True
        assert args.connect_socket is None
        await args.wait()
        assert args.socket_error is SocketError.CONNECTION_REFUSED
        assert args.connect_socket is None


@pytest.mark.parametrize("kind", ["tcp4"])
@pytest.mark.parametrize("closed", [False, True])
async def test_connect_socket_can_be_cleared_and_nothing_else(
    ours: Socket, listener: stdlib_socket.socket, closed: bool
) -> None:
    async with open_initiator():
        args = SocketAsyncEventArgs()
        args.remote_end_point = listener.getsockname()
        assert ours.connect_async(args) is True
        with pytest.raises(OperationInProgressError):
            args.connect_socket = None
        await args.wait()
        with pytest.raises(
            TypeError, match="connect_socket can be set to None alone, not to <trio"
        ):
            args.connect_socket = ours  # type: ignore[assignment]
        assert args.connect_socket is ours
        if closed:
            args.close()
        args.connect_socket = None
        assert args.connect_socket is None
        args.connect_socket = None


@pytest.mark.fact("F150")
async def test_connect_by_name_error_is_about_the_latest_connect_to_a_name(
    stack: ExitStack,
) -> None:
    """The looking up, or the last address; None for anything else."""
    deaf = stack.enter_context(stdlib_socket.socket())
    deaf.bind(("127.0.0.1", 0))
    listener = stack.enter_context(stdlib_socket.socket())
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    resolver = Resolver(stdlib_socket.gaierror(stdlib_socket.EAI_AGAIN, "again"))
    socket = stack.enter_context(closing(Socket()))
    args = SocketAsyncEventArgs()
    assert args.connect_by_name_error is None

    async def connect(where: Any) -> SocketException | None:
        args.remote_end_point = where
        assert socket.connect_async(args) is True
        assert args.connect_by_name_error is None
        await args.wait()
        error = args.connect_by_name_error
        assert error is None or error.socket_error_code is args.socket_error
        return error

    async with open_initiator():
        error = await connect(("name.example", 80))
        assert error is not None
        assert error.socket_error_code is SocketError.TRY_AGAIN
        assert "'name.example'" in str(error)
        resolver.answer = [deaf.getsockname()] * 2
        error = await connect(("name.example", 80))
        assert error is not None
        assert error.socket_error_code is SocketError.CONNECTION_REFUSED
        assert await connect(deaf.getsockname()) is None
        assert args.socket_error is SocketError.CONNECTION_REFUSED
        resolver.answer = OSError(errno.EIO, "broken")
        assert await connect(("name.example", 80)) is not None
        args.set_buffer(b"x")
        assert socket.send_async(args) is False  # which fails too, being not connected
        assert args.connect_by_name_error is None
        args.set_buffer(None)
        resolver.answer = [listener.getsockname()]
        assert await connect(("name.example", 80)) is None
        assert args.socket_error is SocketError.SUCCESS


@pytest.mark.fact("F238")
@needs_ipv6
@every_connect
async def test_an_address_of_the_other_family(stack: ExitStack, face: str) -> None:
    """An IPv6 socket that takes IPv4 addresses as well is connected, as .NET's dual mode has it."""
    listener = stack.enter_context(stdlib_socket.socket())
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    port = listener.getsockname()[1]
    four = stack.enter_context(closing(Socket()))
    six = stack.enter_context(closing(Socket(stdlib_socket.AF_INET6)))
    six.setsockopt(stdlib_socket.IPPROTO_IPV6, stdlib_socket.IPV6_V6ONLY, 1)
    async with open_initiator():
        for socket, host in ((four, "::1"), (six, "127.0.0.1")):
            with pytest.raises(SocketException, match=r"of another family") as caught:
                await connect_through(face, socket, (host, port))
            assert caught.value.socket_error_code is SocketError.ADDRESS_FAMILY_NOT_SUPPORTED
        six.setsockopt(stdlib_socket.IPPROTO_IPV6, stdlib_socket.IPV6_V6ONLY, 0)
        await connect_through(face, six, ("127.0.0.1", port))
        assert six.remote_end_point[:2] == ("::ffff:127.0.0.1", port)


@needs_ipv6
@every_connect
async def test_a_name_with_addresses_of_both_families(stack: ExitStack, face: str) -> None:
    """The first of them refuses, the second answers."""
    listener = stack.enter_context(stdlib_socket.socket())
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    deaf = stack.enter_context(stdlib_socket.socket(stdlib_socket.AF_INET6))
    deaf.bind(("::1", 0))
    resolver = Resolver([])
    resolver.entries = [
        (stdlib_socket.AF_INET6, stdlib_socket.SOCK_STREAM, 0, "", deaf.getsockname()),
        (stdlib_socket.AF_INET, stdlib_socket.SOCK_STREAM, 0, "", listener.getsockname()),
    ]
    async with open_initiator():
        for kind in (stdlib_socket.AF_INET, stdlib_socket.AF_INET6):
            socket = stack.enter_context(closing(Socket(kind)))
            await connect_through(face, socket, ("both.example", 80))
            assert socket.remote_end_point[1] == listener.getsockname()[1]


# A connect that brings a message --------------------------------------------------------------


@pytest.mark.fact("F239")
@pytest.mark.parametrize("by_name", [False, True])
@pytest.mark.parametrize("message", [b"hello", BIG], ids=["short", "long"])
async def test_a_buffer_is_sent_as_the_first_message(
    stack: ExitStack, by_name: bool, message: bytes
) -> None:
    """In front of what was started meanwhile, and counted."""
    listener = stack.enter_context(stdlib_socket.socket())
    listener.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_RCVBUF, 1)
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    Resolver([listener.getsockname()])
    socket = stack.enter_context(closing(Socket()))
    socket.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_SNDBUF, 1)
    told = Told()
    args = told.args("connected", b"..." + message + b"...")
    args.set_range(3, len(message))
    args.remote_end_point = ("name.example", 80) if by_name else listener.getsockname()
    behind = told.args("behind", b"behind")
    async with open_initiator():
        assert socket.connect_async(args) is True
        assert socket.send_async(behind) is True
        await wait_all_tasks_blocked()
        peer = stack.enter_context(listener.accept()[0])
        peer.setblocking(False)
        if message is BIG:
            assert args.pending
            assert 0 < args.bytes_transferred < len(BIG)
            assert socket.connected
            assert args.connect_socket is None
        assert await read_exactly(peer, len(message)) == message
        assert await read_exactly(peer, 6) == b"behind"
        await behind.wait()
        assert args.connect_socket is socket
        assert args.last_operation is SocketAsyncOperation.CONNECT
    assert told.events == [
        ("connected", SocketError.SUCCESS, len(message)),
        ("behind", SocketError.SUCCESS, 6),
    ]
    assert socket.audit().bytes_accepted == len(message) + 6


@pytest.mark.fact("F239")
async def test_a_connect_that_does_not_wait_sends_its_message_at_once(
    stack: ExitStack, tmp_path: Path
) -> None:
    """As Unix sockets do: all of it on the spot, or as much as fits."""
    listener = stack.enter_context(stdlib_socket.socket(stdlib_socket.AF_UNIX))
    listener.bind(str(tmp_path / "socket"))
    listener.listen()
    async with open_initiator():
        for message in (b"hello", BIG):
            socket = stack.enter_context(closing(Socket(stdlib_socket.AF_UNIX)))
            socket.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_SNDBUF, 1)
            args = SocketAsyncEventArgs(message)
            args.remote_end_point = listener.getsockname()
            assert socket.connect_async(args) is (message is BIG)
            assert args.bytes_transferred > 0
            assert args.bytes_transferred < len(BIG)
            assert socket.queued_bytes == len(message) - args.bytes_transferred
            peer = stack.enter_context(listener.accept()[0])
            peer.setblocking(False)
            assert await read_exactly(peer, len(message)) == message
            assert await args.wait() == len(message)
            assert args.connect_socket is socket


@pytest.mark.fact("F239")
async def test_the_message_of_a_connect_that_is_stopped_tears_the_stream(stack: ExitStack) -> None:
    """The connection stands, and the rest can be sent."""
    listener = stack.enter_context(stdlib_socket.socket())
    listener.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_RCVBUF, 1)
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    socket = stack.enter_context(closing(Socket()))
    socket.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_SNDBUF, 1)
    args = SocketAsyncEventArgs(BIG)
    args.remote_end_point = listener.getsockname()
    async with open_initiator():
        assert socket.connect_async(args) is True
        await wait_all_tasks_blocked()
        peer = stack.enter_context(listener.accept()[0])
        peer.setblocking(False)
        Socket.cancel_connect_async(args)
        count = await args.wait()
        assert 0 < count < len(BIG)
        assert args.socket_error is SocketError.OPERATION_ABORTED
        assert socket.torn is not None
        assert socket.torn.bytes_transferred == count
        assert socket.connected
        assert args.connect_socket is socket
        assert socket.resume(args) is True
        assert await read_exactly(peer, len(BIG)) == BIG
        assert await args.wait() == len(BIG)
        assert args.connect_socket is socket


@pytest.mark.fact("F239")
async def test_a_connect_that_fails_sends_nothing_of_its_message(stack: ExitStack) -> None:
    deaf = stack.enter_context(stdlib_socket.socket())
    deaf.bind(("127.0.0.1", 0))
    socket = stack.enter_context(closing(Socket()))
    args = SocketAsyncEventArgs(b"hello")
    args.remote_end_point = deaf.getsockname()
    async with open_initiator():
        args.socket_flags = SocketFlags.PARTIAL
        assert socket.connect_async(args) is False
        assert args.socket_error is SocketError.OPERATION_NOT_SUPPORTED
        assert not socket.connected
        args.socket_flags = SocketFlags.NONE
        assert socket.connect_async(args) is True
        assert await args.wait() == 0
        assert args.socket_error is SocketError.CONNECTION_REFUSED
        assert args.remaining == [b"hello"]
        assert socket.torn is None


# A connect that stays pending -----------------------------------------------------------------


@pytest.mark.fact("F245")
@pytest.mark.parametrize("how", ["cancel scope", "args", "result", "initiator", "close"])
async def test_a_pending_connect_that_is_stopped_closes_its_socket(how: str) -> None:
    """Nothing can call a connect back, and a socket whose state nobody knows is of no use (F242, F245)."""
    with full() as listener, closing(Socket()) as socket:
        where = listener.getsockname()
        code = None
        if how == "cancel scope":
            async with trio.open_nursery() as nursery:
                nursery.start_soon(socket.connect, where)
                await wait_all_tasks_blocked()
                assert socket.fileno() >= 0
                nursery.cancel_scope.cancel()
        else:
            args = SocketAsyncEventArgs()
            args.remote_end_point = where
            async with open_initiator():
                if how == "result":
                    result = socket.begin_connect(where)
                    await wait_all_tasks_blocked()
                    assert not result.is_completed
                    assert result.cancel("enough") is True
                    with pytest.raises(SocketException, match=r"enough$") as caught:
                        await socket.end_connect(result)
                    code = caught.value.socket_error_code
                else:
                    assert socket.connect_async(args) is True
                    await wait_all_tasks_blocked()
                    assert args.pending
                    if how == "args":
                        assert args.cancel() is True
                    elif how == "close":
                        socket.close()
                    # Otherwise, leaving the initiator stops it.
            if how != "result":
                assert await args.wait() == 0
                code = args.socket_error
            assert args.connect_socket is None
            assert code is SocketError.OPERATION_ABORTED
        assert socket.fileno() == -1
        with pytest.raises(ObjectDisposedError):
            await socket.connect(where)


async def test_what_waits_behind_a_connect_that_is_stopped_ends_too() -> None:
    """The socket is closed, so they end as any pending operation does."""
    with full() as listener, closing(Socket()) as socket:
        errors: list[SocketError] = []

        async def send() -> None:
            with pytest.raises(SocketException) as caught:
                await socket.send(b"another task's")
            errors.append(caught.value.socket_error_code)

        async with open_initiator(), trio.open_nursery() as nursery:
            connecting = socket.begin_connect(listener.getsockname())
            behind = SocketAsyncEventArgs(b"behind")
            assert socket.send_async(behind) is True
            nursery.start_soon(send)
            await wait_all_tasks_blocked()
            assert connecting.cancel() is True
            assert await behind.wait() == 0
            assert behind.socket_error is SocketError.OPERATION_ABORTED
        assert errors == [SocketError.OPERATION_ABORTED]


async def test_a_connect_that_is_pending_cannot_be_shut_down() -> None:
    """The system would call it off without a word, and begin it anew when asked how it goes."""
    with full() as listener, closing(Socket()) as socket:
        async with open_initiator():
            args = SocketAsyncEventArgs()
            args.remote_end_point = listener.getsockname()
            assert socket.connect_async(args) is True
            await wait_all_tasks_blocked()
            with pytest.raises(SocketException) as caught:
                socket.shutdown(SocketShutdown.BOTH)
            assert caught.value.socket_error_code is SocketError.NOT_CONNECTED
            await wait_all_tasks_blocked()
            assert args.pending
        assert args.socket_error is SocketError.OPERATION_ABORTED


@pytest.mark.fact("F241", "F242")
async def test_a_connect_that_is_called_off_is_told_once() -> None:
    """And closes its socket. Args that do not connect are left alone, whatever else they do."""
    told = Told()
    with full() as listener, closing(Socket()) as socket, connected("unix") as (other, _):
        args, busy = told.args("args"), told.args("busy", BIG)
        args.set_buffer(None)
        args.remote_end_point = listener.getsockname()
        async with open_initiator():
            Socket.cancel_connect_async(args)
            assert args.last_operation is SocketAsyncOperation.NONE
            assert other.send_async(busy) is True
            socket.cancel_connect_async(busy)
            assert busy.cancel() is True
            assert socket.connect_async(args) is True
            socket.cancel_connect_async(args)
            socket.cancel_connect_async(args)
            assert args.pending
            assert await args.wait() == 0
            assert socket.fileno() == -1
            Socket.cancel_connect_async(args)
            await wait_all_tasks_blocked()
            assert args.connect_by_name_error is None
        assert [event for event in told.events if event[0] == "args"] == [
            ("args", SocketError.OPERATION_ABORTED, 0)
        ]
        assert args.outcome is not None
        with pytest.raises(SocketException, match=r"cancel_connect_async\(\) was called$"):
            args.outcome.unwrap()
        for nothing in (None, object()):
            with pytest.raises(TypeError, match=r"^args must be a SocketAsyncEventArgs"):
                Socket.cancel_connect_async(nothing)  # type: ignore[arg-type]


@pytest.mark.fact("F150", "F243")
@pytest.mark.parametrize("phase", ["looking up", "trying"])
async def test_a_connect_to_a_name_that_is_called_off(stack: ExitStack, phase: str) -> None:
    """No further address is tried. The socket survives only if nothing had begun."""
    listener = stack.enter_context(stdlib_socket.socket())
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    silent = stack.enter_context(full())
    Resolver([silent.getsockname(), listener.getsockname()], held=phase == "looking up")
    socket = stack.enter_context(closing(Socket()))
    told = Told()
    args = told.args("args", b"x")
    args.set_buffer(None)
    args.remote_end_point = ("slow.example", 80)
    async with open_initiator():
        assert socket.connect_async(args) is True
        await wait_all_tasks_blocked()
        Socket.cancel_connect_async(args)
        await args.wait()
        assert (socket.fileno() >= 0) is (phase == "looking up")
        error = args.connect_by_name_error
        assert error is not None
        assert error.socket_error_code is SocketError.OPERATION_ABORTED
        await wait_all_tasks_blocked()
    assert told.events == [("args", SocketError.OPERATION_ABORTED, 0)]
    listener.setblocking(False)
    with pytest.raises(BlockingIOError):
        listener.accept()


@every_connect
async def test_the_looking_up_of_a_name_can_be_stopped_without_harm(
    stack: ExitStack, face: str
) -> None:
    """Nothing has begun then, so the socket stays open and can be connected."""
    listener = stack.enter_context(stdlib_socket.socket())
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    resolver = Resolver([listener.getsockname()], held=True)
    socket = stack.enter_context(closing(Socket()))
    async with open_initiator():
        if face == "connect":
            async with trio.open_nursery() as nursery:
                nursery.start_soon(socket.connect, ("slow.example", 80))
                await wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()
        elif face == "begin_connect":
            result = socket.begin_connect(("slow.example", 80))
            await wait_all_tasks_blocked()
            assert result.cancel() is True
            with pytest.raises(SocketException):
                await socket.end_connect(result)
        else:
            args = SocketAsyncEventArgs()
            args.remote_end_point = ("slow.example", 80)
            assert socket.connect_async(args) is True
            await wait_all_tasks_blocked()
            assert args.cancel() is True
            await args.wait()
            assert args.socket_error is SocketError.OPERATION_ABORTED
        assert resolver.names == ["slow.example"]
        assert socket.fileno() >= 0
        resolver.released.set()
        await wait_all_tasks_blocked()
        assert not socket.connected
        await connect_through(face, socket, ("slow.example", 80))
        assert socket.connected


@pytest.mark.fact("F195", "F196")
@pytest.mark.parametrize("wait_for", ["the kernel", "a name"])
async def test_sends_wait_behind_a_pending_connect(stack: ExitStack, wait_for: str) -> None:
    """In all faces, in their order, and go out when the connection stands."""
    listener = stack.enter_context(stdlib_socket.socket())
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    resolver = Resolver([listener.getsockname()], held=True)
    socket = stack.enter_context(closing(Socket()))
    where = ("slow.example", 80) if wait_for == "a name" else listener.getsockname()
    counts: list[int] = []

    async def send() -> None:
        counts.append(await socket.send(b"three, "))

    async with open_initiator(), trio.open_nursery() as nursery:
        connecting = socket.begin_connect(where)
        one = SocketAsyncEventArgs(b"one, ")
        assert socket.send_async(one) is True
        two, error = socket.try_begin_send(b"two, ")
        assert error is SocketError.SUCCESS
        assert two is not None
        assert not two.is_completed
        if wait_for == "a name":
            nursery.start_soon(send)
            await wait_all_tasks_blocked()
            assert one.pending
            assert socket.queued_operations == 4
            four = SocketAsyncEventArgs(BIG)
            assert socket.send_async(four) is True
            resolver.released.set()
        else:
            nursery.start_soon(send)
            four = SocketAsyncEventArgs(BIG)
            await wait_all_tasks_blocked()
            socket.send_async(four)
        await socket.end_connect(connecting)
        assert socket.connected
        peer = stack.enter_context(listener.accept()[0])
        peer.setblocking(False)
        assert await read_exactly(peer, 17) == b"one, two, three, "
        assert await read_exactly(peer, len(BIG)) == BIG
        assert await one.wait() == 5
        assert await socket.end_send(two) == 5
        assert await four.wait() == len(BIG)
    assert counts == [7]


@pytest.mark.parametrize("wait_for", ["the kernel", "a name"])
async def test_sends_behind_a_connect_that_fails_were_never_connected(
    stack: ExitStack, wait_for: str
) -> None:
    """NOT_CONNECTED with 0 bytes; the socket may connect elsewhere and send then."""
    deaf = stack.enter_context(stdlib_socket.socket())
    deaf.bind(("127.0.0.1", 0))
    resolver = Resolver([deaf.getsockname()], held=True)
    socket = stack.enter_context(closing(Socket()))
    where = ("slow.example", 80) if wait_for == "a name" else deaf.getsockname()
    errors: list[tuple[SocketError, int]] = []

    async def send() -> None:
        with pytest.raises(SocketException) as caught:
            await socket.send(b"another task's")
        errors.append((caught.value.socket_error_code, caught.value.bytes_transferred))

    async with open_initiator():
        async with trio.open_nursery() as nursery:
            connecting = socket.begin_connect(where)
            args = SocketAsyncEventArgs(BIG)
            assert socket.send_async(args) is True
            result = socket.begin_send(b"")
            if wait_for == "a name":
                nursery.start_soon(send)
                await wait_all_tasks_blocked()
                resolver.released.set()
            with pytest.raises(SocketException) as caught:
                await socket.end_connect(connecting)
            assert caught.value.socket_error_code is SocketError.CONNECTION_REFUSED
            assert await args.wait() == 0
            assert args.socket_error is SocketError.NOT_CONNECTED
            assert await socket.try_end_send(result) == (0, SocketError.NOT_CONNECTED)
        if wait_for == "a name":
            assert errors == [(SocketError.NOT_CONNECTED, 0)]
        assert socket.send_async(args) is False
        assert args.socket_error is SocketError.NOT_CONNECTED
        deaf.listen()
        await socket.connect(deaf.getsockname())
        assert await socket.send(b"x") == 1


# Datagrams ------------------------------------------------------------------------------------


@pytest.mark.page("B35")
@pytest.mark.fact("F028")
@pytest.mark.parametrize("by_name", [False, True])
@every_connect
async def test_a_datagram_socket_gets_a_default_remote_host(face: str, by_name: bool) -> None:
    with stdlib_socket.socket(type=stdlib_socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        peer.setblocking(False)
        with closing(Socket(type=stdlib_socket.SOCK_DGRAM)) as socket:
            Resolver([peer.getsockname()])
            async with open_initiator():
                for number in range(2):
                    where = ("name.example", 1) if by_name else peer.getsockname()
                    await connect_through(face, socket, where)
                    assert socket.connected
                    assert socket.remote_end_point == peer.getsockname()
                    await socket.send(b"x%d" % number)
                    assert await read_some(peer) == b"x%d" % number


# End points and options -----------------------------------------------------------------------


def test_end_points_of_a_socket_on_its_own() -> None:
    with closing(Socket()) as socket:
        assert socket.local_end_point == ("0.0.0.0", 0)
        with pytest.raises(SocketException) as caught:
            assert socket.remote_end_point
        assert caught.value.socket_error_code is SocketError.NOT_CONNECTED
        socket.bind(("127.0.0.1", 0))
        assert socket.local_end_point[0] == "127.0.0.1"
    for name in ("local_end_point", "remote_end_point"):
        with pytest.raises(ObjectDisposedError, match=r"^this socket was closed"):
            getattr(socket, name)


def test_options() -> None:
    """As the standard library has them, with our errors."""
    level, option = stdlib_socket.SOL_SOCKET, stdlib_socket.SO_KEEPALIVE
    with closing(Socket()) as socket:
        assert socket.getsockopt(level, option) == 0
        socket.setsockopt(level, option, 1)
        assert socket.getsockopt(level, option) == 1
        assert socket.getsockopt(level, option, 4) == (1).to_bytes(4, sys.byteorder)
        socket.setsockopt(level, option, bytes(4))
        assert socket.getsockopt(level, option) == 0
        with stdlib_socket.socket(fileno=os.dup(socket.fileno())) as twin:
            twin.setsockopt(level, option, 1)
        assert socket.getsockopt(level, option) == 1
        for access in (
            lambda: socket.getsockopt(stdlib_socket.IPPROTO_TCP, 12345),
            lambda: socket.setsockopt(stdlib_socket.IPPROTO_TCP, 12345, 1),
        ):
            with pytest.raises(SocketException) as caught:
                access()
            assert caught.value.socket_error_code is SocketError.PROTOCOL_OPTION
            assert isinstance(caught.value.__cause__, OSError)
    with pytest.raises(ObjectDisposedError):
        socket.getsockopt(level, option)
    with pytest.raises(ObjectDisposedError):
        socket.setsockopt(level, option, 1)
