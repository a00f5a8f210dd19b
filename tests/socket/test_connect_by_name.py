"""Hold connecting by name to reaching whoever answers, soon, and to leaving nothing else behind."""

from __future__ import annotations

import errno
import os
import socket as stdlib_socket
import sys
from contextlib import ExitStack
from typing import Any

import pytest
import trio
from trio.testing import MockClock, assert_checkpoints, wait_all_tasks_blocked

from tests.connections import Resolver, full, open_sockets
from tests.helpers import HOSTS, needs_ipv6, read_to_end, stack as stack
from trio_send import Socket, SocketError, SocketException, connect_tcp, connect_unix
from trio_send._socket import connect_by_name as connecting

if sys.version_info < (3, 11):
    from exceptiongroup import ExceptionGroup

INET, INET6 = stdlib_socket.AF_INET, stdlib_socket.AF_INET6

#: Hosts of this machine, which need no setting up on Linux.
one_more_host = pytest.mark.skipif(
    sys.platform != "linux", reason="elsewhere 127.0.0.1 is the one loopback host"
)
needs_unix_sockets = pytest.mark.skipif(
    not hasattr(stdlib_socket, "AF_UNIX"), reason="needs Unix sockets"
)


def listening(stack: ExitStack, kind: str = "tcp4") -> stdlib_socket.socket:
    family, host = HOSTS[kind]
    sock = stack.enter_context(stdlib_socket.socket(family))
    if family == INET6:
        sock.setsockopt(stdlib_socket.IPPROTO_IPV6, stdlib_socket.IPV6_V6ONLY, 1)
    sock.bind((host, 0))
    sock.listen()
    return sock


def refusing(stack: ExitStack, kind: str = "tcp4") -> stdlib_socket.socket:
    """A socket that is bound, so that nobody else gets its port, and does not listen."""
    family, host = HOSTS[kind]
    sock = stack.enter_context(stdlib_socket.socket(family))
    sock.bind((host, 0))
    return sock


def named(*socks: stdlib_socket.socket) -> Resolver:
    """A name for all of these, in this order."""
    resolver = Resolver([])
    resolver.entries = [
        (sock.family, stdlib_socket.SOCK_STREAM, 0, "", sock.getsockname()) for sock in socks
    ]
    return resolver


async def accepted(listener: stdlib_socket.socket) -> stdlib_socket.socket:
    listener.setblocking(False)
    await trio.lowlevel.wait_readable(listener)
    peer, _ = listener.accept()
    peer.setblocking(False)
    return peer


# Who is reached ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["tcp4", pytest.param("tcp6", marks=needs_ipv6)])
async def test_one_address(kind: str, stack: ExitStack) -> None:
    listener = listening(stack, kind)
    named(listener)
    with assert_checkpoints():
        socket = await connect_tcp("one.example", 80)
    with await accepted(listener) as peer:
        assert socket.family == HOSTS[kind][0]
        assert socket.remote_end_point == listener.getsockname()
        assert socket.no_delay is True
        await socket.send(b"hello")
        await socket.aclose()
        assert await read_to_end(peer) == b"hello"


@needs_ipv6
@pytest.mark.parametrize("first", ["tcp4", "tcp6"])
@pytest.mark.parametrize("good", ["tcp4", "tcp6"])
async def test_a_server_of_one_family_is_reached_whichever_comes_first(
    first: str, good: str, stack: ExitStack
) -> None:
    """At once, although nothing else would be tried for a long time."""
    other = "tcp6" if first == "tcp4" else "tcp4"
    socks = [(listening if kind == good else refusing)(stack, kind) for kind in (first, other)]
    named(*socks)
    async with await connect_tcp("two.example", 80, happy_eyeballs_delay=None) as socket:
        assert socket.family == HOSTS[good][0]


async def test_an_address_that_does_not_answer_is_overtaken(
    stack: ExitStack, autojump_clock: MockClock
) -> None:
    before = open_sockets()
    silent = stack.enter_context(full())
    listener = listening(stack)
    named(silent, listener)
    begin = trio.current_time()
    async with await connect_tcp("two.example", 80, happy_eyeballs_delay=100) as socket:
        assert trio.current_time() - begin == 100
        assert socket.remote_end_point == listener.getsockname()
        assert open_sockets() - before == {socket}


