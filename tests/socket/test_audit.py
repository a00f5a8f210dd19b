"""The kernel as referee: what it says of a connection has to add up to what the library counted, at any moment.

Modules: _kernel.tcp_totals.
"""

from __future__ import annotations

import itertools
import os
import random
import socket as stdlib_socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

import trio_send._kernel.tcp_totals
from tests.helpers import (
    BIG,
    HOSTS,
    bytes_of,
    connected,
    needs_ipv6,
    read_exactly,
    reset,
    stdlib_pair,
)
from trio_send import (
    Audit,
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
from trio_send.testing import ScriptedPort

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")


# -- the ways to come by a connection ---------------------------------------------------------------------------------
#
# Each returns one of ours and its peer, a plain socket. The kernel counts the opening of a connection on the side that
# opened it, and whatever was sent before the library had the socket; the library must know what to leave out.

Maker = Callable[[str], Any]


def make_listener(kind: str) -> stdlib_socket.socket:
    family, host = HOSTS[kind]
    listener = stdlib_socket.socket(family)
    # What it accepts inherits this, so little fits and partial sends are easy to have.
    listener.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_RCVBUF, 1)
    listener.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_SNDBUF, 1)
    listener.bind((host, 0))
    listener.listen()
    return listener


async def connected_by_us(kind: str) -> tuple[Socket, stdlib_socket.socket]:
    with make_listener(kind) as listener:
        ours = Socket(HOSTS[kind][0])
        ours.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_SNDBUF, 1)
        await ours.connect(listener.getsockname())
        return ours, listener.accept()[0]


async def connected_by_args(kind: str) -> tuple[Socket, stdlib_socket.socket]:
    with make_listener(kind) as listener:
        ours = Socket(HOSTS[kind][0])
        args = SocketAsyncEventArgs()
        args.remote_end_point = listener.getsockname()
        async with open_initiator():
            if ours.connect_async(args):
                await args.wait()
        assert args.socket_error is SocketError.SUCCESS
        return ours, listener.accept()[0]


async def accepted_by_us(kind: str) -> tuple[Socket, stdlib_socket.socket]:
    async with Socket.from_stdlib(make_listener(kind)) as listener:
        peer = stdlib_socket.create_connection(listener.local_end_point[:2])
        return await listener.accept(), peer


async def active_side_from_stdlib(kind: str) -> tuple[Socket, stdlib_socket.socket]:
    left, right = stdlib_pair(kind, tiny=True)
    return Socket.from_stdlib(left), right


async def passive_side_from_stdlib(kind: str) -> tuple[Socket, stdlib_socket.socket]:
    left, right = stdlib_pair(kind, tiny=True)
    return Socket.from_stdlib(right), left


async def from_stdlib_then_connected(kind: str) -> tuple[Socket, stdlib_socket.socket]:
    with make_listener(kind) as listener:
        ours = Socket.from_stdlib(stdlib_socket.socket(HOSTS[kind][0]))
        await ours.connect(listener.getsockname())
        return ours, listener.accept()[0]


async def from_trio(kind: str) -> tuple[Socket, stdlib_socket.socket]:
    left, right = stdlib_pair(kind, tiny=True)
    return Socket.from_trio(trio.socket.from_stdlib_socket(left)), right


async def taken_over_after_bytes_that_were_read(kind: str) -> tuple[Socket, stdlib_socket.socket]:
    left, right = stdlib_pair(kind)
    left.sendall(bytes(12345))
    assert len(right.recv(12345, stdlib_socket.MSG_WAITALL)) == 12345
    return Socket.from_stdlib(left), right


async def taken_over_with_bytes_on_their_way(kind: str) -> tuple[Socket, stdlib_socket.socket]:
    """Many of them not acknowledged, many not even sent."""
    left, right = stdlib_pair(kind, tiny=True)
    left.setblocking(False)
    before = left.send(BIG)
    ours = Socket.from_stdlib(left)
    assert ours.audit().bytes_accepted == 0
    right.recv(before, stdlib_socket.MSG_WAITALL)
    return ours, right


