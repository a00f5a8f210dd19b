"""Hold the static connect to a socket after a success, to none after anything else, and to being told once."""

from __future__ import annotations

import socket as stdlib_socket
import sys
from contextlib import ExitStack
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.connections import Resolver, full, open_sockets
from tests.helpers import HOSTS, bytes_of, needs_ipv6, read_to_end, stack as stack
from trio_send import (
    ExitPolicy,
    InvalidOperationError,
    ObjectDisposedError,
    OperationInProgressError,
    Socket,
    SocketAsyncEventArgs,
    SocketAsyncOperation,
    SocketError,
    SocketFlags,
    connect_async,
    current_initiator,
    open_initiator,
)
from trio_send._socket.connect_by_name import Race
from trio_send._socket.static_connect import _ConnectNewStep

INET, INET6 = stdlib_socket.AF_INET, stdlib_socket.AF_INET6
STREAM = stdlib_socket.SOCK_STREAM


def bound(stack: ExitStack, kind: str, *, listens: bool) -> stdlib_socket.socket:
    family, host = HOSTS[kind]
    sock = stack.enter_context(stdlib_socket.socket(family))
    sock.bind((host, 0))
    if listens:
        sock.listen()
    return sock


class Told:
    """Args for an address, and what their handler is told.

    Attributes:
      args: the args.
      sockets: whom the handler was called with.
    """

    def __init__(self, address: Any) -> None:
        self.sockets: list[Socket] = []
        self.args = SocketAsyncEventArgs()
        self.args.remote_end_point = address
        self.args.completed += self._completed

    def _completed(self, socket: Socket, args: SocketAsyncEventArgs) -> None:
        assert args is self.args
        self.sockets.append(socket)


async def started(told: Told) -> None:
    assert connect_async(told.args) is True
    assert told.args.pending
    assert told.args.connect_socket is None
    await told.args.wait()


# A success --------------------------------------------------------------------------------------


@pytest.mark.fact("F244")
@pytest.mark.parametrize("kind", ["tcp4", pytest.param("tcp6", marks=needs_ipv6)])
async def test_an_address(kind: str, stack: ExitStack) -> None:
    listener = bound(stack, kind, listens=True)
    told = Told(listener.getsockname())
    async with open_initiator():
        await started(told)
        socket = told.args.connect_socket
        assert socket is not None
        assert told.sockets == [socket]
        assert told.args.socket_error is SocketError.SUCCESS
        assert told.args.last_operation is SocketAsyncOperation.CONNECT
        assert told.args.connect_by_name_error is None
        assert socket.family == HOSTS[kind][0]
        assert socket.no_delay is False
        peer, _ = listener.accept()
        with peer:
            # What comes next belongs to the socket itself.
            assert socket.send_async(SocketAsyncEventArgs(b"hello")) is False
            assert peer.recv(10) == b"hello"
        socket.close()


@needs_ipv6
@pytest.mark.parametrize("good", ["tcp4", "tcp6"])
@pytest.mark.parametrize("first", ["tcp4", "tcp6"])
async def test_a_name_of_both_families(good: str, first: str, stack: ExitStack) -> None:
    socks = [bound(stack, kind, listens=kind == good) for kind in ("tcp4", "tcp6")]
    if first == "tcp6":
        socks.reverse()
    resolver = Resolver([])
    resolver.entries = [(sock.family, STREAM, 0, "", sock.getsockname()) for sock in socks]
    before = open_sockets()
    told = Told(("two.example", 80))
    async with open_initiator():
        await started(told)
        socket = told.args.connect_socket
        assert socket is not None
        assert socket.family == HOSTS[good][0]
        assert open_sockets() - before == {socket}
        socket.close()
    assert resolver.names == ["two.example"]


@pytest.mark.skipif(not hasattr(stdlib_socket, "AF_UNIX"), reason="needs Unix sockets")
@pytest.mark.parametrize("listens", [True, False])
async def test_a_path(listens: bool, tmp_path: Any) -> None:
    path = str(tmp_path / "socket")
    with stdlib_socket.socket(stdlib_socket.AF_UNIX) as listener:
        listener.bind(path)
        if listens:
            listener.listen()
        told = Told(path)
        async with open_initiator():
            await started(told)
            if not listens:
                assert told.args.socket_error is SocketError.CONNECTION_REFUSED
                assert told.args.connect_socket is None
                return
            assert told.args.connect_socket is not None
            told.args.connect_socket.close()


