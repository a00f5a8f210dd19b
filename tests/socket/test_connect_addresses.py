"""Hold a socket that connects more than once, or to one of several addresses, to reaching what a fresh one reaches.

The listeners are plain sockets of the standard library. Those that do not answer have a full backlog.

Modules: _kernel.port.
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
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.connections import Resolver, connect_through, dual, every_connect, full
from tests.datagrams import receiver, take_all
from tests.helpers import needs_ipv6, read_exactly, read_some, stack as stack
from trio_send import (
    Socket,
    SocketAsyncEventArgs,
    SocketError,
    SocketException,
    open_initiator,
)
from trio_send._kernel import port as port_module
from trio_send._kernel.port import KernelPort
from trio_send._socket.connect import ANSWER_LIMIT

INET, INET6, UNIX = stdlib_socket.AF_INET, stdlib_socket.AF_INET6, stdlib_socket.AF_UNIX
STREAM, DGRAM = stdlib_socket.SOCK_STREAM, stdlib_socket.SOCK_DGRAM
HOSTS = {INET: "127.0.0.1", INET6: "::1"}

needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux says so")
needs_numbers = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such call")


def listener(stack: ExitStack, family: int = INET) -> stdlib_socket.socket:
    sock = stack.enter_context(stdlib_socket.socket(family))
    if family == INET6:
        sock.setsockopt(stdlib_socket.IPPROTO_IPV6, stdlib_socket.IPV6_V6ONLY, 1)
    sock.bind((HOSTS[family], 0))
    sock.listen()
    return sock


def deaf(stack: ExitStack, family: int = INET) -> stdlib_socket.socket:
    """A plain socket at an address where a connect is refused."""
    sock = stack.enter_context(stdlib_socket.socket(family))
    sock.bind((HOSTS[family], 0))
    return sock


def entry(sock: stdlib_socket.socket) -> Any:
    """What a resolver says of an address."""
    return sock.family, STREAM, 0, "", sock.getsockname()


# A fresh descriptor ---------------------------------------------------------------------------


@needs_ipv6
@every_connect
async def test_ipv6_is_reached_after_ipv4_has_refused(stack: ExitStack, face: str) -> None:
    """In one connect to a name, and in two connects. Linux would keep the socket in IPv4's ways."""
    refuses, answers = deaf(stack), listener(stack, INET6)
    resolver = Resolver([])
    resolver.entries = [entry(refuses), entry(answers)]
    async with open_initiator():
        by_name = dual(stack)
        with trio.fail_after(60):
            await connect_through(face, by_name, ("both.example", 80))
        assert by_name.remote_end_point == answers.getsockname()
        in_turn = dual(stack)
        with pytest.raises(SocketException) as caught:
            await connect_through(face, in_turn, refuses.getsockname())
        assert caught.value.socket_error_code is SocketError.CONNECTION_REFUSED
        with trio.fail_after(60):
            await connect_through(face, in_turn, answers.getsockname())
            assert await in_turn.send(b"here") == 4
        with answers.accept()[0], answers.accept()[0] as peer:
            peer.setblocking(False)
            assert await read_exactly(peer, 4) == b"here"


@needs_numbers
@every_connect
async def test_who_holds_the_number_need_not_know(stack: ExitStack, face: str) -> None:
    """Neither the socket that was handed in, nor the trio socket; options and the own address stay."""
    answers = listener(stack)
    handed_in = stack.enter_context(stdlib_socket.socket())
    handed_in.bind(("127.0.0.1", 0))
    own = handed_in.getsockname()
    handed_in.setsockopt(stdlib_socket.IPPROTO_TCP, stdlib_socket.TCP_NODELAY, 1)
    Resolver([deaf(stack).getsockname(), answers.getsockname()])
    with closing(Socket.from_stdlib(handed_in)) as socket:
        number, face_of_trio = socket.fileno(), socket.trio
        async with open_initiator():
            with pytest.raises(SocketException):
                await connect_through(face, socket, deaf(stack).getsockname())
            await connect_through(face, socket, ("two.example", 80))
        assert socket.fileno() == handed_in.fileno() == face_of_trio.fileno() == number
        assert socket.trio is face_of_trio
        peer, address = answers.accept()
        with peer:
            assert socket.local_end_point == handed_in.getsockname() == own == address
            assert face_of_trio.getpeername() == answers.getsockname()
            assert handed_in.getsockopt(stdlib_socket.IPPROTO_TCP, stdlib_socket.TCP_NODELAY)
            peer.setblocking(False)
            assert await socket.send(b"ours, ") == 6
            await face_of_trio.send(b"trio's, ")
            handed_in.send(b"handed in")
            assert await read_exactly(peer, 23) == b"ours, trio's, handed in"