MAKERS: list[Maker] = [
    connected_by_us,
    connected_by_args,
    accepted_by_us,
    active_side_from_stdlib,
    passive_side_from_stdlib,
    from_stdlib_then_connected,
    from_trio,
    taken_over_after_bytes_that_were_read,
    taken_over_with_bytes_on_their_way,
]


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something in the kernel that raises no event."""
    while not condition():  # noqa: ASYNC110  there is nobody to set an event
        await trio.sleep(0.001)


@asynccontextmanager
async def made(make: Maker, kind: str) -> AsyncIterator[tuple[Socket, stdlib_socket.socket]]:
    ours, peer = await make(kind)
    peer.setblocking(False)
    with peer:
        try:
            yield ours, peer
        finally:
            ours.close()


kinds = pytest.mark.parametrize("kind", ["tcp4", pytest.param("tcp6", marks=needs_ipv6)])
makers = pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)


@linux_only
@kinds
@makers
async def test_agrees_before_the_first_byte(kind: str, make: Maker) -> None:
    async with made(make, kind) as (ours, _):
        audit = ours.audit()
        assert audit.agrees
        assert (audit.bytes_accepted, audit.bytes_unsent, audit.is_closed) == (0, 0, False)


@linux_only
@kinds
@makers
async def test_agrees_at_random_partial_states(kind: str, make: Maker) -> None:
    generator = random.Random(f"{kind} {make.__name__}")
    counted = 0
    partial = 0
    sent = bytearray()
    received = bytearray()

    async with made(make, kind) as (ours, peer):

        def look() -> None:
            audit = ours.audit()
            assert audit.agrees, audit
            assert audit.bytes_accepted == counted
            assert 0 <= audit.bytes_unsent <= audit.bytes_unacknowledged
            assert 0 <= audit.bytes_acknowledged <= counted
            assert not audit.is_closed

        def read(at_most: int) -> None:
            try:
                received.extend(peer.recv(at_most))
            except BlockingIOError:
                pass

        async with open_initiator():
            # The long message does not fit into buffers of any size. So the first of them is cut, whatever happens.
            for size in [20_000_000, *generator.choices([1, 100, 5_000, 60_000, 300_000], k=30)]:
                message = bytes_of(size, seed=size)
                args = SocketAsyncEventArgs(message)
                if ours.send_async(args):
                    counted += args.bytes_transferred
                    look()
                    for _ in range(generator.randrange(4)):
                        before = args.bytes_transferred
                        read(generator.randrange(1, 50_000))
                        await trio.testing.wait_all_tasks_blocked()
                        counted += args.bytes_transferred - before
                        look()
                    args.cancel()
                else:
                    counted += args.bytes_transferred
                sent += message[: args.bytes_transferred]
                partial += 0 < args.bytes_transferred < len(message)
                await args.wait()
                if ours.torn is not None:
                    ours.forget_torn()
                look()
        assert partial > 0
        received += await read_exactly(peer, counted - len(received))
        await ours.wait_acknowledged()
        look()
        assert ours.audit().bytes_acknowledged == counted
    assert received == sent


@linux_only
async def test_it_would_notice() -> None:
    """Bytes that go past the library are in the kernel's numbers and not in the library's."""
    with connected("tcp4", tiny=False) as (ours, _):
        await ours.send(b"counted")
        assert ours.audit().agrees
        os.write(ours.fileno(), b"not counted")
        audit = ours.audit()
        assert not audit.agrees
        assert audit.bytes_acknowledged + audit.bytes_unacknowledged == 18
        assert audit.bytes_accepted == 7


def test_when_an_audit_agrees() -> None:
    def agrees(accepted: int, acknowledged: int, unacknowledged: int) -> bool:
        return Audit(
            bytes_accepted=accepted,
            bytes_acknowledged=acknowledged,
            bytes_unacknowledged=unacknowledged,
            bytes_unsent=0,
            is_closed=False,
        ).agrees

    assert agrees(10, 7, 3)
    assert not agrees(10, 7, 4)
    assert not agrees(10, 8, 1)


# -- the end of the stream --------------------------------------------------------------------------------------------
#
# To the kernel the end of a stream is one byte more. It is nobody's byte, so it must not show.


@linux_only
@kinds
@makers
async def test_after_shutdown_with_bytes_still_unsent(kind: str, make: Maker) -> None:
    async with made(make, kind) as (ours, peer):
        args = SocketAsyncEventArgs(bytes(20_000_000))  # fits nowhere
        async with open_initiator():
            assert ours.send_async(args)
            await until(lambda: ours.audit().bytes_unsent > 0)  # the peer's window is full
            args.cancel()
        count = args.bytes_transferred
        ours.shutdown(SocketShutdown.SEND)
        audit = ours.audit()
        assert audit.agrees
        assert audit.bytes_accepted == count

        received = 0
        while piece := await read_exactly(peer, 100_000):
            received += len(piece)
            assert ours.audit().agrees
        assert received == count
        await ours.wait_acknowledged()
        audit = ours.audit()
        assert audit.agrees
        assert (audit.bytes_acknowledged, audit.bytes_unacknowledged) == (count, 0)


@linux_only
@kinds
@pytest.mark.parametrize("who_is_first", ["we", "the peer"])
async def test_after_both_have_finished(kind: str, who_is_first: str) -> None:
    with connected(kind) as (ours, peer):
        await ours.send(b"0123456789")
        assert await read_exactly(peer, 10) == b"0123456789"
        if who_is_first == "we":
            ours.shutdown(SocketShutdown.SEND)
            assert await read_exactly(peer, 1) == b""
            peer.close()
            assert await ours.receive() == b""
        else:
            peer.shutdown(stdlib_socket.SHUT_WR)
            assert await ours.receive() == b""
            ours.shutdown(SocketShutdown.SEND)
            assert await read_exactly(peer, 1) == b""
            peer.close()
        await ours.wait_acknowledged()
        audit = ours.audit()
        assert audit.agrees, audit
        assert (audit.bytes_accepted, audit.bytes_acknowledged) == (10, 10)
        # When the last acknowledgement is through, the connection is no more.
        await until(lambda: ours.audit().is_closed)
        audit = ours.audit()
        assert audit.agrees, audit
        assert (audit.bytes_acknowledged, audit.bytes_unacknowledged) == (10, 0)


@linux_only
async def test_after_a_shutdown_through_the_trio_face() -> None:
    """It is the same socket."""
    with connected("tcp4") as (ours, peer):
        await ours.send(b"0123456789")
        ours.trio.shutdown(stdlib_socket.SHUT_WR)
        assert ours.audit().agrees
        assert await read_exactly(peer, 11) == b"0123456789"
        await until(lambda: ours.audit().bytes_unacknowledged == 0)
        assert ours.audit().agrees


@linux_only
@kinds
@pytest.mark.parametrize("after_shutdown", [False, True])
@pytest.mark.parametrize("read_all", [False, True])
async def test_after_a_reset(kind: str, after_shutdown: bool, read_all: bool) -> None:
    with connected(kind) as (ours, peer):
        async with open_initiator():
            args = SocketAsyncEventArgs(BIG)
            assert ours.send_async(args)
            args.cancel()
            await args.wait()
            if after_shutdown:
                ours.shutdown(SocketShutdown.SEND)
            if read_all:
                await read_exactly(peer, args.bytes_transferred)
                await ours.wait_acknowledged()
            reset(peer)
            with pytest.raises(SocketException) as caught:
                await ours.receive()
            assert caught.value.socket_error_code is SocketError.CONNECTION_RESET
        audit = ours.audit()
        assert audit.is_closed
        assert audit.agrees, audit
        assert audit.bytes_accepted == args.bytes_transferred
        if read_all:
            assert audit.bytes_acknowledged == args.bytes_transferred


@linux_only
async def test_a_pending_send_that_is_reset(autojump_clock: trio.testing.MockClock) -> None:
    with connected("tcp4") as (ours, peer):
        async with open_initiator():
            args = SocketAsyncEventArgs(BIG)
            assert ours.send_async(args)
            await trio.testing.wait_all_tasks_blocked()
            reset(peer)
            assert await args.wait() > 0
        assert args.socket_error is SocketError.CONNECTION_RESET
        audit = ours.audit()
        assert audit.agrees
        assert audit.is_closed
        assert audit.bytes_accepted == args.bytes_transferred


@linux_only
async def test_a_socket_that_was_never_connected() -> None:
    async with Socket() as ours:
        audit = ours.audit()
        assert audit.agrees
        assert (audit.bytes_accepted, audit.is_closed) == (0, True)


# -- wait_acknowledged ------------------------------------------------------------------------------------------------


@pytest.mark.page("B44")
@pytest.mark.fact("F179")
@linux_only
@kinds
@makers
async def test_acknowledged_is_not_read(kind: str, make: Maker) -> None:
    async with made(make, kind) as (ours, peer):
        await ours.send(b"0123456789")
        await ours.wait_acknowledged()
        audit = ours.audit()
        assert audit.agrees
        assert audit.bytes_acknowledged == 10
        assert audit.bytes_unacknowledged == audit.bytes_unsent == 0
        assert peer.recv(100) == b"0123456789"


@linux_only
async def test_waits_until_the_peer_has_room_for_everything() -> None:
    with connected("tcp4") as (ours, peer):
        async with open_initiator():
            args = SocketAsyncEventArgs(BIG)
            assert ours.send_async(args)
            await trio.testing.wait_all_tasks_blocked()
            args.cancel()
            await args.wait()
        seen: list[Audit] = []

        async def wait() -> None:
            await ours.wait_acknowledged()
            seen.append(ours.audit())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            # The peer's window is full, and nothing will come of waiting until it reads.
            assert ours.audit().bytes_unacknowledged > 0
            assert seen == []
            await read_exactly(peer, args.bytes_transferred)
        (audit,) = seen
        assert audit.bytes_acknowledged == audit.bytes_accepted == args.bytes_transferred


@linux_only
async def test_waits_for_what_was_accepted_before_and_for_no_more() -> None:
    with connected("tcp4") as (ours, peer):
        async with open_initiator():
            args = SocketAsyncEventArgs(BIG)
            assert ours.send_async(args)
            accepted = args.bytes_transferred
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ours.wait_acknowledged)
                # What the peer has read, its kernel acknowledges before long.
                await read_exactly(peer, accepted)
            assert args.pending
            assert ours.audit().bytes_acknowledged >= accepted


@linux_only
async def test_bytes_that_are_accepted_meanwhile_are_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with connected("tcp4", tiny=False) as (ours, _):
        await ours.send(bytes(100))
        # What the kernel says, in turn: accepted, acknowledged.
        answers = iter([(100, 40), (200, 99), (300, 100)])

        def ask(_: Socket) -> Audit:
            accepted, acknowledged = next(answers)
            return Audit(
                bytes_accepted=accepted,
                bytes_acknowledged=acknowledged,
                bytes_unacknowledged=accepted - acknowledged,
                bytes_unsent=0,
                is_closed=False,
            )

        monkeypatch.setattr(Socket, "audit", ask)
        await ours.wait_acknowledged()
        assert next(answers, None) is None


@linux_only
async def test_numbers_that_do_not_belong_together_are_asked_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An acknowledgement that comes between two of the questions would be counted twice."""
    with connected("tcp4", tiny=False) as (ours, _):
        await ours.send(bytes(20))
        acknowledged = iter([(11, False), (16, False), (16, False), (16, False)])
        not_acknowledged = iter([5, 0, 5, 0])  # not, and not even sent
        monkeypatch.setattr(trio_send._kernel.tcp_totals, "_tcp_info", lambda _: next(acknowledged))
        monkeypatch.setattr(
            trio_send._kernel.tcp_totals, "_ioctl", lambda *_: next(not_acknowledged)
        )
        audit = ours.audit()
        assert audit.agrees
        assert (audit.bytes_acknowledged, audit.bytes_unacknowledged) == (15, 5)


