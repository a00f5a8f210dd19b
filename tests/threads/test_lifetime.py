"""How long a thread owns its sends: until it ends, its call returns, its ``with`` block is left, or its host leaves.

What waits for ever is a send on a scripted port that is blocked after four of ten bytes, so that each count is known.

Modules: _owners.thread_owner, _threads.scope.
"""

from __future__ import annotations

import contextvars
import gc
import pickle
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing

from tests.helpers import BIG, connected, read_exactly, scripted, stdlib_pair, ten
from tests.worker_threads import Worker, in_own_thread, outliving
from trio_send import (
    AsyncResult,
    ExitPolicy,
    Initiator,
    InvalidOperationError,
    ManualResetEvent,
    Socket,
    SocketAsyncEventArgs,
    SocketError,
    SocketException,
    add_instrument,
    from_thread,
    open_initiator,
)
from trio_send._base.inbox import Inbox
from trio_send._base.wait_handle import WaitHandle
from trio_send._owners.exiting_owner import START_BUDGET
from trio_send._owners.thread_owner import ThreadOwner
from trio_send._threads import lifetime as _threads
from trio_send.abc import Instrument
from trio_send.testing import Blocked, ScriptedPort

ABORTED = SocketError.OPERATION_ABORTED


@pytest.fixture(autouse=True)
def without_the_garbage_collector():
    """What is finalised here is finalised by reference counts."""
    gc.disable()
    yield
    gc.enable()


def stuck() -> tuple[Socket, ScriptedPort]:
    """A socket that takes four bytes and then no more."""
    return scripted(4, Blocked())


def how_it_ended(result: AsyncResult | SocketAsyncEventArgs) -> tuple[SocketError, int, str]:
    assert result.outcome is not None, "it is pending"
    with pytest.raises(SocketException) as raised:
        result.outcome.unwrap()
    error = raised.value
    assert error.bytes_transferred == result.bytes_transferred
    return error.socket_error_code, error.bytes_transferred, str(error)


async def told(result: AsyncResult) -> tuple[SocketError, int, str]:
    """Let the dispatcher tell; nothing may be needed but that."""
    await trio.testing.wait_all_tasks_blocked()
    return how_it_ended(result)


# A thread of the program's own ----------------------------------------------------------------------------------------


def leave(how: str) -> None:
    if how == "exception":
        raise KeyError("the thread's")
    if how == "exit":
        raise SystemExit


@pytest.mark.page("B41", "B42")
@pytest.mark.fact("F222", "F224")
@pytest.mark.parametrize("daemon", [False, True])
@pytest.mark.parametrize("how", ["return", "exception", "exit"])
async def test_a_thread_that_ends_leaves_nothing_running(how: str, daemon: bool) -> None:
    """The stop is on its way when the thread is gone, and everything that is posted later finds it done."""
    socket, port = stuck()
    results: list[AsyncResult] = []
    async with open_initiator() as host:

        def work() -> None:
            results.append(from_thread.begin_send(socket, ten("first"), host=host))
            results.append(from_thread.begin_send(socket, ten("second"), host=host))
            leave(how)

        worker = Worker(work, daemon=daemon)
        await trio.to_thread.run_sync(worker.thread.join)
        assert socket.queued_operations == 0
        assert host.pending_operations == 0
        for result, count in zip(results, (4, 0), strict=True):
            code, accepted, why = await told(result)
            assert (code, accepted) == (ABORTED, count)
            assert why.endswith("the thread that started it has exited")
    assert port.accepted == ten("first")[:4]


async def test_the_exception_of_a_thread_may_be_kept() -> None:
    """It holds the frames of the thread, but not what the thread holds."""
    socket, _ = stuck()
    kept: list[BaseException] = []
    async with open_initiator() as host:

        def work() -> None:
            result = from_thread.begin_send(socket, ten("x"), host=host)
            try:
                raise KeyError(result)
            except KeyError as error:
                kept.append(error)

        await in_own_thread(work)
        (result,) = kept[0].args
        assert (await told(result))[0] is ABORTED


async def test_a_finaliser_never_waits_for_trio() -> None:
    """The thread ends while the Trio thread does nothing but wait for it."""
    socket, _ = stuck()
    async with open_initiator() as host:
        results = []
        worker = Worker(lambda: results.append(from_thread.begin_send(socket, ten("x"), host=host)))
        worker.thread.join()
        assert not results[0].is_completed
        assert (await told(results[0]))[:2] == (ABORTED, 4)


async def test_threads_do_not_end_each_others_sends() -> None:
    socket, port = scripted(Blocked())
    stay = threading.Event()
    async with open_initiator() as host:
        started = trio.Event()
        token = trio.lowlevel.current_trio_token()

        def staying() -> int:
            result = from_thread.begin_send(socket, ten("stays"), host=host)
            token.run_sync_soon(started.set)
            assert stay.wait(10)
            return from_thread.end_send(result)

        worker = Worker(staying)
        await started.wait()
        leaving = await in_own_thread(
            lambda: from_thread.begin_send(socket, ten("leaves"), host=host)
        )
        assert (await told(leaving))[:2] == (ABORTED, 0)
        assert socket.queued_operations == 1
        stay.set()
        port.unblock()
        assert await worker.join() == 10
    assert port.accepted == ten("stays")


