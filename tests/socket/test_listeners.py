"""Hold listeners to what Trio's serving expects of them, and listening to all addresses or none.

Modules: _kernel.unix_paths.
"""

from __future__ import annotations

import errno
import os
import socket as stdlib_socket
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

from tests.connections import (
    Resolver,
    address as address,
    listener as listener,
    open_sockets,
)
from tests.helpers import HAVE_IPV6, HOSTS, kind as kind, needs_ipv6, scripted
from trio_send import (
    ObjectDisposedError,
    Socket,
    SocketError,
    SocketException,
    SocketListener,
    connect_tcp,
    connect_unix,
    open_tcp_listeners,
    open_unix_listener,
    serve_tcp,
)
from trio_send._socket import listeners as listeners_module

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup

INET, INET6 = stdlib_socket.AF_INET, stdlib_socket.AF_INET6
AF_UNIX: int = getattr(stdlib_socket, "AF_UNIX", -1)

needs_unix_sockets = pytest.mark.skipif(AF_UNIX < 0, reason="needs Unix sockets")


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """However a test ends, no socket stays open."""
    before = open_sockets()
    yield
    assert open_sockets() - before == set()


def client(listener: SocketListener) -> stdlib_socket.socket:
    """A plain socket that is connected to it."""
    sock = stdlib_socket.socket(listener.socket.family)
    sock.connect(listener.socket.local_end_point)
    return sock


# One listener -----------------------------------------------------------------------------------


async def test_a_stream_for_each_connection(kind: str, listener: stdlib_socket.socket) -> None:
    ours = SocketListener(Socket.from_stdlib(listener))
    async with ours:
        assert ours.socket.fileno() == listener.fileno()
        for _ in range(2):
            with client(ours) as peer:
                with assert_checkpoints():
                    stream = await ours.accept()
                async with stream:
                    await stream.send_all(b"hello")
                    assert peer.recv(10) == b"hello"
                    accepted = stream.socket
                    assert isinstance(accepted, Socket)
                    if kind != "unix":
                        assert accepted.no_delay is True
                        assert accepted.remote_end_point == peer.getsockname()


async def test_the_text_of_a_listener() -> None:
    (ours,) = await open_tcp_listeners(0, host="127.0.0.1")
    assert repr(ours) == f"<SocketListener of {ours.socket!r}>"
    await ours.aclose()
    assert "closed" in repr(ours)


@pytest.mark.parametrize("no_delay", [True, False])
async def test_sockets_for_those_who_want_them(no_delay: bool) -> None:
    (ours,) = await open_tcp_listeners(0, host="127.0.0.1", no_delay=no_delay)
    async with ours:
        with client(ours) as peer:
            with assert_checkpoints():
                socket = await ours.accept_socket()
            async with socket:
                assert socket.no_delay is no_delay
                await socket.send(b"hello")
                assert peer.recv(10) == b"hello"
        with client(ours):
            async with await ours.accept() as stream:
                assert stream.socket.no_delay is no_delay


@pytest.mark.parametrize("name", ["accept", "accept_socket"])
async def test_an_accept_that_is_cancelled_takes_no_connection(name: str) -> None:
    (ours,) = await open_tcp_listeners(0, host="127.0.0.1")
    async with ours:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(getattr(ours, name))
                await wait_all_tasks_blocked()
                scope.cancel()
        with client(ours):
            async with await ours.accept():
                pass


async def test_a_close_ends_the_accepts_that_wait() -> None:
    (ours,) = await open_tcp_listeners(0, host="127.0.0.1")

    async def accept() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await ours.accept()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept)
        nursery.start_soon(accept)
        await wait_all_tasks_blocked()
        with assert_checkpoints():
            await ours.aclose()
    with pytest.raises(ObjectDisposedError):
        await ours.accept()
    await ours.aclose()