@linux_only
async def test_waiting_always_checkpoints() -> None:
    with connected("tcp4") as (ours, peer):
        with trio.testing.assert_checkpoints():
            await ours.wait_acknowledged()
        await ours.send(b"x")
        await ours.wait_acknowledged()
        with trio.testing.assert_checkpoints():
            await ours.wait_acknowledged()
        reset(peer)
        with pytest.raises(SocketException):
            await ours.receive()
        with trio.testing.assert_checkpoints():
            await ours.wait_acknowledged()  # everything was acknowledged in time


@linux_only
async def test_waiting_can_be_cancelled(autojump_clock: trio.testing.MockClock) -> None:
    with connected("tcp4") as (ours, _):
        async with open_initiator():
            args = SocketAsyncEventArgs(BIG)
            assert ours.send_async(args)
            began = trio.current_time()
            with trio.move_on_after(7) as scope:
                await ours.wait_acknowledged()
            assert scope.cancelled_caught
            assert trio.current_time() - began == 7
            # Nothing has changed by that.
            assert args.pending
            assert ours.audit().agrees


@linux_only
async def test_the_pauses_between_the_questions(autojump_clock: trio.testing.MockClock) -> None:
    """Short ones at first, then longer ones, but never so long that an acknowledgement comes late for people."""
    with connected("tcp4") as (ours, _):
        async with open_initiator():
            assert ours.send_async(SocketAsyncEventArgs(BIG))
            asked: list[float] = []
            audit = Socket.audit

            def note(self: Socket) -> Audit:
                asked.append(trio.current_time())
                return audit(self)

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(Socket, "audit", note)
                with trio.move_on_after(1):
                    await ours.wait_acknowledged()
    pauses = [round(b - a, 6) for a, b in itertools.pairwise(asked)]
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (0.001, 0.05)
    assert len(pauses) > 15


