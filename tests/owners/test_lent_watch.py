"""Hold a task that waits for an operation, and for the socket in the engine's place, to giving the watch back in time.

Only one task may wait for a descriptor. So whoever takes the watch over, and for whatever reason, must find the one
before out of the way; and nothing that is pending may be left without somebody who watches.
"""

from __future__ import annotations

import errno
import select
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

from tests.helpers import BIG, connected, fill, read_exactly, ten
from trio_send import (
    ExitPolicy,
    Socket,
    SocketAsyncEventArgs,
    SocketError,
    add_instrument,
    open_initiator,
)
from trio_send._kernel import epoll_set
from trio_send._kernel.epoll_set import HAVE_EPOLL
from trio_send._owners.lent_watch import LentWatch
from trio_send.abc import Instrument

pytestmark = pytest.mark.skipif(
    not HAVE_EPOLL, reason="a task waits for each blocked socket, and has no watch to lend"
)

ABORTED = SocketError.OPERATION_ABORTED
SUCCESS = SocketError.SUCCESS


def writers() -> int:
    """How many tasks wait until they can write."""
    count: int = trio.lowlevel.current_statistics().io_statistics.tasks_waiting_write  # type: ignore[attr-defined,unused-ignore]
    return count


def is_lent(socket: Socket) -> bool:
    """Whether a task watches for the sends."""
    return isinstance(socket._core.sends.watched, LentWatch)


async def into(found: list[Any], call: Callable[[], Awaitable[object]]) -> None:
    """Keep what a call returns."""
    found.append(await call())


async def test_the_task_waits_for_the_socket_itself() -> None:
    """And what it waits for is sent as a whole, in order with what stands behind it."""
    with connected("unix") as (socket, peer):
        async with open_initiator(), trio.open_nursery() as nursery:
            args = SocketAsyncEventArgs(BIG)
            assert socket.send_async(args)
            behind = socket.begin_send(ten("b"))
            await wait_all_tasks_blocked()
            assert writers() == 0  # the engine has it in its set
            counts: list[int] = []
            nursery.start_soon(into, counts, args.wait)
            await wait_all_tasks_blocked()
            assert is_lent(socket)
            assert writers() == 1
            assert await read_exactly(peer, len(BIG) + 10) == BIG + ten("b")
            await wait_all_tasks_blocked()
            assert counts == [len(BIG)]
            assert await socket.end_send(behind) == 10
        assert socket._core.sends.watched is None


@pytest.mark.parametrize("kind", ["unix", "tcp4"])
async def test_one_after_the_other(kind: str) -> None:
    """Pieces each of which has to wait, by both faces."""
    pieces = 20
    with connected(kind) as (socket, peer):
        async with open_initiator(), trio.open_nursery() as nursery:
            received: list[bytes] = []
            nursery.start_soon(into, received, lambda: read_exactly(peer, pieces * len(BIG)))
            for number in range(pieces):
                if number % 2:
                    args = SocketAsyncEventArgs(BIG)
                    if socket.send_async(args):
                        assert await args.wait() == len(BIG)
                    assert args.socket_error is SUCCESS
                else:
                    assert await socket.end_send(socket.begin_send(BIG)) == len(BIG)
    assert received == [BIG * pieces]
    assert socket._core.sends.accepted == pieces * len(BIG)


async def test_a_task_that_is_cancelled_gives_the_watch_back() -> None:
    """The operation goes on, for it is the initiator's."""
    with connected("unix") as (socket, peer):
        async with open_initiator():
            args = SocketAsyncEventArgs(BIG)
            assert socket.send_async(args)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(args.wait)
                await wait_all_tasks_blocked()
                assert is_lent(socket)
                nursery.cancel_scope.cancel()
            assert socket._core.sends.watched is not None
            assert not is_lent(socket)
            assert args.pending
            assert await read_exactly(peer, len(BIG)) == BIG
            assert await args.wait() == len(BIG)