async def test_args_may_be_used_again(stack: ExitStack) -> None:
    listener = bound(stack, "tcp4", listens=True)
    told = Told(listener.getsockname())
    async with open_initiator():
        await started(told)
        first = told.args.connect_socket
        assert first is not None
        await started(told)
        second = told.args.connect_socket
        assert second is not None
        assert second is not first
        assert first.connected and second.connected
        assert told.sockets == [first, second]
        first.close()
        second.close()
        told.args.remote_end_point = bound(stack, "tcp4", listens=False).getsockname()
        await started(told)
        assert told.args._operation.connect_socket is None


# Anything else ----------------------------------------------------------------------------------


@pytest.mark.fact("F244")
async def test_nobody_listens(stack: ExitStack) -> None:
    before = open_sockets()
    sock = bound(stack, "tcp4", listens=False)
    resolver = Resolver([])
    resolver.entries = [(INET, STREAM, 0, "", sock.getsockname())]
    told = Told(("one.example", 80))
    async with open_initiator():
        await started(told)
        assert told.args.socket_error is SocketError.CONNECTION_REFUSED
        assert told.args.connect_socket is None
        error = told.args.connect_by_name_error
        assert error is not None
        assert "'one.example'" in str(error)
        assert len(told.sockets) == 1
        assert told.sockets[0].connected is False
    assert open_sockets() == before


async def test_a_name_that_is_not_known() -> None:
    Resolver(stdlib_socket.gaierror(stdlib_socket.EAI_NONAME, "unknown"))
    told = Told(("nowhere.example", 80))
    async with open_initiator():
        await started(told)
        assert told.args.socket_error is SocketError.HOST_NOT_FOUND
        assert told.args.connect_by_name_error is not None


# A message --------------------------------------------------------------------------------------

BIG = bytes_of(8_000_000, seed=4)


@pytest.mark.fact("F239", "F244")
@pytest.mark.parametrize("message", [b"", b"hello", BIG], ids=["empty", "small", "big"])
@pytest.mark.parametrize("by_name", [True, False])
async def test_a_buffer_is_the_first_message(
    by_name: bool, message: bytes, stack: ExitStack
) -> None:
    listener = bound(stack, "tcp4", listens=True)
    resolver = Resolver([])
    resolver.entries = [(INET, STREAM, 0, "", listener.getsockname())]
    told = Told(("one.example", 80) if by_name else listener.getsockname())
    told.args.set_buffer(message)
    received: list[bytes] = []
    async with open_initiator():
        assert connect_async(told.args) is True
        listener.setblocking(False)
        await trio.lowlevel.wait_readable(listener)
        peer, _ = listener.accept()
        peer.setblocking(False)

        async def read() -> None:
            received.append(await read_to_end(peer))

        with peer:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(read)
                assert await told.args.wait() == len(message)
                socket = told.args.connect_socket
                assert socket is not None
                assert told.sockets == [socket]
                assert told.args.socket_error is SocketError.SUCCESS
                assert told.args.last_operation is SocketAsyncOperation.CONNECT
                assert socket.remote_end_point == listener.getsockname()
                assert socket.statistics().bytes_accepted == len(message)
                await socket.send(b", and more")  # behind it, on the same queue
                if sys.platform == "linux":
                    assert socket.audit().agrees
                await socket.aclose()
    assert received == [message + b", and more"]


async def test_a_message_that_is_cut_leaves_a_socket_with_its_rest(stack: ExitStack) -> None:
    listener = bound(stack, "tcp4", listens=True)
    told = Told(listener.getsockname())
    told.args.set_buffer(BIG)
    async with open_initiator():
        assert connect_async(told.args) is True
        listener.setblocking(False)
        await trio.lowlevel.wait_readable(listener)
        peer, _ = listener.accept()
        while not told.args.bytes_transferred:
            await trio.lowlevel.checkpoint()
        assert told.args.cancel("enough") is True
        await told.args.wait()
        assert told.args.socket_error is SocketError.OPERATION_ABORTED
        socket, cut = told.args.connect_socket, told.args.bytes_transferred
        assert socket is not None
        assert 0 < cut < len(BIG)
        assert socket.torn is not None
        assert socket.torn.bytes_transferred == cut
        with peer:
            peer.setblocking(False)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(socket.send_rest)
                got = bytearray()
                while len(got) < len(BIG):
                    await trio.lowlevel.wait_readable(peer)
                    got += peer.recv(1 << 20)
        assert got == BIG
        socket.close()


async def test_a_message_of_a_connect_that_fails_or_cannot_be_sent(stack: ExitStack) -> None:
    before = open_sockets()
    told = Told(bound(stack, "tcp4", listens=False).getsockname())
    told.args.set_buffer(b"hello")
    async with open_initiator():
        await started(told)
        assert told.args.socket_error is SocketError.CONNECTION_REFUSED
        assert told.args.bytes_transferred == 0
        assert told.args.connect_socket is None
        told.args.socket_flags = SocketFlags.BROADCAST
        assert connect_async(told.args) is False
        assert told.args.socket_error is SocketError.OPERATION_NOT_SUPPORTED
    assert open_sockets() == before


