"""Hold binding, listening, accepting and connecting to what they say, in their three faces.

Where ours connects, the listener is a plain socket; where ours accepts, so are those who connect.
"""

from __future__ import annotations

import errno
import os
import socket as stdlib_socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

from tests.helpers import (
    BIG,
    HOSTS,
    KINDS,
    connected,
    never_called,
    nothing_to_read,
    read_exactly,
    read_some,
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
    SocketShutdown,
    open_initiator,
)

CONNECTS = ("connect", "begin_connect", "connect_async")
ACCEPTS = ("accept", "begin_accept", "accept_async")

every_connect = pytest.mark.parametrize("face", CONNECTS)
every_accept = pytest.mark.parametrize("face", ACCEPTS)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """A kind of stream."""
    return str(request.param)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Whatever is put here is closed in the end."""
    with ExitStack() as made:
        yield made


@pytest.fixture
def address(kind: str, tmp_path: Path) -> Any:
    """Where to listen."""
    return str(tmp_path / "socket") if kind == "unix" else (HOSTS[kind][1], 0)


def family(kind: str) -> int:
    return stdlib_socket.AF_UNIX if kind == "unix" else HOSTS[kind][0]


@pytest.fixture
def listener(kind: str, address: Any) -> Iterator[stdlib_socket.socket]:
    """A plain socket that listens."""
    with stdlib_socket.socket(family(kind)) as sock:
        sock.bind(address)
        sock.listen()
        yield sock


@pytest.fixture
def ours(kind: str) -> Iterator[Socket]:
    """One of ours, not connected."""
    with closing(Socket(family(kind))) as socket:
        yield socket


async def connect_through(face: str, socket: Socket, address: Any) -> None:
    """Connect and wait for the end; raise what went wrong."""
    if face == "connect":
        await socket.connect(address)
    elif face == "begin_connect":
        await socket.end_connect(socket.begin_connect(address))
    else:
        args = SocketAsyncEventArgs()
        args.remote_end_point = address
        if socket.connect_async(args):
            assert args.connect_socket is None  # F151
            await args.wait()
        assert args.last_operation is SocketAsyncOperation.CONNECT
        assert args.bytes_transferred == 0
        assert args.outcome is not None
        assert (args.connect_socket is socket) == (args.socket_error is SocketError.SUCCESS)
        args.outcome.unwrap()


async def accept_through(face: str, socket: Socket) -> Socket:
    """Wait for a connection; raise what went wrong."""
    if face == "accept":
        return await socket.accept()
    if face == "begin_accept":
        return await socket.end_accept(socket.begin_accept())
    args = SocketAsyncEventArgs()
    if socket.accept_async(args):
        await args.wait()
    assert args.last_operation is SocketAsyncOperation.ACCEPT
    assert args.outcome is not None
    args.outcome.unwrap()
    assert args.accept_socket is not None
    return args.accept_socket


@contextmanager
def full(kind: str = "tcp4") -> Iterator[stdlib_socket.socket]:
    """A plain listener whose backlog is full, so that a connect to it stays pending."""
    with ExitStack() as stack:
        sock = stack.enter_context(stdlib_socket.socket(HOSTS[kind][0]))
        sock.bind((HOSTS[kind][1], 0))
        sock.listen(1)
        # Far more than the backlog: most of them will never be answered, nor will those that come later.
        for _ in range(8):
            client = stack.enter_context(stdlib_socket.socket(HOSTS[kind][0]))
            client.setblocking(False)
            client.connect_ex(sock.getsockname())
        yield sock


class Resolver(trio.abc.HostnameResolver):
    """Looks up names as it is told.

    Args:
      answer: the addresses of every name, or the error.
      held: whether to answer only when `released` is set.
    """

    def __init__(self, answer: list[Any] | Exception, *, held: bool = False) -> None:
        self.answer = answer
        self.released = trio.Event()
        self.names: list[str] = []
        if not held:
            self.released.set()
        trio.socket.set_custom_hostname_resolver(self)

    async def getaddrinfo(
        self, host: Any, port: Any, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
    ) -> list[Any]:
        self.names.append(host.decode() if isinstance(host, bytes) else host)
        await self.released.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return [(family, type, proto, "", address) for address in self.answer]

    async def getnameinfo(self, sockaddr: Any, flags: int) -> tuple[str, str]:
        raise NotImplementedError


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
    refused, answers = deaf.getsockname(), listener.getsockname()
    resolver = Resolver([refused, refused, answers, refused])
    async with open_initiator():
        socket = stack.enter_context(closing(Socket()))
        await connect_through(face, socket, ("many.example", 80))
        assert socket.remote_end_point == answers
        assert resolver.names == ["many.example"]
        resolver.answer = [refused, refused]
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


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere such a connect is refused")
async def test_a_unix_listener_with_a_full_backlog(stack: ExitStack, tmp_path: Path) -> None:
    """The kernel gives no readiness event for it, so the connect fails instead of waiting for one."""
    path = str(tmp_path / "socket")
    listener = stack.enter_context(stdlib_socket.socket(stdlib_socket.AF_UNIX))
    listener.bind(path)
    listener.listen(0)
    while True:
        client = stack.enter_context(stdlib_socket.socket(stdlib_socket.AF_UNIX))
        client.setblocking(False)
        if client.connect_ex(path) == errno.EAGAIN:
            break
    async with open_initiator():
        args = SocketAsyncEventArgs()
        args.remote_end_point = path
        socket = stack.enter_context(closing(Socket(stdlib_socket.AF_UNIX)))
        assert socket.connect_async(args) is False
        assert args.socket_error is SocketError.WOULD_BLOCK
        with pytest.raises(SocketException) as caught:
            await socket.connect(path)
        assert caught.value.socket_error_code is SocketError.WOULD_BLOCK
        listener.accept()[0].close()
        await socket.connect(path)
        assert socket.connected


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


# Accepting ------------------------------------------------------------------------------------


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
        with pytest.raises(InvalidOperationError, match=r"^accept_socket still holds"):
            server.accept_async(args)
        assert args.accept_socket is kept
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


@pytest.mark.fact("F246")
async def test_the_order_of_the_checks_of_an_accept(ours: Socket, address: Any) -> None:
    """Closed, then the args, then what they hold, then the listener (F246), then the initiator."""
    closed = SocketAsyncEventArgs()
    closed.close()
    with_list = SocketAsyncEventArgs(buffer_list=[])
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
    ours.listen()
    refuse(ready, InvalidOperationError, r"^no initiator is open here")
    with pytest.raises(InvalidOperationError, match=r"^no initiator is open here"):
        ours.begin_accept()
    assert ready.last_operation is SocketAsyncOperation.NONE
    ours.close()
    for args in (None, closed, with_list, ready):
        refuse(args, ObjectDisposedError, r"^this socket was closed")


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