@pytest.mark.parametrize("behind", ["same", "awaited", "another"])
@pytest.mark.parametrize("end", ["cancel", "timeout"])
async def test_the_next_head_is_watched(
    behind: str, end: str, mock_clock: trio.testing.MockClock
) -> None:
    """Whoever owns it, and in the same step: a task that awaits it waits for the same descriptor at once."""
    with connected("unix") as (socket, peer):
        filled = fill(socket)
        async with open_initiator(), open_initiator() as other, trio.open_nursery() as nursery:
            args = SocketAsyncEventArgs(ten("a"))
            if end == "timeout":
                args.timeout = 1
            assert socket.send_async(args)
            counts: list[int] = []
            if behind == "awaited":
                nursery.start_soon(into, counts, lambda: socket.send(ten("b")))
            else:
                next_one = SocketAsyncEventArgs(ten("b"))
                start = other.run_sync if behind == "another" else lambda call, args: call(args)
                assert start(socket.send_async, next_one)
                nursery.start_soon(into, counts, next_one.wait)
            await wait_all_tasks_blocked()
            ends: list[int] = []
            nursery.start_soon(into, ends, args.wait)
            await wait_all_tasks_blocked()
            assert is_lent(socket)
            if end == "cancel":
                assert args.cancel()
                assert not is_lent(socket)
            else:
                mock_clock.jump(2)
            assert await args.wait() == 0
            await wait_all_tasks_blocked()
            assert ends == [0]
            assert args.socket_error is (ABORTED if end == "cancel" else SocketError.TIMED_OUT)
            assert await read_exactly(peer, filled + 10) == bytes(filled) + ten("b")
        assert counts == [10]


@pytest.mark.parametrize("policy", [ExitPolicy.ABORT, ExitPolicy.ADOPT])
async def test_an_initiator_that_exits_takes_the_watch_with_it(policy: ExitPolicy) -> None:
    """The operation ends, or another engine goes on with it; the task learns of the end either way."""
    with connected("unix") as (socket, peer):
        async with open_initiator(), trio.open_nursery() as nursery:
            args = SocketAsyncEventArgs(BIG)
            counts: list[int] = []
            async with open_initiator(policy):
                assert socket.send_async(args)
                nursery.start_soon(into, counts, args.wait)
                await wait_all_tasks_blocked()
                assert is_lent(socket)
                sent = args.bytes_transferred
            await wait_all_tasks_blocked()
            assert not is_lent(socket)
            assert args.bytes_transferred == sent
            if policy is ExitPolicy.ABORT:
                assert counts == [sent]
                assert args.socket_error is ABORTED
            else:
                assert counts == []
                assert await read_exactly(peer, len(BIG)) == BIG
                await wait_all_tasks_blocked()
                assert counts == [len(BIG)]


async def test_a_close_ends_the_wait() -> None:
    """The task is told of the end, and nobody waits for the descriptor when it is closed."""
    with connected("unix") as (socket, _):
        async with open_initiator(), trio.open_nursery() as nursery:
            args = SocketAsyncEventArgs(BIG)
            assert socket.send_async(args)
            counts: list[int] = []
            nursery.start_soon(into, counts, args.wait)
            await wait_all_tasks_blocked()
            sent = args.bytes_transferred
            socket.close()
            assert writers() == 0
            await wait_all_tasks_blocked()
            assert counts == [sent]
            assert args.socket_error is ABORTED


async def test_several_tasks_wait_for_one_operation() -> None:
    """One has the watch; all are told."""
    with connected("unix") as (socket, peer):
        async with open_initiator(), trio.open_nursery() as nursery:
            args = SocketAsyncEventArgs(BIG)
            assert socket.send_async(args)
            counts: list[int] = []
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as first:
                    first.start_soon(args.wait)
                    await wait_all_tasks_blocked()
                    for _ in range(3):
                        nursery.start_soon(into, counts, args.wait)
                    await wait_all_tasks_blocked()
                    assert writers() == 1
                    scope.cancel()
            assert await read_exactly(peer, len(BIG)) == BIG
        assert counts == [len(BIG)] * 3


async def test_a_handler_that_is_added_meanwhile_is_called_first() -> None:
    """The end is told by the dispatcher then."""
    with connected("unix") as (socket, peer):
        async with open_initiator(), trio.open_nursery() as nursery:
            args = SocketAsyncEventArgs(BIG)
            assert socket.send_async(args)
            order: list[object] = []
            nursery.start_soon(into, order, args.wait)
            await wait_all_tasks_blocked()
            assert is_lent(socket)
            args.completed += lambda *_: order.append("handler")
            assert await read_exactly(peer, len(BIG)) == BIG
            await wait_all_tasks_blocked()
            assert order == ["handler", len(BIG)]


async def test_both_directions_have_a_task() -> None:
    """What is told to one at the descriptor leaves the other waiting."""
    with connected("unix") as (socket, peer):
        filled = fill(socket)
        async with open_initiator(), trio.open_nursery() as nursery:
            room = bytearray(10)
            args, receive = SocketAsyncEventArgs(ten("a")), SocketAsyncEventArgs(room)
            assert socket.send_async(args)
            assert socket.receive_async(receive)
            counts: list[int] = []
            nursery.start_soon(into, counts, args.wait)
            nursery.start_soon(into, counts, receive.wait)
            await wait_all_tasks_blocked()
            assert args.cancel()
            await wait_all_tasks_blocked()
            assert counts == [0]
            peer.send(ten("b"))
            await wait_all_tasks_blocked()
            assert counts == [0, 10]
            assert room == ten("b")
            assert await read_exactly(peer, filled) == bytes(filled)