@needs_numbers
@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="counts descriptors in /proc")
async def test_no_descriptor_is_left_behind(stack: ExitStack) -> None:
    Resolver([deaf(stack).getsockname() for _ in range(3)])
    socket = stack.enter_context(closing(Socket()))
    before = os.listdir("/proc/self/fd")
    for _ in range(3):
        with pytest.raises(SocketException):
            await socket.connect(("three.example", 80))
    assert os.listdir("/proc/self/fd") == before


@needs_numbers
@every_connect
async def test_without_a_descriptor_it_is_the_next_connect_that_fails(
    stack: ExitStack, face: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the code of that. When there is one again, the socket connects."""
    refuses, answers = deaf(stack).getsockname(), listener(stack).getsockname()

    def none_left(*args: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    async with open_initiator():
        socket = stack.enter_context(closing(Socket()))
        with monkeypatch.context() as patch:
            patch.setattr("trio_send._kernel.port.renew", none_left)
            for code in (SocketError.CONNECTION_REFUSED, SocketError.TOO_MANY_OPEN_SOCKETS):
                with pytest.raises(SocketException) as caught:
                    await connect_through(face, socket, refuses)
                assert caught.value.socket_error_code is code
        await connect_through(face, socket, answers)
        assert socket.connected


async def test_a_connection_that_stands_is_left_alone_by_a_connect_in_vain(
    stack: ExitStack,
) -> None:
    """One that the socket learns of only from the kernel."""
    answers = listener(stack)
    handed_in = stack.enter_context(stdlib_socket.socket())
    socket = stack.enter_context(closing(Socket.from_stdlib(handed_in)))
    handed_in.setblocking(True)
    handed_in.connect(answers.getsockname())
    handed_in.setblocking(False)
    with pytest.raises(SocketException) as caught:
        await socket.connect(answers.getsockname())
    assert caught.value.socket_error_code is SocketError.IS_CONNECTED
    with answers.accept()[0] as peer:
        assert handed_in.send(b"x") == 1
        assert peer.recv(10) == b"x"


@needs_numbers
async def test_a_queue_that_is_drained_by_others_is_watched_anew(
    stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine has armed the old descriptor, and would wait for it for ever."""
    silent, answers = stack.enter_context(full()), listener(stack)
    socket = stack.enter_context(closing(Socket()))

    def refuse(*args: object) -> None:
        raise OSError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))

    async with open_initiator():
        first = socket.begin_connect(silent.getsockname())
        second = socket.begin_connect(answers.getsockname())
        await wait_all_tasks_blocked()
        with monkeypatch.context() as patch:
            patch.setattr(KernelPort, "connect_poll", refuse)
            socket._core.sends.drain(1)
        with trio.fail_after(60):
            await socket.end_connect(second)
        assert socket.connected
        with pytest.raises(SocketException):
            socket.end_connect_nowait(first)