async def test_a_thread_that_outlives_many_hosts_keeps_none_of_them() -> None:
    """One thread, one host after another, and the first start with each new one lets the others go."""
    jobs: queue.SimpleQueue[Callable[[], Any] | None] = queue.SimpleQueue()
    answers: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def serve() -> None:
        while (job := jobs.get()) is not None:
            answers.put(job())

    worker = Worker(serve)
    for _ in range(20):
        socket, _ = scripted()
        async with open_initiator() as host:
            jobs.put(
                lambda socket=socket, host=host: from_thread.end_send(
                    from_thread.begin_send(socket, b"x", host=host)
                )
            )
            assert await trio.to_thread.run_sync(answers.get) == 1
    jobs.put(lambda: len(_threads._locals.life.owners))
    assert await trio.to_thread.run_sync(answers.get) == 1
    jobs.put(None)
    await worker.join()


# A call of trio.to_thread.run_sync ------------------------------------------------------------------------------------


@pytest.mark.fact("F222")
async def test_a_call_that_returns_leaves_nothing_running() -> None:
    socket, port = stuck()
    async with open_initiator() as host:
        result = await trio.to_thread.run_sync(from_thread.begin_send, socket, ten("x"))
        code, count, why = await told(result)
        assert (code, count) == (ABORTED, 4)
        assert why.endswith("the call of trio.to_thread.run_sync() that started it is over")
        assert host.pending_operations == 0
    assert port.accepted == ten("x")[:4]


async def test_the_next_call_in_the_same_thread_is_another_initiator() -> None:
    """Trio reuses its threads, so the thread's own end would come much too late."""
    async with open_initiator():
        limiter = trio.CapacityLimiter(1)
        idents, owners = [], []
        for _ in range(3):
            socket, _ = stuck()

            def work(socket: Socket = socket) -> AsyncResult:
                idents.append(threading.get_ident())
                result = from_thread.begin_send(socket, ten("x"))
                owners.append(result._operation.owner)
                return result

            result = await trio.to_thread.run_sync(work, limiter=limiter)
            assert (await told(result))[0] is ABORTED
        assert len(set(map(id, owners))) == 3
        assert len(set(idents)) == 1


async def test_callbacks_do_not_keep_a_call_alive() -> None:
    """Their context is a copy of the call's, which is dropped when the call is over."""
    socket, _ = stuck()
    counts = []
    async with open_initiator():
        await trio.to_thread.run_sync(
            lambda: from_thread.begin_send(
                socket, ten("x"), callback=lambda ar: counts.append(ar.bytes_transferred)
            )
        )
        await trio.testing.wait_all_tasks_blocked()
        assert counts == [4]


@pytest.mark.parametrize("abandon", [False, True])
async def test_a_call_that_raises_leaves_nothing_running(abandon: bool) -> None:
    """Although its exception, which is kept, holds the call's context; Trio itself keeps it in a cycle."""
    socket, _ = stuck()
    results: list[AsyncResult] = []

    def work() -> None:
        results.append(from_thread.begin_send(socket, ten("x")))
        raise KeyError("the call's")

    async with open_initiator() as host:
        with pytest.raises(KeyError) as kept:
            await trio.to_thread.run_sync(work, abandon_on_cancel=abandon)
        # What the call has left behind was taken in before its task went on.
        assert host.pending_operations == 0
        assert (await told(results[0]))[:2] == (ABORTED, 4)
        del kept


async def test_a_name_that_is_kept_keeps_no_send_alive() -> None:
    """A log that keeps its records does that. It makes the end come later, when the context is dropped."""
    socket, _ = stuck()
    names = []

    def work() -> AsyncResult:
        before = threading.current_thread().name
        result = from_thread.begin_send(socket, ten("x"), callback=lambda ar: None)
        names.append(threading.current_thread().name)
        assert names == [before]
        assert type(pickle.loads(pickle.dumps(names[0]))) is str
        return result

    async with open_initiator():
        result = await trio.to_thread.run_sync(work)
        assert (await told(result))[:2] == (ABORTED, 4)


async def test_a_thread_that_is_renamed_in_its_call() -> None:
    socket, _ = scripted(4, Blocked(0.01))

    def work() -> int:
        first = from_thread.begin_send(socket, ten("before"))
        threading.current_thread().name = "renamed"
        assert (
            from_thread.begin_send(socket, ten("after"))._operation.owner is first._operation.owner
        )
        return from_thread.end_send(first)

    async with open_initiator():
        assert await trio.to_thread.run_sync(work) == 10


async def test_a_copy_of_a_calls_context_is_not_the_call() -> None:
    """A task that inherits it may start a call of its own in the very same thread."""
    limiter = trio.CapacityLimiter(1)
    socket, _ = scripted(Blocked())
    contexts, owners, idents, results = [], [], [], []

    def work() -> None:
        idents.append(threading.get_ident())
        results.append(from_thread.begin_send(socket, b"x"))
        owners.append(results[-1]._operation.owner)
        contexts.append(contextvars.copy_context())

    async with open_initiator():
        await trio.to_thread.run_sync(work, limiter=limiter)
        task = contexts[0].copy()

        async def another() -> None:
            await trio.to_thread.run_sync(work, limiter=limiter)

        async with trio.open_nursery() as nursery:
            task.run(nursery.start_soon, another)
        for result in results:
            assert (await told(result))[0] is ABORTED
    assert owners[0] is not owners[1]
    assert idents[0] == idents[1]