@linux_only
async def test_a_reset_while_waiting() -> None:
    with connected("tcp4") as (ours, peer):
        async with open_initiator():
            args = SocketAsyncEventArgs(BIG)
            assert ours.send_async(args)
            args.cancel()
            await args.wait()
        errors: list[SocketException] = []

        async def wait() -> None:
            with pytest.raises(SocketException) as caught:
                await ours.wait_acknowledged()
            errors.append(caught.value)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            reset(peer)
        (error,) = errors
        assert error.socket_error_code is SocketError.CONNECTION_RESET
        acknowledged = ours.audit().bytes_acknowledged
        assert f"{acknowledged} of {args.bytes_transferred} bytes were acknowledged" in str(error)
        assert acknowledged < args.bytes_transferred
        # It is no news later.
        with pytest.raises(SocketException) as caught:
            await ours.wait_acknowledged()
        assert caught.value.socket_error_code is SocketError.CONNECTION_RESET


@linux_only
async def test_closed_while_waiting() -> None:
    with connected("tcp4") as (ours, _):
        async with open_initiator():
            assert ours.send_async(SocketAsyncEventArgs(BIG))

            async def wait() -> None:
                with pytest.raises(ObjectDisposedError):
                    await ours.wait_acknowledged()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait)
                await trio.testing.wait_all_tasks_blocked()
                ours.close()