@needs_numbers
@pytest.mark.parametrize("how", ["close", "cancel"])
async def test_what_is_asked_for_between_two_addresses_comes_in_time(
    stack: ExitStack, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a finaliser, for example: the second is not tried any more, and no descriptor is lost or mistaken."""
    answers = listener(stack)
    answers.setblocking(False)
    Resolver([deaf(stack).getsockname(), answers.getsockname()])
    socket = stack.enter_context(closing(Socket()))
    renew = port_module.renew
    noted: list[object] = []

    def strike(*args: Any) -> None:
        noted.append(socket.close() if how == "close" else connecting.cancel())
        renew(*args)

    monkeypatch.setattr(port_module, "renew", strike)
    async with open_initiator():
        connecting = socket.begin_connect(("two.example", 80))
        with pytest.raises(SocketException) as caught:
            await socket.end_connect(connecting)
        assert caught.value.socket_error_code is SocketError.OPERATION_ABORTED
    assert noted == [None if how == "close" else True]
    assert (socket.fileno() >= 0) is (how == "cancel")  # nothing had begun that time
    with pytest.raises(BlockingIOError):
        answers.accept()


# An address that does not answer --------------------------------------------------------------


@needs_numbers
@pytest.mark.parametrize("family", [INET, pytest.param(INET6, marks=needs_ipv6)])
@every_connect
async def test_an_address_that_does_not_answer_is_left_for_the_next(
    stack: ExitStack, face: str, family: int, autojump_clock: MockClock
) -> None:
    """When its time is up, and not before. A stranger's wait for the descriptor ends with it."""
    silent = [stack.enter_context(full()) for _ in range(2)]
    answers = listener(stack, family)
    resolver = Resolver([])
    resolver.entries = [*map(entry, silent), entry(answers)]
    socket = dual(stack)
    waited: list[float] = []

    async def wait() -> None:
        await trio.sleep(1)
        with pytest.raises(trio.ClosedResourceError):
            await trio.lowlevel.wait_readable(socket.trio.fileno())
        waited.append(trio.current_time() - start)

    start = trio.current_time()
    async with open_initiator(), trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await connect_through(face, socket, ("three.example", 80))
        assert trio.current_time() - start == pytest.approx(2 * ANSWER_LIMIT)
    assert waited == [pytest.approx(ANSWER_LIMIT)]
    assert socket.remote_end_point[1] == answers.getsockname()[1]
    assert await socket.send(b"x") == 1


@every_connect
async def test_the_last_address_is_waited_for(
    stack: ExitStack, face: str, autojump_clock: MockClock
) -> None:
    """There is nothing better to do; the caller's own limit ends it, and the socket is closed."""
    silent = stack.enter_context(full())
    Resolver([deaf(stack).getsockname(), silent.getsockname()])
    socket = stack.enter_context(closing(Socket()))
    async with open_initiator():
        with trio.move_on_after(100 * ANSWER_LIMIT) as scope:
            await connect_through(face, socket, ("two.example", 80))
    assert scope.cancelled_caught
    if face == "connect":
        assert socket.fileno() == -1


async def test_a_limit_of_the_args_ends_the_whole_of_a_connect(
    stack: ExitStack, autojump_clock: MockClock
) -> None:
    """Also in the middle of an address's own time."""
    Resolver([stack.enter_context(full()).getsockname() for _ in range(3)])
    socket = stack.enter_context(closing(Socket()))
    args = SocketAsyncEventArgs()
    args.remote_end_point = ("three.example", 80)
    args.timeout = 1.5 * ANSWER_LIMIT
    start = trio.current_time()
    async with open_initiator():
        assert socket.connect_async(args) is True
        await args.wait()
        assert args.socket_error is SocketError.TIMED_OUT
        assert trio.current_time() - start == pytest.approx(1.5 * ANSWER_LIMIT)
    assert socket.fileno() == -1


async def test_sends_wait_until_the_connection_stands_at_the_next_address(
    stack: ExitStack, autojump_clock: MockClock
) -> None:
    silent, answers = stack.enter_context(full()), listener(stack)
    Resolver([silent.getsockname(), answers.getsockname()])
    socket = stack.enter_context(closing(Socket()))
    args = SocketAsyncEventArgs(b"first, ")
    args.remote_end_point = ("two.example", 80)
    async with open_initiator():
        assert socket.connect_async(args) is True
        second = socket.begin_send(b"second")
        assert await args.wait() == 7
        assert await socket.end_send(second) == 6
    with answers.accept()[0] as peer:
        peer.setblocking(False)
        assert await read_exactly(peer, 13) == b"first, second"


# A Unix listener without room -----------------------------------------------------------------


def crowd(stack: ExitStack, path: str) -> stdlib_socket.socket:
    """A Unix listener whose backlog is full."""
    sock = stack.enter_context(stdlib_socket.socket(UNIX))
    sock.bind(path)
    sock.listen(0)
    while True:
        client = stack.enter_context(stdlib_socket.socket(UNIX))
        client.setblocking(False)
        if client.connect_ex(path) == errno.EAGAIN:
            return sock


@pytest.mark.fact("F257")
@needs_linux
@every_connect
async def test_a_unix_listener_without_room_is_waited_for(
    stack: ExitStack,
    tmp_path: Path,
    face: str,
    autojump_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After pauses, for the kernel tells nobody of room. Meanwhile sends wait behind."""
    path = str(tmp_path / "socket")
    sock = crowd(stack, path)
    socket = stack.enter_context(closing(Socket(UNIX)))

    async def connect() -> None:
        await connect_through(face, socket, path)
        assert await socket.send(b"inside") == 6

    pauses: list[float] = []
    sleep = trio.sleep

    async def noted(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(seconds)

    monkeypatch.setattr(trio, "sleep", noted)
    async with open_initiator(), trio.open_nursery() as nursery:
        nursery.start_soon(connect)
        await sleep(60)
        assert pauses[:8] == [0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.05, 0.05]
        assert not socket.connected
        assert socket.queued_operations == 1
        sock.accept()[0].close()
    with sock.accept()[0] as peer:
        peer.setblocking(False)
        assert await read_exactly(peer, 6) == b"inside"


@pytest.mark.fact("F242")
@needs_linux
async def test_waiting_for_room_ends_with_the_operations_limits(
    stack: ExitStack, tmp_path: Path, autojump_clock: MockClock
) -> None:
    """Nothing has begun, so the socket stays open and can be connected."""
    path = str(tmp_path / "socket")
    sock = crowd(stack, path)
    socket = stack.enter_context(closing(Socket(UNIX)))
    args = SocketAsyncEventArgs()
    args.remote_end_point = path
    args.timeout = 5
    async with open_initiator():
        start = trio.current_time()
        assert socket.connect_async(args) is True
        await args.wait()
        assert args.socket_error is SocketError.TIMED_OUT
        assert trio.current_time() - start == pytest.approx(5)
        result = socket.begin_connect(path)
        assert result.cancel() is True
        with trio.move_on_after(5) as scope:
            await socket.connect(path)
        assert scope.cancelled_caught
        assert socket.fileno() >= 0
        sock.accept()[0].close()
        await socket.connect(path)
        assert socket.connected


# Datagrams ------------------------------------------------------------------------------------


@pytest.mark.fact("F028")
@needs_ipv6
@every_connect
async def test_a_datagram_socket_goes_from_family_to_family(stack: ExitStack, face: str) -> None:
    """And is answered."""
    peers = [stack.enter_context(receiver(family)) for family in (INET, INET6)]
    socket = dual(stack, DGRAM)
    async with open_initiator():
        for peer in peers * 2:
            await connect_through(face, socket, peer.getsockname()[:2])
            await socket.send(b"question")
            assert await read_some(peer) == b"question"
            own = ("127.0.0.1", *socket.local_end_point[1:2]) if peer.family == INET else None
            peer.sendto(b"answer", own or socket.local_end_point)
            assert await socket.receive() == b"answer"


@needs_linux
@every_connect
async def test_a_default_host_that_is_lost_is_not_believed_in(
    stack: ExitStack, face: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the system neither takes the new one nor the old one back."""
    near = stack.enter_context(receiver())
    socket = stack.enter_context(closing(Socket(type=DGRAM)))
    await socket.connect(near.getsockname())

    def lose(sock: stdlib_socket.socket, address: Any) -> None:
        from trio_send._kernel.default_host import _dissolve

        _dissolve(sock)
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    with monkeypatch.context() as patch:
        patch.setattr("trio_send._kernel.port.set_default_host", lose)
        async with open_initiator():
            with pytest.raises(SocketException) as caught:
                await connect_through(face, socket, ("127.0.0.2", 9))
            assert caught.value.socket_error_code is SocketError.INVALID_ARGUMENT
    assert not socket.connected
    with pytest.raises(SocketException) as caught:
        await socket.send(b"nowhere")
    assert caught.value.socket_error_code is SocketError.NOT_CONNECTED
    with pytest.raises(SocketException) as caught:
        assert socket.remote_end_point
    assert take_all(near) == []