async def test_no_watch_is_lent_where_others_may_wait() -> None:
    """They would be told of what does not concern them."""
    with connected("unix") as (socket, peer):
        async with open_initiator(), trio.open_nursery() as nursery:
            args = SocketAsyncEventArgs(BIG)
            assert socket.send_async(args)
            assert socket.trio.fileno() == socket.fileno()
            counts: list[int] = []
            nursery.start_soon(into, counts, args.wait)
            await wait_all_tasks_blocked()
            assert not is_lent(socket)
            assert await read_exactly(peer, len(BIG)) == BIG
        assert counts == [len(BIG)]


async def test_no_watch_is_lent_while_somebody_is_told_of_everything() -> None:
    """What an instrument sees is the same then, whether or not anybody waits."""
    with connected("unix") as (socket, peer):
        async with open_initiator(), trio.open_nursery() as nursery:
            args = SocketAsyncEventArgs(BIG)
            counts: list[int] = []
            with add_instrument(Instrument()):
                assert socket.send_async(args)
                nursery.start_soon(into, counts, args.wait)
                await wait_all_tasks_blocked()
                assert not is_lent(socket)
            assert await read_exactly(peer, len(BIG)) == BIG
        assert counts == [len(BIG)]


async def test_the_trio_socket_takes_the_watch_away() -> None:
    """Whoever had it goes on waiting for the end alone."""
    with connected("unix") as (socket, peer):
        async with open_initiator(), trio.open_nursery() as nursery:
            args = SocketAsyncEventArgs(BIG)
            assert socket.send_async(args)
            counts: list[int] = []
            nursery.start_soon(into, counts, args.wait)
            await wait_all_tasks_blocked()
            assert is_lent(socket)
            assert socket.trio.fileno() == socket.fileno()
            await wait_all_tasks_blocked()
            assert not is_lent(socket)
            assert await read_exactly(peer, len(BIG)) == BIG
        assert counts == [len(BIG)]


async def test_without_memory_the_engine_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A descriptor does not tell when the next attempt is due then."""
    with connected("unix") as (socket, peer):
        filled = fill(socket)
        port = socket._core.port
        send = port.send
        failures: list[bool] = []

        def no_memory_at_first(buffer: Any, flags: int) -> int:
            if len(failures) < 2:
                failures.append(is_lent(socket))
                raise OSError(errno.ENOBUFS, "no memory")
            return send(buffer, flags)

        async with open_initiator(), trio.open_nursery() as nursery:
            args = SocketAsyncEventArgs(BIG)
            assert socket.send_async(args)
            counts: list[int] = []
            nursery.start_soon(into, counts, args.wait)
            await wait_all_tasks_blocked()
            monkeypatch.setattr(port, "send", no_memory_at_first)
            assert await read_exactly(peer, filled + len(BIG)) == bytes(filled) + BIG
        assert failures == [True, False]
        assert counts == [len(BIG)]


async def test_a_try_in_vain_leaves_the_next_one_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the wait, one scheduler trip after the start."""
    with connected("unix") as (socket, peer):
        filled = fill(socket)
        port = socket._core.port
        send = port.send
        attempts = 0

        def counted(buffer: Any, flags: int) -> int:
            nonlocal attempts
            attempts += 1
            return send(buffer, flags)

        monkeypatch.setattr(port, "send", counted)
        seen = []
        async with open_initiator():
            for name in "abcd":
                args = SocketAsyncEventArgs(ten(name))

                # In one step, or the engine might have its turn before.
                async def start_and_wait(args: SocketAsyncEventArgs = args) -> None:
                    nonlocal attempts
                    assert socket.send_async(args)
                    attempts = 0
                    await args.wait()

                async with trio.open_nursery() as nursery:
                    nursery.start_soon(start_and_wait)
                    await wait_all_tasks_blocked()
                    seen.append(attempts)
                    assert args.cancel()
        assert seen == [1, 0, 1, 0]
        assert await read_exactly(peer, filled) == bytes(filled)


class RigidEpoll:
    """An epoll set in which nothing can be changed, for want of memory."""

    def __init__(self) -> None:
        self._epoll = select.epoll()

    def modify(self, fd: int, events: int) -> None:
        raise OSError(errno.ENOMEM, "no memory")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._epoll, name)