async def test_a_call_that_was_abandoned_ends_its_sends_when_it_is_over() -> None:
    socket, _port = stuck()
    release, started = threading.Event(), trio.Event()
    token = trio.lowlevel.current_trio_token()
    results: list[AsyncResult] = []

    def work() -> None:
        results.append(from_thread.begin_send(socket, ten("x")))
        token.run_sync_soon(started.set)
        release.wait(10)
        token.run_sync_soon(over.set)

    async with open_initiator():
        over = trio.Event()
        async with trio.open_nursery() as nursery:

            async def call() -> None:
                await trio.to_thread.run_sync(work, abandon_on_cancel=True)

            nursery.start_soon(call)
            await started.wait()
            nursery.cancel_scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert not results[0].is_completed
        release.set()
        await over.wait()
        with trio.fail_after(10):
            while not results[0].is_completed:
                await trio.lowlevel.checkpoint()
        assert how_it_ended(results[0])[:2] == (ABORTED, 4)


@pytest.mark.parametrize("abandon", [False, True])
@pytest.mark.parametrize("waits", ["end_send", "wait_one", "exit"])
async def test_a_cancelled_call_that_blocks_is_told(waits: str, abandon: bool) -> None:
    """Within a twentieth of a second, for Trio tells a thread of it only when it asks."""
    socket, _port = stuck()
    started = trio.Event()
    token = trio.lowlevel.current_trio_token()
    seen: list[Any] = []

    def work() -> None:
        result = from_thread.begin_send(socket, ten("x"))
        seen.append(result)
        token.run_sync_soon(started.set)
        try:
            if waits == "end_send":
                from_thread.end_send(result)
            elif waits == "wait_one":
                from_thread.wait_one(ManualResetEvent())
            else:
                with from_thread.initiator(on_exit=ExitPolicy.JOIN):
                    seen[0] = from_thread.begin_send(socket, ten("y"))
        except BaseException as error:
            seen.append(type(error))
            raise
        finally:
            token.run_sync_soon(over.set)

    async with open_initiator():
        over = trio.Event()
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(call_it, work, abandon)
                await started.wait()
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
        await over.wait()
        assert seen[1] is trio.Cancelled
        with trio.fail_after(10):
            while not seen[0].is_completed:
                await trio.lowlevel.checkpoint()
        code, count, _ = how_it_ended(seen[0])
        assert code is ABORTED
        assert count == (0 if waits == "exit" else 4)


async def call_it(function: Callable[[], Any], abandon: bool) -> None:
    await trio.to_thread.run_sync(function, abandon_on_cancel=abandon)


# The host leaves, or the socket goes, first ---------------------------------------------------------------------------


@pytest.mark.fact("F047")
@pytest.mark.parametrize("what", ["socket", "host", "run", "cancel"])
async def test_a_blocked_thread_goes_on_with_the_exact_count(what: str) -> None:
    socket, _ = stuck()
    started = trio.Event()
    token = trio.lowlevel.current_trio_token()
    worker: Worker | None = None
    results = []

    with trio.CancelScope() as around:
        async with open_initiator() as host:

            def work() -> tuple[SocketError, int]:
                results.append(from_thread.begin_send(socket, ten("x"), host=host))
                token.run_sync_soon(started.set)
                with pytest.raises(SocketException) as raised:
                    from_thread.end_send(results[0])
                return raised.value.socket_error_code, raised.value.bytes_transferred

            worker = Worker(work)
            await started.wait()
            await trio.testing.wait_all_tasks_blocked()
            if what == "socket":
                socket.close()
                assert await worker.join() == (ABORTED, 4)
            elif what == "run":
                around.cancel()
            elif what == "cancel":
                assert results[0].cancel()
    if what != "socket":
        # The thread needs nothing of Trio's any more.
        worker.thread.join()
        assert worker.take() == (ABORTED, 4)


@pytest.mark.parametrize("way", ["exit", "cancel", "exception"])
@pytest.mark.parametrize("policy", [ExitPolicy.ABORT, ExitPolicy.JOIN])
async def test_whoever_leaves_first_ends_them_by_its_own_policy(
    policy: ExitPolicy, way: str
) -> None:
    """The sends of threads end with the host's own, in one stop: neither is taken for a follower of the other's cut."""
    socket, port = stuck()
    results: list[AsyncResult] = []
    entered, leave = trio.Event(), threading.Event()
    token = trio.lowlevel.current_trio_token()

    def work(host: Initiator) -> None:
        with from_thread.initiator(host, ExitPolicy.DRAIN, grace=1000):
            results.append(from_thread.begin_send(socket, ten("thread's")))
            token.run_sync_soon(entered.set)
            assert leave.wait(10)

    worker = None
    try:
        with trio.CancelScope() as scope:
            async with open_initiator(policy) as host:
                results.append(socket.begin_send(ten("host's")))
                worker = Worker(work, host)
                await entered.wait()
                await trio.testing.wait_all_tasks_blocked()
                if way == "cancel":
                    scope.cancel()
                elif way == "exception":
                    raise KeyError("the body's")
                elif policy is ExitPolicy.JOIN:
                    trio.lowlevel.current_trio_token().run_sync_soon(port.unblock)
    except KeyError:
        assert way == "exception"
    joined = policy is ExitPolicy.JOIN and way == "exit"
    for result, count in zip(results, (4, 0), strict=True):
        if joined:
            assert result.outcome.unwrap() == 10
        else:
            assert how_it_ended(result)[:2] == (ABORTED, count)
    leave.set()
    worker.thread.join()  # its own policy finds nothing left to do, and no Trio to do it
    worker.take()