# -- where it cannot be had -------------------------------------------------------------------------------------------


def unix_socket() -> Socket:
    left, right = stdlib_socket.socketpair()
    right.close()
    return Socket.from_stdlib(left)


REFUSED: dict[str, Callable[[], Socket]] = {
    "unix": unix_socket,
    "udp": lambda: Socket(type=stdlib_socket.SOCK_DGRAM),
    "scripted": lambda: Socket.from_port(ScriptedPort()),
    "scripted datagrams": lambda: Socket.from_port(ScriptedPort(is_stream=False)),
}


@pytest.mark.parametrize("kind", REFUSED)
async def test_refused(kind: str) -> None:
    ours = REFUSED[kind]()
    for _ in range(2):
        with pytest.raises(SocketException, match=r"only Linux tells .* only of TCP") as caught:
            ours.audit()
        assert caught.value.socket_error_code is SocketError.OPERATION_NOT_SUPPORTED
        with pytest.raises(SocketException) as caught:
            await ours.wait_acknowledged()
        assert caught.value.socket_error_code is SocketError.OPERATION_NOT_SUPPORTED
    ours.close()


async def test_refused_on_other_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    with connected("tcp4", tiny=False) as (ours, _):
        with monkeypatch.context() as patch:
            patch.setattr(sys, "platform", "darwin")
            with pytest.raises(SocketException) as caught:
                ours.audit()
        assert caught.value.socket_error_code is SocketError.OPERATION_NOT_SUPPORTED


@linux_only
async def test_refused_on_old_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """An old kernel's answer is shorter than what is needed; here more is asked for than any kernel has to say."""
    with connected("tcp4", tiny=False) as (ours, _):
        with monkeypatch.context() as patch:
            patch.setattr(trio_send._kernel.tcp_totals, "_TCP_INFO_SIZE", 1024)
            with pytest.raises(SocketException, match="kernel is too old") as caught:
                ours.audit()
        assert caught.value.socket_error_code is SocketError.OPERATION_NOT_SUPPORTED


async def test_closed() -> None:
    left, right = socketpair(stdlib_socket.AF_UNIX)
    left.close()
    right.close()
    with pytest.raises(ObjectDisposedError):
        left.audit()
    with pytest.raises(ObjectDisposedError):
        await left.wait_acknowledged()


@linux_only
async def test_another_thread() -> None:
    with connected("tcp4", tiny=False) as (ours, _):
        with pytest.raises(InvalidOperationError, match="belongs to another thread"):
            await trio.to_thread.run_sync(ours.audit)
