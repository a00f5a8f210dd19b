"""Sends that threads start which do not run Trio: what a start does, what it tells when, and how a thread waits.

The kernel is a script wherever order matters. A thread is shown not to wait for Trio by having the Trio thread wait
for it, without running anything else meanwhile.

Modules: _threads.starts, _threads.waits, from_thread.
"""

from __future__ import annotations

import contextvars
import math
import socket as stdlib_socket
import threading
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

from tests.helpers import bytes_of, connected, read_exactly, scripted, ten
from tests.worker_threads import KINDS_OF_THREAD, Worker, in_own_thread, outliving
from trio_send import (
    AsyncResult,
    ExitPolicy,
    Initiator,
    InvalidOperationError,
    ManualResetEvent,
    ObjectDisposedError,
    OperationInProgressError,
    Socket,
    SocketAsyncEventArgs,
    SocketError,
    SocketException,
    SocketFlags,
    add_instrument,
    current_initiator,
    from_thread,
    open_initiator,
    socketpair,
)
from trio_send._base.inbox import POSTS_PER_TRIP, Inbox
from trio_send._kernel.port import KernelPort
from trio_send._owners.exiting_owner import START_BUDGET
from trio_send.abc import Instrument
from trio_send.testing import Blocked, ScriptedPort

Run = Callable[..., Awaitable[Any]]

BIG = bytes_of(300_000, seed=5)


@pytest.fixture(params=KINDS_OF_THREAD.values(), ids=KINDS_OF_THREAD.keys())
def run(request: pytest.FixtureRequest) -> Run:
    return request.param


def while_trio_stands_still(function: Callable[..., Any], *arguments: Any) -> Any:
    """Run a function in a thread, and nothing else in this one, until the thread is gone."""
    worker = Worker(function, *arguments)
    worker.thread.join()
    return worker.take()


# Starting -------------------------------------------------------------------------------------------------------------


def through_begin_send(socket: Socket, data: Any, host: Initiator) -> int:
    return from_thread.end_send(from_thread.begin_send(socket, data, host=host))


def through_try_begin_send(socket: Socket, data: Any, host: Initiator) -> int:
    result, error = from_thread.try_begin_send(socket, data, host=host)
    assert error is SocketError.SUCCESS
    assert result is not None
    assert not result.completed_synchronously
    return from_thread.end_send(result)


def through_send_async(socket: Socket, data: Any, host: Initiator) -> int:
    args = SocketAsyncEventArgs(data)
    raised = ManualResetEvent()
    args.completed += lambda socket, args: raised.set()
    assert from_thread.send_async(socket, args, host=host)
    assert args.pending or raised._is_set
    assert from_thread.wait_one(raised)
    assert args.outcome is not None
    return args.outcome.unwrap()


FACES = (through_begin_send, through_try_begin_send, through_send_async)


@pytest.mark.page("B22", "S21")
@pytest.mark.parametrize("kind", ["tcp4", "unix"])
@pytest.mark.parametrize("face", FACES)
async def test_a_thread_sends_and_waits(face: Callable[..., int], kind: str, run: Run) -> None:
    with connected(kind) as (socket, peer):
        async with open_initiator() as host, trio.open_nursery() as nursery:
            read: list[bytes] = []

            async def reader() -> None:
                read.append(await read_exactly(peer, len(BIG)))

            nursery.start_soon(reader)
            assert await run(face, socket, BIG, host) == len(BIG)
        assert read == [BIG]


async def test_a_call_inherits_its_host() -> None:
    socket, port = scripted()
    async with open_initiator():
        assert await trio.to_thread.run_sync(through_begin_send, socket, b"inherited", None) == 9
    assert port.accepted == b"inherited"


async def test_ranges_and_lists_and_flags_are_as_in_trio(run: Run) -> None:
    socket, port = scripted()
    async with open_initiator() as host:

        def work() -> list[int]:
            return [
                from_thread.end_send(each)
                for each in (
                    from_thread.begin_send(socket, b"0123456789", 2, 3, host=host),
                    from_thread.begin_send(socket, [b"ab", bytearray(b"cd")], host=host),
                    from_thread.begin_send(
                        socket, b"x", 0, None, SocketFlags.DONT_ROUTE, None, "state", host=host
                    ),
                )
            ]

        assert await run(work) == [3, 4, 1]
    assert port.accepted == b"234abcdx"


async def test_a_start_does_not_wait_for_trio() -> None:
    socket, port = scripted()
    async with open_initiator() as host:

        def work() -> list[AsyncResult]:
            results = [from_thread.begin_send(socket, ten(str(n)), host=host) for n in range(100)]
            args = SocketAsyncEventArgs(ten("args"))
            assert from_thread.send_async(socket, args, host=host)
            assert args.pending
            assert args.socket_error is SocketError.IO_PENDING
            from_thread.cancel(args)
            return results

        results = while_trio_stands_still(outliving, host, work)
        assert port.accepted == b""
        assert not any(result.is_completed for result in results)
        await trio.testing.wait_all_tasks_blocked()
    assert [result.bytes_transferred for result in results] == [10] * 100
    assert port.accepted == b"".join(ten(str(n)) for n in range(100)) + ten("args")