@pytest.mark.parametrize("policy", [ExitPolicy.JOIN, ExitPolicy.ADOPT])
async def test_a_thread_that_waits_at_its_exit_while_its_host_leaves(policy: ExitPolicy) -> None:
    socket, _ = stuck()
    leave, left = threading.Event(), trio.Event()
    token = trio.lowlevel.current_trio_token()

    def work(host: Initiator) -> AsyncResult:
        try:
            with from_thread.initiator(host, policy):
                result = from_thread.begin_send(socket, ten("x"))
                token.run_sync_soon(started.set)
                # Its host has been stopped by then, but has not exited.
                if policy is ExitPolicy.ADOPT:
                    assert leave.wait(10)
        finally:
            token.run_sync_soon(left.set)
        return result

    with trio.CancelScope() as scope:
        async with open_initiator() as host:
            started = trio.Event()
            worker = Worker(work, host)
            await started.wait()
            await trio.testing.wait_all_tasks_blocked()
            assert host.pending_operations == 0
            scope.cancel()
            with trio.CancelScope(shield=True):
                leave.set()
                await left.wait()
    assert how_it_ended(await worker.join())[:2] == (ABORTED, 4)


async def test_an_exit_that_is_given_up_is_noticed_once() -> None:
    """As where Ctrl-C strikes while the thread waits, and what it has asked for before is on its way."""
    async with open_initiator() as host:
        owner, left = ThreadOwner(host._owner), WaitHandle()
        owner.begin_exit(left, "left", False)
        owner.give_up(left, "given up")
        assert host.statistics().unfinished_events == 1
        await trio.testing.wait_all_tasks_blocked()
        assert host.statistics().unfinished_events == 0
        assert owner.has_exited
        assert await left.wait_one(0)


async def test_a_thread_that_leaves_when_all_is_over_does_not_wait() -> None:
    """It has looked before, but what it has asked for then comes late."""
    for exits in ("thread", "host"):
        async with open_initiator() as host:
            owner = ThreadOwner(host._owner)
            if exits == "thread":
                owner.end_with_thread("it has ended")
        left = WaitHandle()
        owner.begin_exit(left, "left", False)
        assert await left.wait_one(0)
        assert owner.has_exited


async def test_a_block_whose_host_has_exited_serves_nobody() -> None:
    """Though the host has never heard of it, because nothing was started there."""
    socket, port = scripted()
    entered, exited = trio.Event(), threading.Event()
    token = trio.lowlevel.current_trio_token()

    def work(host: Initiator) -> None:
        with from_thread.initiator(host):
            token.run_sync_soon(entered.set)
            assert exited.wait(10)
            with pytest.raises(InvalidOperationError, match="its host has exited"):
                from_thread.begin_send(socket, b"late")

    async with open_initiator() as host:
        worker = Worker(work, host)
        await entered.wait()
    exited.set()
    await worker.join()
    assert port.attempts == 0


async def test_a_host_that_was_adopted_still_serves_through_its_adopter() -> None:
    socket, port = scripted()
    async with open_initiator() as outer:
        async with open_initiator(ExitPolicy.ADOPT) as inner:
            pass
        owners: list[Any] = []

        def work() -> int:
            result = from_thread.begin_send(socket, b"x", host=inner)
            owners.append(from_thread.initiator(inner).__enter__()._owner.host)
            return from_thread.end_send(result)

        assert await in_own_thread(work) == 1
        assert owners == [outer._owner]
    assert port.accepted == b"x"


async def test_a_thread_still_ends_what_an_adopter_of_its_host_serves() -> None:
    """Also when it has started something with another host since."""
    first, _ = stuck()
    second, _ = scripted()
    leave, started = threading.Event(), trio.Event()
    token = trio.lowlevel.current_trio_token()

    def work(inner: Initiator, outer: Initiator) -> AsyncResult:
        result = from_thread.begin_send(first, ten("x"), host=inner)
        token.run_sync_soon(started.set)
        assert leave.wait(10)
        assert from_thread.end_send(from_thread.begin_send(second, b"y", host=outer)) == 1
        assert not result.is_completed
        return result

    async with open_initiator() as outer:
        async with open_initiator(ExitPolicy.ADOPT) as inner:
            worker = Worker(work, inner, outer)
            await started.wait()
        leave.set()
        result = await worker.join()
        assert (await told(result))[:2] == (ABORTED, 4)