async def test_no_watch_is_lent_of_what_the_set_cannot_let_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The engine goes on watching it, and is the only one to do so."""
    monkeypatch.setattr(epoll_set, "select", SimpleNamespace(epoll=RigidEpoll))
    with connected("unix") as (socket, peer):
        filled = fill(socket)
        async with open_initiator() as initiator, trio.open_nursery() as nursery:
            args = SocketAsyncEventArgs(ten("a"))
            assert socket.send_async(args)
            await wait_all_tasks_blocked()
            counts: list[int] = []
            nursery.start_soon(into, counts, args.wait)
            await wait_all_tasks_blocked()
            pollset = initiator._owner.engine._pollset
            assert pollset is not None
            assert socket._core.sends.watched is pollset
            assert (pollset.armed, writers()) == (1, 0)
            assert await read_exactly(peer, filled + 10) == bytes(filled) + ten("a")
            await wait_all_tasks_blocked()
            assert counts == [10]
            assert pollset.armed == 0


class NoWait:
    """Has Trio be unable to watch a descriptor, for want of memory.

    Args:
      after: how many times it is still able to.
      action: what strikes where it is not.
      direction: what it is asked to wait for.

    Attributes:
      asked: the descriptors that it was asked for.
    """

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        after: int = 0,
        action: Callable[[], object] = lambda: None,
        direction: str = "wait_writable",
    ) -> None:
        self.asked: list[int] = []
        self._after = after
        self._action = action
        self._wait = getattr(trio.lowlevel, direction)
        monkeypatch.setattr(trio.lowlevel, direction, self)

    async def __call__(self, descriptor: int) -> None:
        self.asked.append(descriptor)
        if len(self.asked) <= self._after:
            await self._wait(descriptor)
        else:
            assert len(self.asked) == self._after + 1, "it is asked again and again"
            self._action()
            raise OSError(errno.ENOMEM, "no memory")


async def test_where_trio_cannot_watch_the_watch_goes_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The engine has it in its set, and the task waits for the end alone."""
    with connected("unix") as (socket, peer):
        async with open_initiator(), trio.open_nursery() as nursery:
            args = SocketAsyncEventArgs(BIG)
            assert socket.send_async(args)
            await wait_all_tasks_blocked()
            trio_is = NoWait(monkeypatch)
            counts: list[int] = []
            nursery.start_soon(into, counts, args.wait)
            await wait_all_tasks_blocked()
            assert not is_lent(socket)
            assert socket._core.sends.watched is not None
            assert args.pending
            assert await read_exactly(peer, len(BIG)) == BIG
            await wait_all_tasks_blocked()
            assert counts == [len(BIG)]
        assert trio_is.asked == [socket.fileno()]


async def test_an_end_that_comes_where_trio_cannot_watch_is_waited_for_with_a_checkpoint(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with connected("unix") as (socket, _):
        async with open_initiator():
            args = SocketAsyncEventArgs(bytearray(10))
            assert socket.receive_async(args)
            await wait_all_tasks_blocked()
            trio_is = NoWait(monkeypatch, action=args.cancel, direction="wait_readable")
            with assert_checkpoints():
                assert await args.wait() == 0
            assert args.socket_error is SocketError.OPERATION_ABORTED
            assert trio_is.asked == [socket.fileno()]


async def test_an_end_that_comes_where_trio_cannot_watch_is_told_with_its_own_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another task that is told starts the args anew, perhaps before this one would run again."""
    for _ in range(10):
        with connected("unix") as (socket, peer), connected("unix") as (other, _):
            fill(other)
            args = SocketAsyncEventArgs(BIG)
            counts: list[int] = []
            sent: list[int] = []

            def strike(args: SocketAsyncEventArgs = args, sent: list[int] = sent) -> None:
                sent.append(args.bytes_transferred)
                assert args.cancel()

            async def start_anew(
                args: SocketAsyncEventArgs = args, socket: Socket = socket, other: Socket = other
            ) -> None:
                await args.wait()
                socket.forget_torn()
                args.set_buffer(ten("b"))
                assert other.send_async(args)

            with monkeypatch.context() as patch:
                trio_is = NoWait(patch, after=1, action=strike)
                async with open_initiator(), trio.open_nursery() as nursery:
                    assert socket.send_async(args)
                    nursery.start_soon(into, counts, args.wait)
                    await wait_all_tasks_blocked()
                    assert is_lent(socket)
                    nursery.start_soon(start_anew)
                    await wait_all_tasks_blocked()
                    assert len(trio_is.asked) == 1
                    first = args.bytes_transferred
                    await read_exactly(peer, first)
                    await wait_all_tasks_blocked()
                    assert len(trio_is.asked) == 2
                    assert first < sent[0] < len(BIG)
                    assert counts == sent
                    assert socket.queued_operations == 0
                    assert args.pending
                    assert args.bytes_transferred == 0
                assert args.socket_error is ABORTED