def fail_first(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Have the first accept fail."""
    real = Socket.accept
    failed: list[int] = []

    async def accept(self: Socket) -> Socket:
        if not failed:
            failed.append(number)
            await trio.lowlevel.checkpoint()
            raise SocketException(SocketError.SOCKET_ERROR, native_error_code=number)
        return await real(self)

    monkeypatch.setattr(Socket, "accept", accept)


@pytest.mark.parametrize("name", ["ECONNABORTED", "EPERM", "EPROTO", "ENETDOWN", "ETIMEDOUT"])
async def test_what_is_wrong_with_one_connection_is_passed_over(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_first(monkeypatch, getattr(errno, name))
    (ours,) = await open_tcp_listeners(0, host="127.0.0.1")
    async with ours:
        with client(ours):
            async with await ours.accept():
                pass


@pytest.mark.parametrize("name", ["EMFILE", "ENFILE", "ENOBUFS", "EINVAL"])
async def test_what_is_wrong_with_the_process_is_told(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_first(monkeypatch, getattr(errno, name))
    (ours,) = await open_tcp_listeners(0, host="127.0.0.1")
    async with ours:
        with pytest.raises(SocketException) as caught:
            await ours.accept()
        assert caught.value.errno == getattr(errno, name)


@pytest.mark.parametrize("name", ["EMFILE", "ENFILE", "ENOMEM", "ENOBUFS"])
async def test_trio_goes_on_serving_when_something_is_lacking(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It knows the error by its errno, pauses and tries again."""
    fail_first(monkeypatch, getattr(errno, name))
    served: list[bytes] = []
    is_served = trio.Event()

    async def serve(stream: trio.abc.HalfCloseableStream) -> None:
        served.append(await stream.receive_some())
        is_served.set()

    async with trio.open_nursery() as nursery:
        (ours,) = await open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, serve, [ours])
        await wait_all_tasks_blocked()
        with client(ours) as peer:
            peer.send(b"hello")
            await is_served.wait()
        nursery.cancel_scope.cancel()
    assert served == [b"hello"]
    assert len(caplog.records) == 1