async def test_a_guest_that_moves_while_somebody_watches_keeps_its_budget() -> None:
    socket, _ = stuck()
    leave, started = threading.Event(), trio.Event()
    token = trio.lowlevel.current_trio_token()

    def work(inner: Initiator) -> AsyncResult:
        result = from_thread.begin_send(socket, ten("x"), host=inner)
        token.run_sync_soon(started.set)
        assert leave.wait(10)
        return result

    async with open_initiator() as outer:
        with add_instrument(Instrument()):
            async with open_initiator(ExitPolicy.ADOPT) as inner:
                worker = Worker(work, inner)
                await started.wait()
                await trio.testing.wait_all_tasks_blocked()
                (thread,) = inner._owner.threads
            assert list(outer._owner.threads) == [thread]
        assert thread.starts_left == START_BUDGET
        assert thread.budget > 0  # the fast path is open again
        leave.set()
        await worker.join()


async def test_a_call_that_was_cancelled_may_still_start() -> None:
    """As everything in a thread goes on until it asks."""
    socket, port = scripted()
    entered, cancelled = trio.Event(), threading.Event()
    token = trio.lowlevel.current_trio_token()

    def work() -> None:
        token.run_sync_soon(entered.set)
        assert cancelled.wait(10)
        from_thread.begin_send(socket, b"late")

    async with open_initiator():
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.to_thread.run_sync, work)
                await entered.wait()
                scope.cancel()
                cancelled.set()
    assert port.accepted == b"late"


async def test_a_handler_that_starts_anew_without_looking_while_the_host_leaves() -> None:
    socket, port = scripted(Blocked())
    args = SocketAsyncEventArgs(ten("again"))
    answers: list[bool] = []
    args.completed += lambda socket, args: answers.append(socket.send_async(args))
    async with open_initiator() as host:
        await in_own_thread(
            outliving, host, lambda: from_thread.send_async(socket, args, host=host)
        )
        await trio.testing.wait_all_tasks_blocked()
        assert socket.queued_operations == 1
    assert answers == [False]
    assert how_it_ended(args)[:2] == (ABORTED, 0)
    assert port.accepted == b""


async def test_a_host_that_drains_gives_guests_its_grace(
    autojump_clock: trio.testing.MockClock,
) -> None:
    started = trio.current_time()
    socket, _ = stuck()
    async with open_initiator(ExitPolicy.DRAIN, grace=5) as host:
        result = await in_own_thread(outliving, host, from_thread.begin_send, socket, ten("x"))
    assert trio.current_time() - started == 5
    assert how_it_ended(result)[:2] == (ABORTED, 4)


async def test_a_host_that_finishes_what_was_started_spares_a_guest_that_was() -> None:
    socket, port = stuck()
    async with open_initiator(ExitPolicy.FINISH_STARTED, grace=1000) as host:
        first = await in_own_thread(outliving, host, from_thread.begin_send, socket, ten("started"))
        second = await in_own_thread(outliving, host, from_thread.begin_send, socket, ten("not"))
        trio.lowlevel.current_trio_token().run_sync_soon(port.unblock)
    assert first.outcome.unwrap() == 10
    assert how_it_ended(second)[:2] == (ABORTED, 0)
    assert port.accepted == ten("started")


async def test_guests_of_a_host_that_is_adopted_move_on_with_it() -> None:
    socket, port = stuck()
    started, leave = trio.Event(), threading.Event()
    token = trio.lowlevel.current_trio_token()

    def work(host: Initiator) -> list[int]:
        with from_thread.initiator(host, ExitPolicy.JOIN) as mine:
            args = SocketAsyncEventArgs(ten("limit"))
            args.timeout = 1000
            first = from_thread.begin_send(socket, ten("before"))
            from_thread.send_async(socket, args)
            token.run_sync_soon(started.set)
            assert leave.wait(10)
            assert mine._owner.host is outer._owner
            second = from_thread.begin_send(socket, ten("after"))
            token.run_sync_soon(port.unblock)
        return [first.bytes_transferred, args.bytes_transferred, second.bytes_transferred]

    async with open_initiator() as outer:
        async with open_initiator(ExitPolicy.ADOPT) as inner:
            worker = Worker(work, inner)
            await started.wait()
            await trio.testing.wait_all_tasks_blocked()
        assert socket.queued_operations == 2
        leave.set()
        assert await worker.join() == [10, 10, 10]
    assert port.accepted == ten("before") + ten("limit") + ten("after")


async def test_a_guest_takes_its_time_of_grace_along_when_it_moves(
    mock_clock: trio.testing.MockClock,
) -> None:
    """The thread waits at its exit while its host is adopted, and for no longer than its own policy says."""
    socket, port = stuck()
    begun = trio.Event()

    def work(host: Initiator) -> AsyncResult:
        with from_thread.initiator(host, ExitPolicy.FINISH_STARTED, grace=5):
            result = from_thread.begin_send(socket, ten("started"))
            # The grace begins with the end of what was not.
            from_thread.begin_send(socket, ten("not"), callback=lambda _: begun.set())
        return result

    async with open_initiator() as outer:
        async with open_initiator(ExitPolicy.ADOPT) as inner:
            worker = Worker(work, inner)
            await begun.wait()
            mock_clock.jump(3)
        await trio.testing.wait_all_tasks_blocked()
        assert [owner.host for owner in outer._owner.threads] == [outer._owner]
        assert socket.queued_operations == 1
        mock_clock.jump(1.5)
        await trio.testing.wait_all_tasks_blocked()
        assert socket.queued_operations == 1
        mock_clock.jump(1)
        await trio.testing.wait_all_tasks_blocked()
        assert socket.queued_operations == 0
        code, count, why = how_it_ended(await worker.join())
        assert (code, count) == (ABORTED, 4)
        assert "its grace of 5 s was over" in why
    assert port.accepted == ten("started")[:4]