@pytest.mark.fact("F242", "F243", "F244")
@pytest.mark.parametrize("way", ["cancel_connect_async", "cancel", "timeout", "leave"])
@pytest.mark.parametrize("by_name", [True, False])
async def test_a_connect_that_is_stopped_leaves_no_socket(
    way: str, by_name: bool, stack: ExitStack, autojump_clock: Any
) -> None:
    before = open_sockets()
    silent = stack.enter_context(full())
    told = Told(("one.example", 80) if by_name else silent.getsockname())
    if by_name:
        Resolver([], held=True)
    args = told.args
    if way == "timeout":
        args.timeout = 50
    async with open_initiator():
        assert connect_async(args) is True
        await wait_all_tasks_blocked()
        assert len(open_sockets() - before) == (0 if by_name else 1)
        if way == "cancel_connect_async":
            Socket.cancel_connect_async(args)
        elif way == "cancel":
            assert args.cancel() is True
        elif way == "timeout":
            await args.wait()
    assert args.socket_error is (
        SocketError.TIMED_OUT if way == "timeout" else SocketError.OPERATION_ABORTED
    )
    assert args.connect_socket is None
    assert len(told.sockets) == 1
    assert open_sockets() == before


async def test_a_connect_that_is_stopped_in_the_moment_of_success_leaves_no_socket(
    stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As soon as the kernel has connected; and nothing is left that waits."""
    before = open_sockets()
    told = Told(bound(stack, "tcp4", listens=True).getsockname())
    real = Socket.connect

    async def connect(self: Socket, address: Any) -> None:
        await real(self, address)
        assert told.args.cancel() is True

    monkeypatch.setattr(Socket, "connect", connect)
    async with open_initiator():
        await started(told)
        assert told.args.socket_error is SocketError.OPERATION_ABORTED
        await wait_all_tasks_blocked()
        assert open_sockets() == before


async def test_a_stop_between_the_success_and_its_account_leaves_no_socket(
    stack: ExitStack, monkeypatch: pytest.MonkeyPatch, autojump_clock: Any
) -> None:
    """The last attempt has ended well, and the task that waits for it has yet to run."""
    before = open_sockets()
    told = Told(bound(stack, "tcp4", listens=True).getsockname())
    go_on = trio.Event()
    real = Socket.connect
    stopped: list[bool] = []

    async def connect(self: Socket, address: Any) -> None:
        await real(self, address)
        await go_on.wait()

    class Stop(trio.abc.Instrument):
        def task_exited(self, task: trio.lowlevel.Task) -> None:
            if "Race._attempt" in task.name:
                stopped.append(told.args.cancel())

    monkeypatch.setattr(Socket, "connect", connect)
    instrument = Stop()
    async with open_initiator():
        assert connect_async(told.args) is True
        await trio.sleep(10)  # until nothing but the attempt itself is waited for
        trio.lowlevel.add_instrument(instrument)
        go_on.set()
        await told.args.wait()
        await wait_all_tasks_blocked()
        trio.lowlevel.remove_instrument(instrument)
    assert stopped == [True]
    assert told.args.socket_error is SocketError.OPERATION_ABORTED
    assert open_sockets() == before


async def test_a_step_that_has_its_outcome_is_not_waited_for_and_lets_go_of_it(
    stack: ExitStack,
) -> None:
    before = open_sockets()
    for listens in (True, False):
        address = bound(stack, "tcp4", listens=listens).getsockname()
        step = _ConnectNewStep(address)
        assert step.must_be_awaited
        await step.wait_ready(SocketAsyncEventArgs())
        assert not step.must_be_awaited
        assert len(open_sockets() - before) == int(listens)
        step.abandon(None)
        assert open_sockets() == before


async def test_an_initiator_that_hands_it_over(stack: ExitStack) -> None:
    listener = bound(stack, "tcp4", listens=True)
    resolver = Resolver([], held=True)
    resolver.entries = [(INET, STREAM, 0, "", listener.getsockname())]
    told = Told(("one.example", 80))
    async with open_initiator(ExitPolicy.JOIN):
        async with open_initiator(ExitPolicy.ADOPT):
            assert connect_async(told.args) is True
            await wait_all_tasks_blocked()
        assert told.args.pending
        resolver.released.set()
    assert told.args.connect_socket is not None
    assert told.args.connect_socket.connected
    told.args.connect_socket.close()


async def test_one_that_is_handed_over_in_the_moment_of_success_has_its_socket(
    stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When nobody has taken account of it yet. Nobody connects once more."""
    before = open_sockets()
    told = Told(bound(stack, "tcp4", listens=True).getsockname())
    real = Race.run
    won: list[Socket] = []

    async def run(self: Race, delay: float) -> Socket:
        socket = await real(self, delay)
        won.append(socket)
        inner._owner.hand_over()
        return socket

    monkeypatch.setattr(Race, "run", run)
    with trio.fail_after(60):
        async with open_initiator(ExitPolicy.JOIN) as outer:
            async with open_initiator(ExitPolicy.ADOPT) as inner:
                assert connect_async(told.args) is True
                await told.args.wait()
                assert inner.statistics().succeeded == 0
                assert outer.statistics().succeeded == 1
    socket = told.args.connect_socket
    assert told.sockets == [socket]
    assert socket is not None
    assert socket.connected
    assert len(won) == 1
    socket.close()
    assert open_sockets() == before


@pytest.mark.parametrize("first_to_come", [0, 1])
async def test_of_two_that_have_won_around_a_hand_over_one_is_closed(
    first_to_come: int, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was on its way to its end when its owner left, and what the adopter has begun."""
    before = open_sockets()
    told = Told(bound(stack, "tcp4", listens=True).getsockname())
    real = Race.run
    won: list[Socket] = []
    come = [trio.Event(), trio.Event()]

    async def run(self: Race, delay: float) -> Socket:
        number = len(won)
        with trio.CancelScope(shield=True):
            won.append(await real(self, delay))
            if number == 0:
                inner._owner.hand_over()
                await wait_all_tasks_blocked()
            if number != first_to_come:
                await come[first_to_come].wait()
                await wait_all_tasks_blocked()
        come[number].set()
        return won[number]

    monkeypatch.setattr(Race, "run", run)
    with trio.fail_after(60):
        async with open_initiator(ExitPolicy.JOIN):
            async with open_initiator(ExitPolicy.ADOPT) as inner:
                assert connect_async(told.args) is True
                await told.args.wait()
                await come[1 - first_to_come].wait()
    socket = told.args.connect_socket
    assert told.sockets == [socket]
    assert len(won) == 2
    assert socket is not None
    assert socket.connected
    assert open_sockets() - before == {socket}
    socket.close()


async def test_a_start_behind_the_stop_is_answered_on_the_spot() -> None:
    told = Told(("127.0.0.1", 1))
    async with open_initiator():
        current_initiator().cancel_scope.cancel()
        await wait_all_tasks_blocked()
        assert connect_async(told.args) is False
        assert told.args.socket_error is SocketError.OPERATION_ABORTED
        assert told.args.connect_socket is None


# What is refused --------------------------------------------------------------------------------


@pytest.mark.fact("F233")
@pytest.mark.parametrize(
    ("address", "error", "what"),
    [
        (None, TypeError, " is None, but must be the address to connect to"),
        (5, TypeError, ""),
        (("127.0.0.1",), TypeError, ""),
        (("127.0.0.1", "80"), TypeError, ""),
        (("127.0.0.1", 65536), ValueError, ""),
        (("one.example", -1), ValueError, ""),
        (("::1", 80, 0, 0, 0), TypeError, ""),
    ],
)
async def test_addresses_that_make_no_sense(
    address: Any, error: type[Exception], what: str
) -> None:
    told = Told(address)
    async with open_initiator():
        with pytest.raises(error, match=f"^remote_end_point{what}"):
            connect_async(told.args)
        assert not told.args.pending
        assert told.args.last_operation is SocketAsyncOperation.NONE


async def test_a_list_is_refused(stack: ExitStack) -> None:
    args = SocketAsyncEventArgs(buffer_list=[b"hello"])
    args.remote_end_point = bound(stack, "tcp4", listens=True).getsockname()
    async with open_initiator():
        with pytest.raises(ValueError, match=r"^buffer_list is set, but a connect"):
            connect_async(args)


async def test_args_that_cannot_be_started() -> None:
    async with open_initiator():
        with pytest.raises(TypeError):
            connect_async(None)  # type: ignore[arg-type]
        closed = Told(("127.0.0.1", 1)).args
        closed.close()
        with pytest.raises(ObjectDisposedError):
            connect_async(closed)
        Resolver([], held=True)
        busy = Told(("one.example", 80)).args
        assert connect_async(busy) is True
        with pytest.raises(OperationInProgressError):
            connect_async(busy)


async def test_without_an_initiator() -> None:
    told = Told(("127.0.0.1", 1))
    with pytest.raises(InvalidOperationError, match="no initiator is open"):
        connect_async(told.args)
    await trio.lowlevel.checkpoint()