async def test_a_late_answer_of_the_first_counts(
    stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has been begun goes on when the next one is tried."""
    slow, silent = listening(stack), stack.enter_context(full())
    begun = {slow.getsockname(): trio.Event(), silent.getsockname(): trio.Event()}
    real = Socket.connect

    async def connect(self: Socket, address: Any) -> None:
        begun[address].set()
        if address == slow.getsockname():
            await begun[silent.getsockname()].wait()
        await real(self, address)

    monkeypatch.setattr(Socket, "connect", connect)
    named(slow, silent)
    async with await connect_tcp("two.example", 80, happy_eyeballs_delay=0) as socket:
        assert socket.remote_end_point == slow.getsockname()


async def test_two_that_answer_at_once(stack: ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
    """One is taken, and the other sees an orderly end."""
    before = open_sockets()
    listeners = [listening(stack), listening(stack)]
    connected: list[Any] = []
    both = trio.Event()
    real = Socket.connect

    async def connect(self: Socket, address: Any) -> None:
        await real(self, address)
        connected.append(address)
        if len(connected) == 1:
            await both.wait()
        both.set()

    monkeypatch.setattr(Socket, "connect", connect)
    named(*listeners)
    async with await connect_tcp("two.example", 80, happy_eyeballs_delay=0) as socket:
        assert open_sockets() - before == {socket}
        for listener in listeners:
            with await accepted(listener) as peer:
                if listener.getsockname() != socket.remote_end_point:
                    assert await read_to_end(peer) == b""


async def test_an_attempt_is_out_of_reach_of_ctrl_c(
    stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It runs in a task of its own, and whatever it has opened has to be closed or handed on."""
    protected: list[bool] = []
    real = Socket.connect

    async def connect(self: Socket, address: Any) -> None:
        protected.append(trio.lowlevel.currently_ki_protected())
        await real(self, address)

    monkeypatch.setattr(Socket, "connect", connect)
    named(refusing(stack), listening(stack))
    async with await connect_tcp("two.example", 80):
        assert protected == [True, True]


async def test_settings_of_the_socket(stack: ExitStack) -> None:
    named(listening(stack))
    async with await connect_tcp("x.example", 80, no_delay=False, on_torn="allow") as socket:
        assert socket.no_delay is False
        assert socket._core.sends.refuse_torn is False


# In which order ---------------------------------------------------------------------------------


@needs_ipv6
async def test_the_families_take_turns_and_no_address_is_tried_twice(stack: ExitStack) -> None:
    sixes = [refusing(stack, "tcp6") for _ in range(3)]
    fours = [refusing(stack, "tcp4") for _ in range(2)]
    resolver = named(*sixes, *fours, *sixes)
    with pytest.raises(SocketException) as caught:
        await connect_tcp("five.example", 80, happy_eyeballs_delay=None)
    expected = [sixes[0], fours[0], sixes[1], fours[1], sixes[2]]
    group = caught.value.__cause__
    assert isinstance(group, ExceptionGroup)
    assert len(group.exceptions) == 5
    for error, sock in zip(group.exceptions, expected, strict=True):
        assert isinstance(error, SocketException)
        assert str(sock.getsockname()[1]) in str(error)
    assert resolver.names == ["five.example"]


# Who is not reached -----------------------------------------------------------------------------


@one_more_host
async def test_the_reason_of_each_address_is_told(
    stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = open_sockets()
    first, second = refusing(stack), refusing(stack)
    real = Socket.connect

    async def connect(self: Socket, address: Any) -> None:
        if address == second.getsockname():
            await trio.lowlevel.checkpoint()
            raise SocketException(
                SocketError.NETWORK_UNREACHABLE, native_error_code=errno.ENETUNREACH
            )
        await real(self, address)

    monkeypatch.setattr(Socket, "connect", connect)
    named(first, second)
    with pytest.raises(SocketException) as caught:
        await connect_tcp("two.example", 80, happy_eyeballs_delay=None)
    error = caught.value
    assert error.socket_error_code is SocketError.NETWORK_UNREACHABLE
    assert error.native_error_code == errno.ENETUNREACH
    ports = first.getsockname()[1], second.getsockname()[1]
    assert str(error).endswith(
        "connecting to 'two.example', none of its 2 addresses has answered: "
        f"127.0.0.1:{ports[0]}: CONNECTION_REFUSED; 127.0.0.1:{ports[1]}: NETWORK_UNREACHABLE"
    )
    group = error.__cause__
    assert isinstance(group, ExceptionGroup)
    assert [each.socket_error_code for each in group.exceptions] == [
        SocketError.CONNECTION_REFUSED,
        SocketError.NETWORK_UNREACHABLE,
    ]
    assert open_sockets() == before


async def test_the_reason_of_the_only_address_is_told(stack: ExitStack) -> None:
    sock = refusing(stack)
    named(sock)
    with pytest.raises(SocketException) as caught:
        await connect_tcp("one.example", 80)
    assert caught.value.socket_error_code is SocketError.CONNECTION_REFUSED
    assert "'one.example', its address has not answered: 127.0.0.1:" in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (
            stdlib_socket.gaierror(stdlib_socket.EAI_NONAME, "unknown"),
            SocketError.HOST_NOT_FOUND,
        ),
        (stdlib_socket.gaierror(stdlib_socket.EAI_AGAIN, "later"), SocketError.TRY_AGAIN),
        ([], SocketError.NO_DATA),
    ],
)
async def test_a_name_that_cannot_be_looked_up(answer: Any, code: SocketError) -> None:
    Resolver(answer)
    with pytest.raises(SocketException) as caught:
        await connect_tcp("nowhere.example", 80)
    assert caught.value.socket_error_code is code
    assert "'nowhere.example'" in str(caught.value)