# A with block ---------------------------------------------------------------------------------------------------------


def ended_in_block(
    socket: Socket, host: Initiator | None, how: str, **policy: Any
) -> list[AsyncResult]:
    """Leave a block with three sends pending."""
    results = []
    try:
        with from_thread.initiator(host, **policy):
            results += [from_thread.begin_send(socket, ten(str(n))) for n in range(3)]
            leave(how)
    except (KeyError, SystemExit):
        assert how != "return"
    assert all(result.is_completed for result in results)
    return results


@pytest.mark.page("B41")
@pytest.mark.parametrize("how", ["return", "exception"])
@pytest.mark.parametrize("inherited", [False, True])
async def test_abort(how: str, inherited: bool) -> None:
    socket, port = stuck()
    async with open_initiator() as host:
        if inherited:
            results = await trio.to_thread.run_sync(ended_in_block, socket, None, how)
        else:
            results = await in_own_thread(ended_in_block, socket, host, how)
    assert [how_it_ended(each)[:2] for each in results] == [
        (ABORTED, 4),
        (ABORTED, 0),
        (ABORTED, 0),
    ]
    assert port.accepted == ten("0")[:4]


@pytest.mark.parametrize("how", ["return", "exception"])
async def test_join(how: str) -> None:
    socket, _port = scripted(4, Blocked(0.01))
    async with open_initiator() as host:
        results = await in_own_thread(
            lambda: ended_in_block(socket, host, how, on_exit=ExitPolicy.JOIN)
        )
    if how == "return":
        assert [each.outcome.unwrap() for each in results] == [10] * 3
    else:
        assert [how_it_ended(each)[0] for each in results] == [ABORTED] * 3


@pytest.mark.parametrize("how", ["return", "exception"])
@pytest.mark.parametrize("policy", [ExitPolicy.DRAIN, ExitPolicy.FINISH_STARTED])
@pytest.mark.parametrize("grace", [0.01, 1000])
async def test_grace(how: str, policy: ExitPolicy, grace: float) -> None:
    socket, _port = scripted(4, Blocked(math_inf if grace < 1 else 0.01))
    async with open_initiator() as host:
        results = await in_own_thread(
            lambda: ended_in_block(socket, host, how, on_exit=policy, grace=grace)
        )
    counts = [each.bytes_transferred for each in results]
    if grace < 1:
        assert counts == [4, 0, 0]
        assert "grace of 0.01 s was over" in how_it_ended(results[0])[2]
    else:
        assert counts == ([10] * 3 if policy is ExitPolicy.DRAIN else [10, 0, 0])


math_inf = float("inf")


async def test_adopt_hands_over_to_the_block_around_or_to_the_host() -> None:
    socket, _port = stuck()
    async with open_initiator() as host:

        def work() -> tuple[AsyncResult, AsyncResult]:
            with from_thread.initiator(host, ExitPolicy.ADOPT) as outer:
                with from_thread.initiator(on_exit=ExitPolicy.ADOPT) as inner:
                    assert inner._owner.adopter is outer._owner
                    first = from_thread.begin_send(socket, ten("inner"))
                second = from_thread.begin_send(socket, ten("outer"))
                assert not first.is_completed
            return first, second

        results = await in_own_thread(work)
        await trio.testing.wait_all_tasks_blocked()
        assert host.pending_operations == 2
        assert not any(result.is_completed for result in results)
    assert [how_it_ended(result)[:2] for result in results] == [(ABORTED, 4), (ABORTED, 0)]


async def test_what_nobody_is_there_to_adopt_is_stopped() -> None:
    """Blocks that are no ``with`` blocks may be left in any order, the one around first."""
    socket, port = stuck()
    async with open_initiator() as host:

        def work() -> AsyncResult:
            outer = from_thread.initiator(host)
            inner = from_thread.initiator(on_exit=ExitPolicy.ADOPT)
            outer.__enter__()
            inner.__enter__()
            result = from_thread.begin_send(socket, ten("x"))
            outer.__exit__(None, None, None)
            assert not result.is_completed
            inner.__exit__(None, None, None)
            assert result.is_completed
            return result

        worker = Worker(work)
        with trio.fail_after(10):
            await trio.to_thread.run_sync(worker.thread.join, abandon_on_cancel=True)
        code, count, why = how_it_ended(worker.take())
        assert (code, count) == (ABORTED, 4)
        assert why.endswith("its thread's initiator exited")
        assert (host.pending_operations, socket.queued_operations) == (0, 0)
    assert port.accepted == ten("x")[:4]