async def test_a_lock_that_a_callback_wants_too_is_no_trap(run: Run) -> None:
    """A thread that waited for Trio's answer while it holds the lock would wait for ever."""
    socket, _ = scripted()
    lock = threading.Lock()
    pending: set[int] = set()

    def ended(ar: AsyncResult) -> None:
        with lock:
            pending.remove(ar.async_state)

    async with open_initiator() as host:

        def work() -> None:
            results = []
            for number in range(200):
                with lock:
                    pending.add(number)
                    results.append(
                        from_thread.begin_send(
                            socket, b"x", callback=ended, state=number, host=host
                        )
                    )
            for result in results:
                from_thread.end_send(result)

        await run(work)
    assert not pending


async def test_starts_of_a_thread_keep_their_order_among_those_of_trio() -> None:
    socket, port = scripted(Blocked())
    async with open_initiator(ExitPolicy.JOIN) as host:
        names = iter(range(100))
        first = socket.begin_send(ten(str(next(names))))
        assert not first.is_completed
        for _ in range(5):

            def work() -> None:
                with from_thread.initiator(host, ExitPolicy.ADOPT):
                    for _ in range(3):
                        from_thread.begin_send(socket, ten(str(next(names))))

            await in_own_thread(work)
            socket.begin_send(ten(str(next(names))))
        port.unblock()
    assert port.accepted == b"".join(ten(str(n)) for n in range(21))


async def test_one_wake_up_serves_a_crowd(monkeypatch: pytest.MonkeyPatch) -> None:
    socket, port = scripted()
    async with open_initiator() as host:
        inbox = Inbox.current()
        wakes = []
        monkeypatch.setattr(Inbox, "_be_woken", lambda self: wakes.append(1) or answer(self))
        count = 3 * POSTS_PER_TRIP

        def work() -> None:
            for _ in range(count):
                from_thread.begin_send(socket, b"x", host=host)

        keep = partial(outliving, host)
        while_trio_stands_still(keep, work)
        assert len(inbox._posts) == count
        await trio.testing.wait_all_tasks_blocked()
        assert port.accepted == b"x" * count
        assert len(wakes) in (3, 4)  # one, and one for each batch that is left over


answer = Inbox._be_woken