async def test_an_error_that_nobody_knows_ends_the_serving(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fail_first(monkeypatch, errno.EDOM)
    (ours,) = await open_tcp_listeners(0, host="127.0.0.1")
    with pytest.raises(BaseExceptionGroup) as caught:
        await trio.serve_listeners(trio.sleep, [ours])
    assert caught.group_contains(SocketException)
    assert ours.socket.fileno() == -1


@pytest.mark.parametrize(
    ("make", "error", "sentence"),
    [
        (lambda sock: SocketListener(None), TypeError, r"^socket must be a trio_send\.Socket"),
        (lambda sock: SocketListener(sock), ValueError, r"^socket does not listen; call its"),
        (lambda sock: SocketListener(sock, no_delay=1), TypeError, r"^no_delay must be True"),
    ],
)
def test_what_is_no_listener(make: Any, error: type[Exception], sentence: str) -> None:
    socket = Socket()
    with pytest.raises(error, match=sentence):
        make(socket)
    assert socket.fileno() >= 0
    socket.close()


def test_a_socket_that_cannot_be_a_listener() -> None:
    socket = Socket()
    socket.close()
    with pytest.raises(ObjectDisposedError):
        SocketListener(socket)
    sender, _ = scripted()
    with pytest.raises(SocketException) as caught:
        SocketListener(sender)
    assert caught.value.socket_error_code is SocketError.OPERATION_NOT_SUPPORTED
    sender.close()


async def test_a_system_that_does_not_say_who_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    """As macOS."""
    real = Socket.getsockopt

    def getsockopt(self: Socket, level: int, optname: int, *size: Any) -> Any:
        if optname == stdlib_socket.SO_ACCEPTCONN:
            raise SocketException(SocketError.PROTOCOL_OPTION)
        return real(self, level, optname, *size)

    monkeypatch.setattr(Socket, "getsockopt", getsockopt)
    (ours,) = await open_tcp_listeners(0, host="127.0.0.1")
    async with ours:
        with client(ours):
            async with await ours.accept():
                pass


# Ports ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", pytest.param("::1", marks=needs_ipv6)])
async def test_one_host(host: str) -> None:
    with assert_checkpoints():
        opened = await open_tcp_listeners(0, host=host)
    (ours,) = opened
    async with ours:
        assert ours.socket.local_end_point[0] == host
        async with await connect_tcp(host, ours.socket.local_end_point[1]):
            async with await ours.accept():
                pass


@needs_ipv6
async def test_all_addresses_have_one_port() -> None:
    opened = await open_tcp_listeners(0)
    assert sorted(each.socket.family for each in opened) == sorted([INET, INET6])
    (port,) = {each.socket.local_end_point[1] for each in opened}
    for each in opened:
        host = "127.0.0.1" if each.socket.family == INET else "::1"
        async with await connect_tcp(host, port):
            async with await each.accept_socket() as accepted:
                # Each of them has its own family, and none the other's.
                assert accepted.remote_end_point[0] == host
    for each in opened:
        await each.aclose()


def take(monkeypatch: pytest.MonkeyPatch, family: int, code: SocketError, times: int) -> list[Any]:
    """Have binding to a family fail so many times; return the ports that were tried with it."""
    real = Socket.bind
    tried: list[Any] = []

    def bind(self: Socket, address: Any) -> None:
        if self.family == family:
            tried.append(address[1])
            if len(tried) <= times:
                raise SocketException(code)
        real(self, address)

    monkeypatch.setattr(Socket, "bind", bind)
    return tried


@needs_ipv6
@pytest.mark.parametrize("times", [3, 9, 10])
async def test_a_port_that_is_free_for_one_family_only(
    times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolver = Resolver([])
    resolver.entries = [
        (INET, stdlib_socket.SOCK_STREAM, 0, "", ("127.0.0.1", 0)),
        (INET6, stdlib_socket.SOCK_STREAM, 0, "", ("::1", 0, 0, 0)),
    ]
    tried = take(monkeypatch, INET6, SocketError.ADDRESS_ALREADY_IN_USE, times)
    if times == 10:
        with pytest.raises(SocketException) as caught:
            await open_tcp_listeners(0)
        assert caught.value.socket_error_code is SocketError.ADDRESS_ALREADY_IN_USE
        assert len(tried) == 10
        return
    opened = await open_tcp_listeners(0)
    assert len(opened) == 2
    assert {each.socket.local_end_point[1] for each in opened} == {tried[-1]}
    for each in opened:
        await each.aclose()


@needs_ipv6
async def test_a_port_that_was_asked_for_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = take(monkeypatch, INET6, SocketError.ADDRESS_ALREADY_IN_USE, 1)
    with stdlib_socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(SocketException):
        await open_tcp_listeners(port)
    assert tried == [port]


async def test_a_port_in_use() -> None:
    (ours,) = await open_tcp_listeners(0, host="127.0.0.1")
    async with ours:
        with pytest.raises(SocketException) as caught:
            await open_tcp_listeners(ours.socket.local_end_point[1], host="127.0.0.1")
        assert caught.value.socket_error_code is SocketError.ADDRESS_ALREADY_IN_USE


@pytest.mark.skipif(not HAVE_IPV6, reason="this machine has no ::1")
@pytest.mark.parametrize("host", [None, "two.example"])
@pytest.mark.parametrize(
    "code", [SocketError.ADDRESS_NOT_AVAILABLE, SocketError.ADDRESS_FAMILY_NOT_SUPPORTED]
)
async def test_a_machine_without_ipv6(
    host: str | None, code: SocketError, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a machine does not have is left out; what was asked for by name is not, if it could be there."""
    resolver = Resolver([])
    resolver.entries = [
        (INET, stdlib_socket.SOCK_STREAM, 0, "", ("127.0.0.1", 0)),
        (INET6, stdlib_socket.SOCK_STREAM, 0, "", ("::1", 0, 0, 0)),
    ]
    take(monkeypatch, INET6, code, 1)
    if host is not None and code is SocketError.ADDRESS_NOT_AVAILABLE:
        with pytest.raises(SocketException) as caught:
            await open_tcp_listeners(0, host=host)
        assert caught.value.socket_error_code is code
        return
    (ours,) = await open_tcp_listeners(0, host=host)
    assert ours.socket.family == INET
    await ours.aclose()


async def test_a_machine_without_any_family(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(*arguments: Any) -> Socket:
        raise SocketException(SocketError.ADDRESS_FAMILY_NOT_SUPPORTED)

    monkeypatch.setattr(listeners_module, "Socket", make)
    with pytest.raises(SocketException) as caught:
        await open_tcp_listeners(0)
    assert caught.value.socket_error_code is SocketError.ADDRESS_FAMILY_NOT_SUPPORTED


@pytest.mark.parametrize(("given", "used"), [(None, 0xFFFF), (5, 5), (0, 0), (100_000, 0xFFFF)])
async def test_how_many_may_wait(
    given: int | None, used: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Socket.listen
    seen: list[int] = []

    def listen(self: Socket, backlog: int) -> None:
        seen.append(backlog)
        real(self, backlog)

    monkeypatch.setattr(Socket, "listen", listen)
    (ours,) = await open_tcp_listeners(0, host="127.0.0.1", backlog=given)
    await ours.aclose()
    assert seen == [used]


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (lambda: open_tcp_listeners("80"), TypeError, "^port must be a whole number"),
        (lambda: open_tcp_listeners(None), TypeError, "^port must be a whole number"),
        (lambda: open_tcp_listeners(65536), ValueError, "^port is 65536"),
        (lambda: open_tcp_listeners(0, host=b"x"), TypeError, "^host must be a str or None"),
        (lambda: open_tcp_listeners(0, backlog=-1), ValueError, "^backlog is -1, but must be"),
        (lambda: open_tcp_listeners(0, backlog=1.5), TypeError, "^backlog must be a whole"),
        (lambda: open_tcp_listeners(0, no_delay=1), TypeError, "^no_delay must be True"),
        (lambda: open_unix_listener(5), TypeError, "^path must be a path"),
        (lambda: open_unix_listener("x", backlog=-1), ValueError, "^backlog is -1"),
        (lambda: open_unix_listener("x" * 200), ValueError, "^path is a path of 200 bytes"),
    ],
)
async def test_arguments_that_make_no_sense(
    call: Any, error: type[Exception], sentence: str
) -> None:
    resolver = Resolver([])
    with pytest.raises(error, match=sentence):
        await call()
    assert resolver.names == []


# Paths ------------------------------------------------------------------------------------------


@needs_unix_sockets
@pytest.mark.parametrize("form", [str, os.fsencode, os.fspath, Path])
async def test_a_path(form: Any, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with assert_checkpoints():
        ours = await open_unix_listener(form(path))
    async with ours:
        async with await connect_unix(path) as socket:
            async with await ours.accept() as stream:
                await stream.send_all(b"hello")
                assert await socket.receive() == b"hello"
    assert not path.exists()
    async with await open_unix_listener(path):
        pass


@needs_unix_sockets
async def test_a_socket_that_was_left_over_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with stdlib_socket.socket(AF_UNIX) as left_over:
        left_over.bind(str(path))
    assert path.is_socket()
    async with await open_unix_listener(path) as ours:
        with client(ours):
            async with await ours.accept():
                pass


@needs_unix_sockets
@pytest.mark.parametrize("type", [stdlib_socket.SOCK_STREAM, stdlib_socket.SOCK_DGRAM])
async def test_a_socket_in_use_is_left_alone(type: int, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with stdlib_socket.socket(AF_UNIX, type) as other:
        other.bind(str(path))
        if type == stdlib_socket.SOCK_STREAM:
            other.listen()
        other.setblocking(False)
        before = path.stat()
        with pytest.raises(SocketException, match="somebody else uses the socket") as caught:
            await open_unix_listener(path)
        assert caught.value.socket_error_code is SocketError.ADDRESS_ALREADY_IN_USE
        assert path.stat() == before
        with pytest.raises(BlockingIOError):
            # Nor was it bothered.
            other.accept() if type == stdlib_socket.SOCK_STREAM else other.recv(1)


@needs_unix_sockets
async def test_a_file_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("valuable")
    with pytest.raises(SocketException, match="there is a file at") as caught:
        await open_unix_listener(path)
    assert caught.value.socket_error_code is SocketError.ADDRESS_ALREADY_IN_USE
    assert path.read_text() == "valuable"


@needs_unix_sockets
async def test_a_left_over_socket_that_cannot_be_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "socket"
    with stdlib_socket.socket(AF_UNIX) as left_over:
        left_over.bind(str(path))

    def unlink(path: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "unlink", unlink)
    with pytest.raises(SocketException, match="cannot be removed: Permission denied"):
        await open_unix_listener(path)


@needs_unix_sockets
async def test_what_somebody_else_put_in_its_place_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    ours = await open_unix_listener(path)
    path.unlink()
    path.write_text("something else")
    await ours.aclose()
    assert path.read_text() == "something else"


@needs_unix_sockets
async def test_a_listen_that_fails_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "socket"

    def listen(self: Socket, backlog: int) -> None:
        assert stat.S_ISSOCK(path.stat().st_mode)
        raise SocketException(SocketError.ACCESS_DENIED)

    monkeypatch.setattr(Socket, "listen", listen)
    with pytest.raises(SocketException):
        await open_unix_listener(path)
    assert not path.exists()


@needs_unix_sockets
@pytest.mark.skipif(sys.platform != "linux", reason="abstract names are Linux's")
async def test_an_abstract_name() -> None:
    name = b"\0trio_send" + os.urandom(8)
    async with await open_unix_listener(name) as ours:
        async with await connect_unix(name):
            async with await ours.accept():
                pass
        with pytest.raises(SocketException) as caught:
            await open_unix_listener(name)
        assert caught.value.socket_error_code is SocketError.ADDRESS_ALREADY_IN_USE


# Serving ----------------------------------------------------------------------------------------


async def test_a_server() -> None:
    async def echo(stream: trio.abc.HalfCloseableStream) -> None:
        while data := await stream.receive_some():
            await stream.send_all(data)

    async with trio.open_nursery() as nursery:
        opened: list[SocketListener] = await nursery.start(
            lambda task_status: serve_tcp(echo, 0, host="127.0.0.1", task_status=task_status)
        )
        port = opened[0].socket.local_end_point[1]
        for number in range(3):
            async with await connect_tcp("127.0.0.1", port) as socket:
                message = b"%d" % number
                await socket.send(message)
                assert await socket.receive() == message
        nursery.cancel_scope.cancel()
    assert opened[0].socket.fileno() == -1


async def test_handlers_in_a_nursery_outside() -> None:
    served: list[bytes] = []

    async def serve(stream: trio.abc.HalfCloseableStream) -> None:
        served.append(await stream.receive_some())

    async with trio.open_nursery() as outside:
        async with trio.open_nursery() as nursery:
            opened: list[SocketListener] = await nursery.start(
                lambda task_status: serve_tcp(
                    serve,
                    0,
                    host=HOSTS["tcp4"][1],
                    handler_nursery=outside,
                    task_status=task_status,
                )
            )
            with client(opened[0]) as peer:
                await wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()
                await trio.lowlevel.cancel_shielded_checkpoint()
                peer.send(b"hello")
                with trio.CancelScope(shield=True):
                    while not served:
                        await trio.lowlevel.checkpoint()
    assert served == [b"hello"]