async def test_it_tells_which_thread_it_is_of() -> None:
    """For whoever has many, also in another thread, and when all is over."""
    async with open_initiator() as host:

        def work() -> list[Any]:
            with from_thread.initiator(host) as outer, from_thread.initiator() as inner:
                assert outer.ident == inner.ident == threading.get_ident()
            return [threading.get_ident(), outer, inner]

        for run in (trio.to_thread.run_sync, in_own_thread):
            ident, *faces = await run(work)
            assert [face.ident for face in faces] == [ident] * 2
            assert ident != threading.get_ident()


async def test_blocks_nest_and_the_innermost_owns() -> None:
    async with open_initiator() as host:

        def work() -> None:
            with from_thread.initiator(host, name="outer") as outer:
                first = from_thread.begin_send(sockets[0], ten("outer"))
                with from_thread.initiator(name="inner") as inner:
                    second = from_thread.begin_send(sockets[1], ten("inner"), host=host)
                    assert second._operation.owner is inner._owner
                    assert repr(inner).startswith("<ThreadInitiator 'inner': ABORT, open")
                assert second.is_completed
                assert not first.is_completed
                assert first._operation.owner is outer._owner
            assert first.is_completed
            assert repr(inner) == "<ThreadInitiator 'inner': ABORT, exited, 0 pending>"

        sockets = [stuck()[0], stuck()[0]]
        await in_own_thread(work)


async def test_the_exit_waits_until_the_handlers_were_called() -> None:
    """Also for those of what a handler starts in the meantime, if the policy waits at all."""
    socket, _port = scripted(*[4, Blocked(0.005)] * 6)
    counts = []
    async with open_initiator() as host:

        def callback(ar: AsyncResult) -> None:
            counts.append(ar.bytes_transferred)
            if len(counts) < 5:
                socket.begin_send(ten("more"), callback=callback)

        def work() -> int:
            with from_thread.initiator(host, ExitPolicy.JOIN):
                from_thread.begin_send(socket, ten("first"), callback=callback)
            return len(counts)

        assert await in_own_thread(work) == 5
    assert counts == [10] * 5


async def test_what_is_not_for_this_policy_or_no_policy_is_refused() -> None:
    for expected, arguments in (
        (TypeError, {"on_exit": "abort"}),
        (ValueError, {"on_exit": ExitPolicy.DRAIN}),
        (ValueError, {"grace": 1}),
    ):
        with pytest.raises(expected):
            from_thread.initiator(**arguments)
    with pytest.raises(TypeError, match="host must be"):
        await in_own_thread(lambda: from_thread.initiator("host").__enter__())


async def test_a_block_is_for_its_thread_alone() -> None:
    """A copy of its context in another thread is another thread's."""
    socket, _ = stuck()
    async with open_initiator() as host:

        def work() -> None:
            with from_thread.initiator(host):
                context = contextvars.copy_context()
                other = Worker(context.run, from_thread.begin_send, socket, b"x")
                other.thread.join()
                with pytest.raises(InvalidOperationError, match="no initiator serves"):
                    other.take()

        await in_own_thread(work)


async def test_a_host_forgets_its_threads() -> None:
    async with open_initiator() as host:
        for _ in range(3):
            socket, _ = stuck()
            await in_own_thread(
                lambda socket=socket: from_thread.begin_send(socket, b"x", host=host)
            )
            await trio.testing.wait_all_tasks_blocked()
        assert not host._owner.threads
        assert not Inbox.current()._posts


# Other loops, and the end of the process ------------------------------------------------------------------------------


def test_guest_mode() -> None:
    """Also that the host loop's own thread is not taken for another one, between Trio's turns."""
    jobs: queue.SimpleQueue[Callable[[], Any]] = queue.SimpleQueue()
    done: list[Any] = []
    refused: list[str] = []

    async def main() -> tuple[int, list[tuple[SocketError, int]]]:
        with connected("unix") as (socket, peer):
            async with open_initiator() as host:

                def between_turns() -> None:
                    for call in (
                        lambda: from_thread.begin_send(socket, b"x", host=host),
                        lambda: from_thread.initiator(host).__enter__(),
                    ):
                        with pytest.raises(InvalidOperationError) as raised:
                            call()
                        refused.append(str(raised.value))

                jobs.put(between_turns)

                def work() -> int:
                    with from_thread.initiator(host, ExitPolicy.JOIN):
                        return from_thread.end_send(from_thread.begin_send(socket, BIG))

                worker = Worker(work)
                assert await read_exactly(peer, len(BIG)) == BIG
                count = await worker.join()
                left = await in_own_thread(lambda: from_thread.begin_send(socket, BIG, host=host))
                blocked = Worker(end_quietly, socket, host)
                with trio.move_on_after(0.01):
                    await trio.sleep_forever()
            return count, [how_it_ended(left)[:2], await blocked.join()]

    trio.lowlevel.start_guest_run(
        main, run_sync_soon_threadsafe=jobs.put, done_callback=done.append
    )
    deadline = time.monotonic() + 60
    while not done:
        jobs.get(timeout=max(0.0, deadline - time.monotonic()))()
    count, ((left_code, left_count), (blocked_code, blocked_count)) = done[0].unwrap()
    assert count == len(BIG)
    assert left_code is ABORTED
    assert 0 < left_count < len(BIG)
    # The one behind the cut may have come before or after the cut.
    assert blocked_code in (ABORTED, SocketError.CONNECTION_ABORTED)
    assert blocked_count == 0
    assert len(refused) == 2
    assert all("do not run Trio" in text for text in refused)