@pytest.mark.parametrize("what", ["put", "wake"])
async def test_a_post_that_fails_leaves_the_args_free(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For want of memory, say: nobody would ever hear of what nobody takes in."""
    socket, port = scripted()
    args = SocketAsyncEventArgs(ten("args"))

    def fail(*_: object) -> bool:
        raise MemoryError

    def work(host: Initiator) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(Inbox, what, fail)
            with pytest.raises(MemoryError):
                from_thread.send_async(socket, args, host=host)
        assert not args.pending
        assert from_thread.send_async(socket, args, host=host)

    async with open_initiator() as host:
        while_trio_stands_still(outliving, host, work, host)
        assert len(Inbox.current()._posts) == 1
        assert await args.wait() == 10
    assert port.accepted == ten("args")


async def test_time_limits_are_watched() -> None:
    socket, _ = scripted(4, Blocked())
    args = SocketAsyncEventArgs(ten("late"))
    args.timeout = 0.01
    ended = trio.Event()
    args.completed += lambda socket, args: ended.set()
    async with open_initiator() as host:
        keep = partial(outliving, host)
        await in_own_thread(keep, lambda: from_thread.send_async(socket, args, host=host))
        await ended.wait()
        assert (args.socket_error, args.bytes_transferred) == (SocketError.TIMED_OUT, 4)


async def test_instruments_see_what_threads_start() -> None:
    seen = []

    class Watcher(Instrument):
        def operation_started(self, operation):
            seen.append("started")

        def operation_queued(self, operation, ahead):
            seen.append("queued")

        def operation_completed(self, operation, error, count, queue_delay, detail):
            seen.append((error, count))

        def event_raised(self, operation):
            seen.append("raised")

    socket, _ = scripted(10, 4, Blocked())
    with add_instrument(Watcher()):
        async with open_initiator() as host:

            def work() -> None:
                through_begin_send(socket, ten("one"), host)
                from_thread.begin_send(socket, ten("two"), host=host)

            await in_own_thread(work)
    done, stopped = (SocketError.SUCCESS, 10), (SocketError.OPERATION_ABORTED, 4)
    assert sorted(map(str, seen)) == sorted(
        map(str, ["started", done, "raised", "started", "queued", stopped, "raised"])
    )


# What is told at once -------------------------------------------------------------------------------------------------


def failures(socket: Socket, host: Initiator) -> list[Any]:
    """How each face fails on the spot."""

    def never(*_: object) -> None:
        pytest.fail("somebody was told of what has not been pending")

    with pytest.raises(SocketException) as raised:
        from_thread.begin_send(socket, b"data", callback=never, host=host)
    args = SocketAsyncEventArgs(b"data")
    args.completed += never
    pending = from_thread.send_async(socket, args, host=host, callbacks_in_thread=True)
    return [
        raised.value.socket_error_code,
        from_thread.try_begin_send(socket, b"data", callback=never, host=host),
        (pending, args.socket_error, args.bytes_transferred),
    ]


def all_fail_with(code: SocketError) -> list[Any]:
    return [code, (None, code), (False, code, 0)]


@pytest.mark.fact("F091", "F053")
async def test_a_socket_that_was_never_connected_says_so_at_once(run: Run) -> None:
    async with open_initiator() as host:
        with_socket = Socket()
        assert await run(failures, with_socket, host) == all_fail_with(SocketError.NOT_CONNECTED)
        with_socket.close()


async def test_a_torn_stream_says_so_at_once(run: Run) -> None:
    socket, port = scripted(4, Blocked())
    async with open_initiator():
        result = socket.begin_send(ten("cut"))
        assert result.cancel()
    async with open_initiator() as host:
        found = await run(failures, socket, host)
    assert found == all_fail_with(SocketError.CONNECTION_ABORTED)
    assert port.accepted == ten("cut")[:4]


async def test_a_broken_connection_says_so_at_once(run: Run) -> None:
    socket, _ = scripted("ECONNRESET")
    async with open_initiator() as host:
        with pytest.raises(SocketException):
            socket.begin_send(b"x")
        found = await run(failures, socket, host)
    assert found == all_fail_with(SocketError.CONNECTION_RESET)


async def test_flags_that_cannot_be_used_are_told_at_once(run: Run) -> None:
    socket, _ = scripted()
    async with open_initiator() as host:

        def work() -> None:
            flags = SocketFlags.PARTIAL
            with pytest.raises(SocketException) as raised:
                from_thread.begin_send(socket, b"x", socket_flags=flags, host=host)
            assert raised.value.socket_error_code is SocketError.OPERATION_NOT_SUPPORTED

        await run(work)


async def test_a_host_that_is_leaving_refuses_and_one_that_has_left_raises() -> None:
    """As starts in Trio: OPERATION_ABORTED from the stop on, and after the exit a start is a mistake."""
    socket, port = scripted()
    async with open_initiator() as host:
        host.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await trio.testing.wait_all_tasks_blocked()
            found = await in_own_thread(failures, socket, host)
    assert found == all_fail_with(SocketError.OPERATION_ABORTED)
    with pytest.raises(InvalidOperationError, match="has exited"):
        await in_own_thread(failures, socket, host)
    assert port.accepted == b""


@pytest.mark.fact("F001", "F081")
async def test_wrong_arguments_are_told_at_once_and_change_nothing(run: Run) -> None:
    socket, port = scripted(Blocked())
    closed, _ = scripted()
    closed.close()
    used = SocketAsyncEventArgs(b"used")
    disposed = SocketAsyncEventArgs(b"x")
    disposed.close()
    async with open_initiator() as host:
        socket.send_async(used)

        def begin(*arguments: Any, **more: Any) -> None:
            from_thread.begin_send(*arguments, host=host, **more)

        def send(*arguments: Any) -> None:
            from_thread.send_async(*arguments, host=host)

        def work() -> None:
            for expected, call in (
                (TypeError, lambda: begin(None, b"x")),
                (TypeError, lambda: begin(socket, None)),
                (TypeError, lambda: begin(socket, "text")),
                (ValueError, lambda: begin(socket, b"x", 2)),
                (ValueError, lambda: begin(socket, b"x", 0, 2)),
                (ValueError, lambda: begin(socket, [])),
                (ObjectDisposedError, lambda: begin(closed, b"x")),
                (TypeError, lambda: send(socket, None)),
                (ValueError, lambda: send(socket, SocketAsyncEventArgs())),
                (OperationInProgressError, lambda: send(socket, used)),
                (ObjectDisposedError, lambda: send(socket, disposed)),
                (TypeError, lambda: from_thread.begin_send(socket, b"x", host=socket)),
            ):
                with pytest.raises(expected):
                    call()

        await run(work)
        assert socket.queued_operations == 1
    assert port.accepted == b""


async def test_args_are_in_use_from_the_start_on() -> None:
    socket, _ = scripted()
    args = SocketAsyncEventArgs(ten("args"))
    async with open_initiator() as host:

        def work() -> None:
            assert from_thread.send_async(socket, args, host=host)
            for again in (
                lambda: from_thread.send_async(socket, args, host=host),
                lambda: args.set_buffer(b"other"),
            ):
                with pytest.raises(OperationInProgressError):
                    again()

        keep = partial(outliving, host)
        while_trio_stands_still(keep, work)
        with pytest.raises(OperationInProgressError):
            socket.send_async(args)
        assert args.activation == 1
        assert await args.wait() == 10


async def test_args_that_were_cut_are_not_started_again() -> None:
    socket, _ = scripted(4, Blocked())
    args = SocketAsyncEventArgs(ten("cut"))
    async with open_initiator() as host:
        await in_own_thread(lambda: from_thread.send_async(socket, args, host=host))
        await args.wait()
        assert args.bytes_transferred == 4

        def again() -> None:
            with pytest.raises(InvalidOperationError, match="was cut"):
                from_thread.send_async(socket, args, host=host)

        await in_own_thread(again)
        assert socket.resume(args) or args.bytes_transferred == 10


# What is told in the end ----------------------------------------------------------------------------------------------


@pytest.mark.page("B37")
@pytest.mark.fact("F055", "F122", "F177", "F178")
@pytest.mark.parametrize(
    ("name", "code"),
    [("EMSGSIZE", SocketError.MESSAGE_SIZE), ("ECONNRESET", SocketError.CONNECTION_RESET)],
)
async def test_what_the_kernel_says_is_told_in_the_end(
    name: str, code: SocketError, run: Run
) -> None:
    async with open_initiator() as host:

        def work(socket: Socket) -> None:
            result, error = from_thread.try_begin_send(socket, b"datagram", host=host)
            assert error is SocketError.SUCCESS
            assert result is not None
            with pytest.raises(SocketException) as raised:
                from_thread.end_send(result)
            assert raised.value.socket_error_code is code
            assert raised.value.bytes_transferred == 0

        def work_args(socket: Socket) -> None:
            args, told = SocketAsyncEventArgs(b"datagram"), ManualResetEvent()
            args.completed += lambda socket, args: told.set()
            assert from_thread.send_async(socket, args, host=host)
            assert from_thread.wait_one(told)
            assert (args.socket_error, args.bytes_transferred) == (code, 0)

        for each in (work, work_args):
            await run(each, scripted(name, is_stream=False)[0])


async def test_a_message_too_long_for_a_datagram() -> None:
    left, right = stdlib_socket.socketpair(stdlib_socket.AF_UNIX, stdlib_socket.SOCK_DGRAM)
    left.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_SNDBUF, 1)
    socket = Socket.from_stdlib(left)
    with right:
        async with open_initiator() as host:
            with pytest.raises(SocketException) as raised:
                await in_own_thread(through_begin_send, socket, BIG, host)
            assert raised.value.socket_error_code is SocketError.MESSAGE_SIZE
        socket.close()


async def test_a_socket_that_is_closed_before_the_start_arrives() -> None:
    socket, port = scripted()
    async with open_initiator() as host:
        keep = partial(outliving, host)
        result = while_trio_stands_still(
            keep, lambda: from_thread.begin_send(socket, b"late", host=host)
        )
        socket.close()
        with pytest.raises(SocketException) as raised:
            await socket_end(socket, result)
        assert raised.value.socket_error_code is SocketError.OPERATION_ABORTED
        assert "closed" in str(raised.value)
    assert port.accepted == b""


async def socket_end(socket: Socket, result: AsyncResult) -> int:
    return await trio.to_thread.run_sync(from_thread.end_send, result)


async def test_a_host_that_stops_before_the_start_arrives() -> None:
    """The start was answered "pending", so its end is told, once; and nothing is sent."""
    socket, port = scripted()
    told: list[Any] = []
    async with open_initiator() as host:

        def work() -> AsyncResult:
            return from_thread.begin_send(
                socket, b"late", callback=lambda ar: told.append(ar.outcome), host=host
            )

        result = while_trio_stands_still(partial(outliving, host), work)
    assert len(told) == 1
    assert result.is_completed
    with pytest.raises(SocketException) as raised:
        told[0].unwrap()
    assert raised.value.socket_error_code is SocketError.OPERATION_ABORTED
    assert port.accepted == b""


async def test_a_buffer_that_was_shortened_fails_its_send_and_nothing_else() -> None:
    socket, port = scripted()
    data = bytearray(b"x" * 100)
    async with open_initiator() as host:
        keep = partial(outliving, host)
        result = while_trio_stands_still(
            keep, lambda: from_thread.begin_send(socket, data, host=host)
        )
        data.clear()
        with pytest.raises(SocketException) as raised:
            await socket_end(socket, result)
        assert raised.value.socket_error_code is SocketError.FAULT
        assert await in_own_thread(through_begin_send, socket, b"next", host) == 4
    assert port.accepted == b"next"


async def test_a_port_that_raises_fails_its_send_and_not_the_run() -> None:
    class BadPort(KernelPort):
        __slots__ = ()

    left, right = stdlib_socket.socketpair()
    port = BadPort(left)

    def send(*_: object) -> int:
        raise ZeroDivisionError("the port's")

    port.send = send
    socket = Socket.from_port(port)
    with right:
        async with open_initiator() as host:
            with pytest.raises(SocketException, match="the port's") as raised:
                await in_own_thread(through_begin_send, socket, b"x", host)
            assert raised.value.socket_error_code is SocketError.SOCKET_ERROR
        socket.close()


async def test_args_that_were_cut_keep_their_count_while_their_host_leaves() -> None:
    socket, _ = scripted(4, Blocked())
    args = SocketAsyncEventArgs(ten("cut"))
    async with open_initiator() as host:
        await in_own_thread(lambda: from_thread.send_async(socket, args, host=host))
        await args.wait()
        host.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await trio.testing.wait_all_tasks_blocked()
            assert not await in_own_thread(lambda: from_thread.send_async(socket, args, host=host))
    assert args.bytes_transferred == 4
    assert len(args.remaining[0]) == 6


def test_a_run_that_is_over_in_the_middle_of_a_start() -> None:
    """As one that ended by an internal error of Trio's may be: nobody has told the initiator."""
    kept: list[Any] = []

    async def main() -> None:
        async with open_initiator() as host:
            kept.extend((host, scripted()[0]))

    trio.run(main)
    host, socket = kept
    host._owner.is_closed, host._owner.has_exited, host._owner.stopped = False, False, None
    args = SocketAsyncEventArgs(b"x")

    def work() -> None:
        with pytest.raises(InvalidOperationError, match="is over"):
            from_thread.send_async(socket, args, host=host)
        with from_thread.initiator(host):
            pass

    while_trio_stands_still(work)
    assert not args.pending
    assert not host._owner.inbox._posts


# Waiting --------------------------------------------------------------------------------------------------------------


@pytest.mark.page("B28")
@pytest.mark.fact("F040")
async def test_end_send_blocks_until_the_end() -> None:
    socket, port = scripted(Blocked())
    queued = trio.Event()

    class Watcher(Instrument):
        def operation_queued(self, operation, ahead):
            queued.set()

    async with open_initiator() as host:
        add_instrument(Watcher())
        worker = Worker(through_begin_send, socket, b"waits", host)
        await queued.wait()
        assert worker.thread.is_alive()
        port.unblock()
        assert await worker.join() == 5


@pytest.mark.fact("F038")
async def test_a_result_is_taken_once_by_whichever_thread(run: Run) -> None:
    socket, _ = scripted()
    async with open_initiator() as host:
        result = socket.begin_send(b"from Trio")
        assert await run(from_thread.end_send, result) == 9
        with pytest.raises(InvalidOperationError, match="once"):
            await run(from_thread.end_send, result)
        with pytest.raises(TypeError):
            await run(from_thread.end_send, None)
        with pytest.raises(ValueError, match="must be what begin_send"):
            await run(from_thread.end_send, "result")
        ours, peer = socketpair()
        received = ours.begin_receive(bytearray(1))
        with pytest.raises(ValueError, match="the result of RECEIVE"):
            await run(from_thread.end_send, received)
        ours.close()
        peer.close()
        mine = await run(
            lambda: from_thread.wait_one(
                from_thread.begin_send(socket, b"x", host=host).async_wait_handle
            )
        )
        assert mine


async def test_only_one_of_many_threads_takes_a_result() -> None:
    socket, _ = scripted()
    async with open_initiator():
        for _ in range(20):
            result = socket.begin_send(b"x")
            barrier = threading.Barrier(4)

            def take(result: AsyncResult = result, barrier: threading.Barrier = barrier) -> int:
                barrier.wait(10)
                try:
                    return from_thread.end_send(result)
                except InvalidOperationError:
                    return 0

            workers = [Worker(take) for _ in range(4)]
            assert sum([await worker.join() for worker in workers]) == 1


async def test_a_result_whose_end_is_held_back_is_told_to_a_thread() -> None:
    """One start in many is answered "pending" although it is done, and told when somebody asks."""
    socket, _ = scripted()
    async with open_initiator():
        results = [socket.begin_send(b"x") for _ in range(START_BUDGET + 1)]
        await trio.testing.wait_all_tasks_blocked()
        assert results[-1]._operation.in_flight
        assert await in_own_thread(from_thread.end_send, results[-1]) == 1


@pytest.mark.page("B29")
async def test_wait_one_and_its_timeout(run: Run) -> None:
    socket, port = scripted(Blocked())
    async with open_initiator() as host:

        def work() -> list[bool]:
            result = from_thread.begin_send(socket, b"x", host=host)
            handle = result.async_wait_handle
            assert handle is result.async_wait_handle
            answers = [from_thread.wait_one(handle, 0), from_thread.wait_one(handle, 0.01)]
            trio.from_thread.run_sync(port.unblock, trio_token=host._owner.inbox.token)
            answers.append(from_thread.wait_one(handle))
            return [*answers, from_thread.wait_one(handle, 0)]

        assert await run(work) == [False, False, True, True]
        handle = ManualResetEvent()
        for bad in (-1, math.nan):
            with pytest.raises(ValueError, match="timeout"):
                await run(from_thread.wait_one, handle, bad)
        with pytest.raises(TypeError, match=r"^handle must be "):
            await run(from_thread.wait_one, "handle")
        with pytest.raises(TypeError, match=r"^timeout must be a number of seconds"):
            await run(from_thread.wait_one, handle, "3")


@pytest.mark.page("B30")
async def test_a_callback_lets_the_thread_go_on(run: Run) -> None:
    """The page's way to wait: the thread waits for an event, which the callback sets."""
    socket, _ = scripted(3, Blocked(0.01))
    done = ManualResetEvent()
    counts = []

    def callback(ar: AsyncResult) -> None:
        counts.append(socket.end_send_nowait(ar))
        done.set()

    async with open_initiator() as host:

        def work() -> bool:
            from_thread.begin_send(socket, b"message", callback=callback, host=host)
            return from_thread.wait_one(done, 10)

        assert await run(work)
    assert counts == [7]


async def test_a_thread_sets_an_event_for_tasks_and_threads() -> None:
    event = ManualResetEvent()
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(event.wait_one)
        blocked = [Worker(from_thread.wait_one, event) for _ in range(3)]
        await trio.testing.wait_all_tasks_blocked()
        await in_own_thread(event.set)
    for worker in blocked:
        assert await worker.join()
    await in_own_thread(event.reset)
    assert not await event.wait_one(0)
    event.set()
    assert await in_own_thread(from_thread.wait_one, event)


async def test_no_wake_up_is_lost_between_threads() -> None:
    for _ in range(200):
        event = ManualResetEvent()
        setter = Worker(event.set)
        waiter = Worker(from_thread.wait_one, event)
        with trio.fail_after(30):
            assert await event.wait_one()
        setter.thread.join()
        waiter.thread.join()
        assert waiter.take()


# Stopping -------------------------------------------------------------------------------------------------------------


async def test_cancel_stops_with_the_exact_count() -> None:
    socket, port = scripted(4, Blocked())
    async with open_initiator() as host:

        def work() -> tuple[SocketError, int, str]:
            result = from_thread.begin_send(socket, ten("cut"), host=host)
            from_thread.cancel(result, "enough")
            with pytest.raises(SocketException) as raised:
                from_thread.end_send(result)
            from_thread.cancel(result)  # nothing to stop any more
            return raised.value.socket_error_code, raised.value.bytes_transferred, str(raised.value)

        code, count, text = await in_own_thread(work)
    assert (code, count) == (SocketError.OPERATION_ABORTED, 4)
    assert text.endswith("enough")
    assert len(port.accepted) == 4


async def test_a_cancel_never_hits_the_next_use_of_the_args() -> None:
    socket, port = scripted(Blocked(), 10, Blocked())
    args = SocketAsyncEventArgs(ten("args"))
    async with open_initiator():
        assert socket.send_async(args)
        while_trio_stands_still(from_thread.cancel, args)  # posted, not taken in
        port.unblock()
        socket._core.sends.drain(1000)  # it ends before that ...
        assert args.bytes_transferred == 10
        assert socket.send_async(args)  # ... and is started anew
        await trio.testing.wait_all_tasks_blocked()
        assert args.pending
        assert not Inbox.current()._posts


async def test_trio_can_stop_what_is_still_on_its_way() -> None:
    socket, port = scripted(Blocked())
    args = SocketAsyncEventArgs(ten("args"))
    async with open_initiator() as host:

        def work() -> AsyncResult:
            from_thread.send_async(socket, args, host=host)
            return from_thread.begin_send(socket, ten("result"), host=host)

        result = while_trio_stands_still(partial(outliving, host), work)
        assert result.cancel()
        assert args.cancel()
        await args.wait()
        assert args.socket_error is SocketError.OPERATION_ABORTED
    assert port.accepted == b""


async def test_what_cannot_be_stopped_from_a_thread() -> None:
    socket, port = scripted(Blocked())
    args = SocketAsyncEventArgs(ten("awaited"))
    async with open_initiator(), trio.open_nursery() as nursery:
        nursery.start_soon(socket.send, args)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(InvalidOperationError, match="awaited by a task"):
            await in_own_thread(from_thread.cancel, args)
        with pytest.raises(TypeError):
            await in_own_thread(from_thread.cancel, socket)
        await in_own_thread(from_thread.cancel, SocketAsyncEventArgs())
        port.unblock()
    assert args.bytes_transferred == 10


# The wrong side -------------------------------------------------------------------------------------------------------


async def test_the_blocking_names_teach_inside_trio() -> None:
    socket, _ = scripted()
    async with open_initiator():
        result = socket.begin_send(b"x")
        for call, says in (
            (lambda: from_thread.begin_send(socket, b"x"), r"call socket\.begin_send\(\)"),
            (lambda: from_thread.try_begin_send(socket, b"x"), r"call socket\.try_begin_send\(\)"),
            (
                lambda: from_thread.send_async(socket, SocketAsyncEventArgs(b"x")),
                r"call socket\.send_async\(\)",
            ),
            (lambda: from_thread.end_send(result), r"await socket\.end_send\(\)"),
            (lambda: from_thread.wait_one(result.async_wait_handle), r"await handle\.wait_one\(\)"),
            (lambda: from_thread.cancel(result), r"call cancel\(\) of the operation"),
            (lambda: from_thread.initiator().__enter__(), "open_initiator"),
        ):
            with pytest.raises(InvalidOperationError, match=says):
                call()
        assert socket.end_send_nowait(result) == 1


async def test_the_names_of_trio_teach_in_a_thread(run: Run) -> None:
    socket, port = scripted(Blocked())
    async with open_initiator():
        pending = socket.begin_send(b"x")
        args = SocketAsyncEventArgs(b"y")
        assert socket.send_async(args)

        def work() -> None:
            for call in (
                lambda: socket.begin_send(b"x"),
                lambda: socket.try_begin_send(b"x"),
                lambda: socket.send_async(SocketAsyncEventArgs(b"x")),
                lambda: socket.end_send_nowait(pending),
                lambda: socket.close(),
            ):
                with pytest.raises(InvalidOperationError, match=r"from_thread\.start\(\)"):
                    call()
            for call in (pending.cancel, args.cancel):
                with pytest.raises(InvalidOperationError, match=r"from_thread\.cancel"):
                    call()

        await run(work)
        assert socket.queued_operations == 2
    assert port.accepted == b""


async def test_an_inherited_initiator_teaches_in_a_call() -> None:
    async with open_initiator():
        with pytest.raises(InvalidOperationError, match="is the host"):
            await trio.to_thread.run_sync(current_initiator)


async def test_a_thread_without_a_host_is_told_how_to_get_one() -> None:
    socket, _ = scripted()
    async with open_initiator():
        with pytest.raises(InvalidOperationError, match="host="):
            await in_own_thread(from_thread.begin_send, socket, b"x")
    with pytest.raises(InvalidOperationError, match="host="):
        await trio.to_thread.run_sync(from_thread.begin_send, socket, b"x")


async def test_a_socket_of_another_thread_is_refused(run: Run) -> None:
    async with open_initiator() as host:

        def work() -> None:
            own = Socket.from_port(ScriptedPort())
            with pytest.raises(InvalidOperationError, match="belongs to another thread"):
                from_thread.begin_send(own, b"x", host=host)

        await run(work)


def test_a_socket_and_a_host_of_other_runs_are_refused() -> None:
    socket = Socket.from_port(ScriptedPort())
    hosts = []

    async def first() -> None:
        async with open_initiator() as host:
            hosts.append(host)
            assert not socket.send_async(SocketAsyncEventArgs(b"x"))

    async def second() -> None:
        async with open_initiator() as host:
            with pytest.raises(InvalidOperationError, match=r"another call of trio\.run"):
                await in_own_thread(through_begin_send, socket, b"x", host)
            fresh = Socket.from_port(ScriptedPort())
            with pytest.raises(InvalidOperationError, match="has exited"):
                await in_own_thread(through_begin_send, fresh, b"x", hosts[0])

    trio.run(first)
    trio.run(second)


def test_a_run_inside_a_call_does_not_take_the_host_for_its_own() -> None:
    async def inner() -> None:
        with pytest.raises(InvalidOperationError, match="lives in the Trio thread"):
            Socket.from_port(ScriptedPort()).begin_send(b"x")
        async with open_initiator() as host:
            port = ScriptedPort()
            socket = Socket.from_port(port)
            assert await in_own_thread(through_begin_send, socket, b"x", host) == 1
            assert port.accepted == b"x"

    async def outer() -> None:
        async with open_initiator():
            await trio.to_thread.run_sync(trio.run, inner)

    trio.run(outer)


def test_after_the_run_everything_is_an_error_and_nothing_hangs() -> None:
    kept: list[Any] = []

    async def main() -> None:
        async with open_initiator() as host:
            socket, peer = socketpair()
            pending = await in_own_thread(lambda: from_thread.begin_send(socket, BIG, host=host))
            kept.extend((host, socket, pending))
        peer.close()

    trio.run(main)
    host, socket, pending = kept

    def work() -> None:
        with pytest.raises(InvalidOperationError, match="has exited"):
            from_thread.begin_send(socket, b"x", host=host)
        with pytest.raises(InvalidOperationError, match="has exited"):
            from_thread.initiator(host).__enter__()
        from_thread.cancel(pending)
        assert from_thread.wait_one(pending.async_wait_handle)
        with pytest.raises(SocketException) as raised:
            from_thread.end_send(pending)
        assert raised.value.socket_error_code is SocketError.OPERATION_ABORTED
        assert 0 < raised.value.bytes_transferred < len(BIG)

    while_trio_stands_still(work)
    with pytest.raises(InvalidOperationError):
        work()  # the thread in which the run took place may look, too; but the result was taken
    socket.close()


# Callbacks ------------------------------------------------------------------------------------------------------------

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")


def tell_where(notes: list[Any]) -> Callable[..., None]:
    def handler(*_: object) -> None:
        notes.append((threading.get_ident(), variable.get(None)))

    return handler


async def started_with(
    handler: Callable[..., object], socket: Socket, host: Initiator, in_thread: bool
) -> int:
    """Send with each face, with a handler; return the ident of the thread."""

    def work() -> int:
        variable.set("the thread's")
        told = ManualResetEvent()
        result = from_thread.begin_send(
            socket, b"x", callback=handler, host=host, callbacks_in_thread=in_thread
        )
        args = SocketAsyncEventArgs(b"x")
        args.completed += handler
        args.completed += lambda socket, args: told.set()
        from_thread.send_async(socket, args, host=host, callbacks_in_thread=in_thread)
        from_thread.end_send(result)
        assert from_thread.wait_one(told, 10)
        return threading.get_ident()

    return await in_own_thread(work)


@pytest.mark.fact("F065", "F132")
@pytest.mark.parametrize("in_thread", [False, True])
async def test_where_and_in_which_context_handlers_run(in_thread: bool) -> None:
    socket, _ = scripted()
    notes: list[Any] = []
    async with open_initiator() as host:
        starter = await started_with(tell_where(notes), socket, host, in_thread)
    assert [context for _, context in notes] == ["the thread's"] * 2
    for ident, _ in notes:
        assert ident != starter
        assert (ident == threading.get_ident()) is not in_thread


async def test_asynchronous_handlers_run_in_trio_either_way() -> None:
    socket, _ = scripted()
    notes = []

    async def handler(*_: object) -> None:
        await trio.lowlevel.checkpoint()
        notes.append((trio.lowlevel.in_trio_run(), variable.get(None)))

    async with open_initiator() as host:
        for in_thread in (False, True):
            await started_with(handler, socket, host, in_thread)
    assert notes == [(True, "the thread's")] * 4


@pytest.mark.page("B27", "B28")
@pytest.mark.fact("F069")
async def test_a_callback_in_a_thread_may_block_as_the_page_describes() -> None:
    socket, port = scripted(2, Blocked(0.01), 3, 1, Blocked(0.05))
    counts: list[int] = []

    async with open_initiator() as host:

        def callback(ar: AsyncResult) -> None:
            counts.append(from_thread.end_send(ar))
            # What it starts belongs to the thread, not to the call in which it runs, so it is not cut at its end.
            from_thread.begin_send(socket, b"next", callback=last, callbacks_in_thread=True)

        def last(ar: AsyncResult) -> None:
            counts.append(from_thread.end_send(ar))
            done.set()

        done = ManualResetEvent()

        def work() -> bool:
            from_thread.begin_send(
                socket, b"first", callback=callback, host=host, callbacks_in_thread=True
            )
            return from_thread.wait_one(done, 10)

        assert await in_own_thread(work)
    assert counts == [5, 4]
    assert port.accepted == b"firstnext"


async def test_what_a_callback_starts_belongs_to_the_thread_and_ends_with_it() -> None:
    socket, port = scripted(10, 4, Blocked())
    owners = []
    chained: list[AsyncResult] = []
    event = ManualResetEvent()

    def callback(ar: AsyncResult) -> None:
        owners.append(current_initiator())
        chained.append(socket.begin_send(ten("chained")))
        event.set()

    async with open_initiator() as host:

        def work() -> None:
            with from_thread.initiator(host, name="mine") as mine:
                owners.append(mine)
                from_thread.begin_send(socket, ten("first"), callback=callback)
                assert from_thread.wait_one(event, 10)

        await in_own_thread(work)
        assert owners[0] is owners[1]
        assert chained[0].is_completed
        assert chained[0].bytes_transferred == 4
        assert host.pending_operations == 0
    assert port.accepted == ten("first") + ten("chained")[:4]


@pytest.mark.fact("F075")
async def test_a_chain_of_callbacks_may_be_as_long_as_you_like() -> None:
    """And is paced and watched as one of Trio's own."""
    socket, port = scripted()
    left = [3 * START_BUDGET]
    event = ManualResetEvent()

    def callback(ar: AsyncResult) -> None:
        assert socket.end_send_nowait(ar) == 1
        left[0] -= 1
        if left[0]:
            socket.begin_send(b"x", callback=callback)
        else:
            event.set()

    async with open_initiator() as host:

        def work() -> bool:
            from_thread.begin_send(socket, b"x", callback=callback, host=host)
            return from_thread.wait_one(event, 20)

        assert await in_own_thread(work)
    assert len(port.accepted) == 3 * START_BUDGET


@pytest.mark.fact("F076")
@pytest.mark.parametrize("in_thread", [False, True])
async def test_an_exception_of_a_callback_leaves_through_the_host(in_thread: bool) -> None:
    socket, _ = scripted()

    def callback(ar: AsyncResult) -> None:
        raise KeyError("a callback's")

    def work(host: Initiator) -> None:
        result = from_thread.begin_send(
            socket, b"x", callback=callback, host=host, callbacks_in_thread=in_thread
        )
        from_thread.end_send(result)

    with pytest.RaisesGroup(KeyError):
        async with open_initiator() as host:
            await in_own_thread(work, host)
            await trio.sleep_forever()


async def test_callbacks_in_a_thread_are_called_although_the_host_is_cancelled() -> None:
    socket, _ = scripted(4, Blocked())
    counts = []

    def callback(ar: AsyncResult) -> None:
        counts.append(ar.bytes_transferred)

    def work(host: Initiator) -> None:
        from_thread.begin_send(
            socket, ten("cut"), callback=callback, host=host, callbacks_in_thread=True
        )

    with trio.CancelScope() as scope:
        async with open_initiator() as host:
            await in_own_thread(partial(outliving, host), lambda: work(host))
            scope.cancel()
    assert counts == [4]