# Cancelled --------------------------------------------------------------------------------------


async def test_a_cancelled_call_leaves_no_socket(stack: ExitStack) -> None:
    before = open_sockets()
    named(stack.enter_context(full()), stack.enter_context(full()))
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: connect_tcp("two.example", 80, happy_eyeballs_delay=0))
            await wait_all_tasks_blocked()
            assert len(open_sockets() - before) == 2
            scope.cancel()
    assert scope.cancelled_caught
    assert open_sockets() == before


async def test_a_call_that_is_cancelled_in_the_moment_of_success_leaves_no_socket(
    stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = open_sockets()
    named(listening(stack))
    real = Socket.connect
    outer = trio.CancelScope()

    async def connect(self: Socket, address: Any) -> None:
        await real(self, address)
        outer.cancel()

    monkeypatch.setattr(Socket, "connect", connect)
    with outer:
        await connect_tcp("one.example", 80)
    assert outer.cancelled_caught
    assert open_sockets() == before


async def test_a_call_that_is_cancelled_while_the_name_is_looked_up() -> None:
    resolver = Resolver([], held=True)
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connect_tcp, "one.example", 80)
            await wait_all_tasks_blocked()
            assert resolver.names == ["one.example"]
            scope.cancel()
    assert scope.cancelled_caught


# From where -------------------------------------------------------------------------------------


@one_more_host
async def test_a_local_address(stack: ExitStack) -> None:
    listener = listening(stack)
    named(listener)
    async with await connect_tcp("x.example", 80, local_address="127.0.0.5") as socket:
        with await accepted(listener) as peer:
            assert peer.getpeername()[0] == "127.0.0.5"
            assert socket.local_end_point[0] == "127.0.0.5"