def end_quietly(socket: Socket, host: Initiator) -> tuple[SocketError, int]:
    try:
        from_thread.end_send(from_thread.begin_send(socket, b"behind", host=host))
    except SocketException as error:
        return error.socket_error_code, error.bytes_transferred
    raise AssertionError("it was sent behind a cut message")


@pytest.mark.parametrize("steps", range(0, 60, 6))
def test_ctrl_c_in_the_trio_thread(steps: int) -> None:
    """Threads go on at once, and what they are told is what the peer has read."""
    ends: list[AsyncResult] = []
    left, right = stdlib_pair("unix", tiny=True)
    socket = Socket.from_stdlib(left)
    received = bytearray()

    def read() -> None:
        with right:
            while piece := right.recv(65536):
                received.extend(piece)

    def work(host: Initiator) -> None:
        with pytest.raises((SocketException, InvalidOperationError)):
            while True:
                ends.append(from_thread.begin_send(socket, BIG[:5000], host=host))
                if len(ends) % 3 == 0:
                    from_thread.end_send(ends[-1])

    workers = [Worker(read)]

    async def main() -> None:
        async with open_initiator() as host:
            workers.extend(Worker(work, host) for _ in range(2))
            for _ in range(steps):
                await trio.lowlevel.checkpoint()
            signal.raise_signal(signal.SIGINT)
            await trio.sleep_forever()

    with pytest.raises(KeyboardInterrupt):
        trio.run(main)
    for worker in workers[1:]:
        worker.thread.join()
        worker.take()
    socket.close(reset=False)
    workers[0].thread.join()
    assert all(each.is_completed for each in ends)
    assert sum(each.bytes_transferred for each in ends) == len(received)


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs a signal for one thread")
@pytest.mark.parametrize("waits", ["end_send", "exit"])
def test_ctrl_c_in_a_thread_that_waits(waits: str) -> None:
    """Trio runs elsewhere. At the exit of a block what is pending is stopped first, as in Trio."""
    ready = threading.Event()
    made: list[Any] = []

    async def main() -> None:
        socket, _ = stuck()
        leave, queued = trio.Event(), trio.Event()
        token = trio.lowlevel.current_trio_token()
        async with open_initiator() as host:
            made.extend((socket, host, token, leave, queued))
            ready.set()
            await queued.wait()
            await trio.sleep(0.02)  # it need not wait yet, but should
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            await leave.wait()

    worker = Worker(trio.run, main)
    assert ready.wait(10)
    socket, host, token, leave, queued = made
    results = []

    def begin() -> AsyncResult:
        results.append(from_thread.begin_send(socket, ten("x"), host=host))
        token.run_sync_soon(queued.set)
        return results[0]

    if waits == "exit":
        with pytest.raises(KeyboardInterrupt):
            with from_thread.initiator(host, ExitPolicy.JOIN):
                begin()
        assert how_it_ended(results[0])[:2] == (ABORTED, 4)
    else:
        with from_thread.initiator(host):
            with pytest.raises(KeyboardInterrupt):
                from_thread.end_send(begin())
            assert not results[0].is_completed
        with pytest.raises(SocketException):  # it can still be taken
            from_thread.end_send(results[0])
    token.run_sync_soon(leave.set)
    worker.thread.join()
    worker.take()


AT_THE_END = """
import threading, time
import trio, trio_send
from trio_send import from_thread

def work(socket, host, started):
    result = from_thread.begin_send(socket, bytes(10_000_000), host=host)
    started.set()
    {then}

async def main():
    socket, peer = trio_send.socketpair()
    started = threading.Event()
    async with trio_send.open_initiator() as host:
        thread = threading.Thread(target=work, args=(socket, host, started), daemon=True)
        thread.start()
        await trio.to_thread.run_sync(started.wait)
    socket.close()
    peer.close()
    return thread

{run}
"""

THEN = {
    "blocked in end_send": (
        "try: from_thread.end_send(result)\n    except trio_send.SocketException: pass"
    ),
    "busy": "while True: time.sleep(0.001)",
    "starting": (
        "while True:\n"
        "        try: from_thread.begin_send(socket, b'x', host=host)\n"
        "        except Exception: pass"
    ),
}
RUN = {
    "after the run": "trio.run(main)",
    "during the run": (
        "threading.Thread(target=trio.run, args=(main,), daemon=True).start()\ntime.sleep(0.05)\n"
    ),
}


@pytest.mark.parametrize("run", RUN.values(), ids=RUN.keys())
@pytest.mark.parametrize("then", THEN.values(), ids=THEN.keys())
def test_a_daemon_thread_at_the_end_of_the_process(then: str, run: str) -> None:
    program = AT_THE_END.format(then=then, run=run)
    done = subprocess.run(
        [sys.executable, "-c", program],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