@pytest.mark.parametrize("option", [None, 0xFFFF], ids=["unknown here", "unknown to the kernel"])
async def test_a_system_that_cannot_put_off_the_choice_of_the_port(
    option: int | None, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the port is chosen before the peer is known."""
    bound: list[Any] = []
    real = Socket.bind

    def bind(self: Socket, address: Any) -> None:
        real(self, address)
        bound.append(self.local_end_point)

    monkeypatch.setattr(connecting, "_NO_PORT_YET", option)
    monkeypatch.setattr(Socket, "bind", bind)
    listener = listening(stack)
    named(listener)
    async with await connect_tcp("x.example", 80, local_address="127.0.0.1") as socket:
        with await accepted(listener) as peer:
            assert bound == [peer.getpeername()] == [socket.local_end_point]


@needs_ipv6
async def test_peers_of_another_family_than_the_local_address_are_left_out(
    stack: ExitStack,
) -> None:
    four, six = listening(stack, "tcp4"), listening(stack, "tcp6")
    named(four, six)
    async with await connect_tcp("two.example", 80, local_address="::1") as socket:
        assert socket.remote_end_point == six.getsockname()
    named(four)
    with pytest.raises(SocketException, match="no address of the family of local_addr") as caught:
        await connect_tcp("one.example", 80, local_address="::1")
    assert caught.value.socket_error_code is SocketError.ADDRESS_FAMILY_NOT_SUPPORTED


async def test_an_address_of_another_machine(stack: ExitStack) -> None:
    named(listening(stack))
    with pytest.raises(SocketException) as caught:
        await connect_tcp("one.example", 80, local_address="192.0.2.1")
    assert caught.value.socket_error_code is SocketError.ADDRESS_NOT_AVAILABLE


# Unix sockets -----------------------------------------------------------------------------------


@needs_unix_sockets
@pytest.mark.parametrize("form", [str, os.fsencode, os.fspath])
async def test_a_unix_socket(form: Any, tmp_path: Any) -> None:
    path = tmp_path / "socket"
    with stdlib_socket.socket(stdlib_socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        with assert_checkpoints():
            socket = await connect_unix(form(path))
        async with socket:
            with await accepted(listener) as peer:
                await socket.send(b"hello")
                assert peer.recv(10) == b"hello"


@needs_unix_sockets
async def test_a_unix_socket_that_is_not_there(tmp_path: Any) -> None:
    before = open_sockets()
    with pytest.raises(SocketException) as caught:
        await connect_unix(tmp_path / "nothing")
    assert caught.value.native_error_code == errno.ENOENT
    assert open_sockets() == before
    with pytest.raises(TypeError, match=r"^path must be a path"):
        await connect_unix(5)  # type: ignore[arg-type]
    assert open_sockets() == before


async def test_a_system_without_unix_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(stdlib_socket, "AF_UNIX", raising=False)
    with pytest.raises(SocketException) as caught:
        await connect_unix("/tmp/x")
    assert caught.value.socket_error_code is SocketError.ADDRESS_FAMILY_NOT_SUPPORTED


# What is refused --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "error", "sentence"),
    [
        ({"host": None}, TypeError, "^host must be a str, not None"),
        ({"host": b"x"}, TypeError, "^host must be a str"),
        ({"port": "80"}, TypeError, "^port must be a whole number"),
        ({"port": 65536}, ValueError, "^port is 65536, but must be a number from 0 to 65535"),
        ({"port": -1}, ValueError, "^port is -1"),
        ({"happy_eyeballs_delay": -1}, ValueError, "^happy_eyeballs_delay is -1"),
        ({"happy_eyeballs_delay": "1"}, TypeError, "^happy_eyeballs_delay must be a number"),
        ({"no_delay": None}, TypeError, "^no_delay must be True or False"),
        ({"on_torn": "mend"}, ValueError, "^on_torn must be one of"),
        ({"local_address": "here.example"}, ValueError, "^local_address is 'here.example', but"),
        ({"local_address": ""}, ValueError, "^local_address is '', but must be a numeric"),
        ({"local_address": 5}, TypeError, "^local_address must be"),
    ],
)
async def test_arguments_that_make_no_sense(
    change: dict[str, Any], error: type[Exception], sentence: str
) -> None:
    resolver = Resolver([])
    call: dict[str, Any] = {"host": "one.example", "port": 80, **change}
    with pytest.raises(error, match=sentence):
        await connect_tcp(**call)
    assert resolver.names == []
