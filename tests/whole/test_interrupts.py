"""Hold every count to being exact under Ctrl-C, whenever it strikes, and Ctrl-C to being heard.

Some tests press it at one chosen instant: inside the system call, or while something particular is waited for. The
others run trials of `tests.stress` in a process of their own, where it strikes at random, and at each line in turn.

The tests that call Trio themselves are plain functions, for Ctrl-C is meant for the main task of a run.
"""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.helpers import (
    Told,
    connected,
    fill,
    python_handles_ctrl_c as python_handles_ctrl_c,
    read_exactly,
    scripted,
    ten,
)
from tests.stress import SENDERS, Entry, begin, compare, send_plain
from trio_send import (
    AsyncResult,
    ExitPolicy,
    Socket,
    SocketAsyncEventArgs,
    SocketError,
    SocketException,
    open_initiator,
)
from trio_send._kernel.port import Port
from trio_send._operations.queue import OperationQueue
from trio_send._owners import engine as _engine
from trio_send._owners.dispatcher import Dispatcher
from trio_send._owners.timers import Timers
from trio_send._socket.event_args_operation import EventArgsOperation
from trio_send.testing import Blocked, ScriptedPort

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup

ABORTED = SocketError.OPERATION_ABORTED
CUT_OFF = SocketError.CONNECTION_ABORTED
SUCCESS = SocketError.SUCCESS
ABORT = ExitPolicy.ABORT
JOIN = ExitPolicy.JOIN

pytestmark = pytest.mark.usefixtures("python_handles_ctrl_c")


@trio.lowlevel.enable_ki_protection
def press_ctrl_c() -> None:
    """Have Ctrl-C delivered to the main task, at its next checkpoint."""
    signal.raise_signal(signal.SIGINT)


def interrupted_run(main: Callable[..., Awaitable[object]], *args: Any) -> None:
    """Run something that ends by KeyboardInterrupt, bare, by a clock that jumps."""
    with pytest.raises(KeyboardInterrupt):
        trio.run(partial(main, *args), clock=MockClock(autojump_threshold=0))


# Inside the system call -----------------------------------------------------------------------


class CtrlCPort(Port):
    """A scripted port at which Ctrl-C is pressed inside one attempt: before, or after, the bytes are accepted.

    Args:
      script: as for `ScriptedPort`.
      attempt: at which attempt, counted from 1.
      before: whether before the bytes are accepted.
    """

    def __init__(self, script: Sequence[Any], attempt: int, before: bool) -> None:
        self.inner = ScriptedPort(script)
        self.is_stream = True
        self.pressed = False
        self.protected: list[bool] = []
        self._attempt = attempt
        self._before = before

    def _around(self, call: Callable[[], int]) -> int:
        self.protected.append(trio.lowlevel.currently_ki_protected())
        strikes = len(self.protected) == self._attempt
        if strikes and self._before:
            self.pressed = True
            signal.raise_signal(signal.SIGINT)
        try:
            return call()
        finally:
            if strikes and not self._before:
                self.pressed = True
                signal.raise_signal(signal.SIGINT)

    def send(self, buffer: Any, flags: int, /) -> int:
        return self._around(lambda: self.inner.send(buffer, flags))

    def send_gather(self, views: Sequence[Any], flags: int, /) -> int:
        return self._around(lambda: self.inner.send_gather(views, flags))

    def send_to(self, buffer: Any, flags: int, address: Any, /) -> int:
        return self._around(lambda: self.inner.send_to(buffer, flags, address))

    def fileno(self) -> int:
        return -1

    async def wait_writable(self) -> None:
        await self.inner.wait_writable()

    async def wait_readable(self) -> None:
        await self.inner.wait_readable()

    def close(self, *, reset: bool) -> None:
        self.inner.close(reset=reset)


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("attempt", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("policy", [ABORT, JOIN])
@pytest.mark.parametrize("name", sorted(SENDERS))
def test_ctrl_c_inside_the_system_call_loses_no_byte(
    name: str, policy: ExitPolicy, attempt: int, before: bool
) -> None:
    """Whatever the kernel had taken by then is in the count of the operation, whichever face it came through."""
    port = CtrlCPort([10, 3, Blocked(0), 4, Blocked(0), 6, 2], attempt, before)
    socket = Socket.from_port(port)
    entries = [Entry(bytes([65 + number]) * 10) for number in range(5)]
    ended: list[str] = []

    async def main() -> None:
        async with open_initiator(policy):
            await SENDERS[name](socket, entries)
            ended.append("all sent")

    with contextlib.suppress(KeyboardInterrupt, BaseExceptionGroup):
        trio.run(main, clock=MockClock(autojump_threshold=0))
        assert not port.pressed
    assert all(port.protected), "an attempt was made where Ctrl-C strikes at once"
    assert compare(entries, port.inner.accepted) is None
    socket.close()
    if not port.pressed:
        # Resuming in an initiator that aborts may end sooner than the attempt that was chosen.
        assert attempt > len(port.protected)


@pytest.mark.parametrize("first", ["send_async", "begin_send", "args", "plain"])
@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
def test_one_call_that_sends_for_several_is_accounted_for_as_a_whole(
    first: str, before: bool
) -> None:
    """Ctrl-C strikes in the drain that sends the messages of all faces at once; each has its share."""
    port = CtrlCPort([Blocked(1), 27, Blocked()], 2, before)
    socket = Socket.from_port(port)
    entries = [Entry(ten(face)) for face in ("send_async", "begin_send", "args", "plain")]
    entries.sort(key=lambda entry: entry.message != ten(first))

    async def send_args(entry: Entry) -> None:
        entry.operation = args = SocketAsyncEventArgs(entry.message)
        await socket.send(args)

    async def main() -> None:
        async with open_initiator(), trio.open_nursery() as nursery:
            for entry in entries:
                if entry.message == ten("send_async"):
                    entry.operation = args = SocketAsyncEventArgs(entry.message)
                    assert socket.send_async(args)
                elif entry.message == ten("begin_send"):
                    begin(socket, entry)
                elif entry.message == ten("args"):
                    nursery.start_soon(send_args, entry)
                else:
                    nursery.start_soon(send_plain, socket, entry)
                await trio.testing.wait_all_tasks_blocked()
            await trio.sleep_forever()

    with pytest.raises((KeyboardInterrupt, BaseExceptionGroup)):
        trio.run(main, clock=MockClock(autojump_threshold=0))
    assert port.pressed
    assert compare(entries, port.inner.accepted) is None
    assert len(port.inner.accepted) == 27
    assert [entry.count for entry in entries] == [10, 10, 7, 0]


# While the exit is waited for -----------------------------------------------------------------


def test_ctrl_c_while_join_waits_leaves_bare() -> None:
    """What was pending is stopped, everybody is told, and KeyboardInterrupt leaves as it came."""
    told = Told()
    socket, port = scripted(3, Blocked())

    async def main() -> None:
        async with trio.open_nursery() as nursery:

            async def press() -> None:
                await wait_all_tasks_blocked()
                assert told.events == []
                press_ctrl_c()

            nursery.start_soon(press)
            with pytest.raises(KeyboardInterrupt):
                async with open_initiator(JOIN) as initiator:
                    assert socket.send_async(told.args("a"))
                    assert socket.send_async(told.args("b"))
            assert told.events == [("a", ABORTED, 3), ("b", ABORTED, 0)]
            assert initiator.pending_operations == 0
            raise KeyboardInterrupt

    with pytest.raises(BaseExceptionGroup):
        trio.run(main)
    assert port.accepted == ten("a")[:3]


class Lingering:
    """An asynchronous handler that is not to be cancelled, and during which Ctrl-C is pressed."""

    def __init__(self) -> None:
        self.went_on = False

    async def __call__(self, socket: Socket, args: SocketAsyncEventArgs) -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(10)
            press_ctrl_c()
            await trio.sleep(10)
        self.went_on = True


@pytest.mark.parametrize("policy", [ABORT, JOIN])
def test_ctrl_c_while_handlers_are_waited_for_leaves_bare(policy: ExitPolicy) -> None:
    """The wait goes on, for the handlers are there; then KeyboardInterrupt leaves."""
    told = Told()
    lingering = Lingering()
    socket, _ = scripted(3, *[Blocked()] if policy is ABORT else [Blocked(1)])

    async def main() -> None:
        async with open_initiator(policy):
            args = told.args("a")
            args.completed += lingering
            assert socket.send_async(args)

    interrupted_run(main)
    assert lingering.went_on
    assert told.events == [("a", ABORTED, 3) if policy is ABORT else ("a", SUCCESS, 10)]


def flattened(error: BaseException) -> list[BaseException]:
    """The exceptions of a group and of the groups inside it, and what each one replaced."""
    parts = error.exceptions if isinstance(error, BaseExceptionGroup) else [error]
    if len(parts) == 1 and parts[0] is error:
        return [error]
    return [leaf for part in parts for leaf in flattened(part)]


@pytest.mark.parametrize("policy", [ABORT, JOIN])
@pytest.mark.parametrize("way", ["exception", "outer scope"])
def test_ctrl_c_is_heard_though_the_initiator_is_left_for_another_reason(
    way: str, policy: ExitPolicy
) -> None:
    """Neither an error of the body nor a cancel from outside may swallow it."""
    lingering = Lingering()
    socket, _ = scripted(3, Blocked())

    async def main() -> None:
        with trio.CancelScope() as scope:
            async with open_initiator(policy):
                args = SocketAsyncEventArgs(ten("a"))
                args.completed += lingering
                assert socket.send_async(args)
                if way == "exception":
                    raise ValueError("of the body")
                scope.cancel()
                await trio.sleep_forever()

    with pytest.raises(BaseException) as caught:
        trio.run(main, clock=MockClock(autojump_threshold=0))
    assert lingering.went_on
    assert any(isinstance(error, KeyboardInterrupt) for error in flattened(caught.value))


def test_ctrl_c_beside_a_cancelled_group_lets_no_cancellation_out() -> None:
    """The body ends with a group in which there are cancellations of the initiator's own scope, and then Ctrl-C comes.

    Nobody outside could catch those cancellations.
    """
    lingering = Lingering()
    socket, _ = scripted(3, Blocked())

    async def fail() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("of a task")

    async def main() -> None:
        async with open_initiator() as initiator:
            args = SocketAsyncEventArgs(ten("a"))
            args.completed += lingering
            assert socket.send_async(args)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(fail)
                nursery.start_soon(trio.sleep_forever)
                await wait_all_tasks_blocked()
                initiator.cancel_scope.cancel()

    with pytest.raises(BaseExceptionGroup) as caught:
        trio.run(main, clock=MockClock(autojump_threshold=0))
    assert lingering.went_on
    kinds = sorted(type(error).__name__ for error in flattened(caught.value))
    assert kinds == ["KeyboardInterrupt", "ValueError"]


class AtStep(trio.abc.Instrument):
    """Presses Ctrl-C before a step of some task; Trio keeps it for the main task.

    Args:
      number: of the step, counted from 1.
    """

    def __init__(self, number: int) -> None:
        self.left = number

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.left -= 1
        if self.left == 0:
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("policy", [ABORT, JOIN])
@pytest.mark.parametrize("pending", [True, False])
def test_ctrl_c_at_every_step_leaves_bare(policy: ExitPolicy, pending: bool) -> None:
    """Wherever it meets the main task: in the body, in the waiting at the exit, or when all is done but the closing."""
    outcomes: list[type[BaseException] | None] = []
    step = 0
    while not outcomes or outcomes[-1] is not None:
        step += 1
        instrument = AtStep(step)
        told = Told()
        socket, port = scripted(3, Blocked(), 7)

        async def main(
            socket: Socket = socket, told: Told = told, instrument: AtStep = instrument
        ) -> None:
            trio.lowlevel.add_instrument(instrument)
            async with open_initiator(policy):
                if pending:
                    assert socket.send_async(told.args("a"))
                    assert socket.send_async(told.args("b"))
                await trio.lowlevel.checkpoint()
            trio.lowlevel.remove_instrument(instrument)

        async def unblock(port: ScriptedPort = port) -> None:
            for _ in range(5):
                await trio.lowlevel.checkpoint()
            port.unblock()

        async def with_help(
            main: Callable[[], Awaitable[None]] = main,
            unblock: Callable[[], Awaitable[None]] = unblock,
        ) -> None:
            trio.lowlevel.spawn_system_task(unblock)
            await main()

        try:
            trio.run(with_help)
        except BaseException as error:
            outcomes.append(type(error))
        else:
            outcomes.append(None)
            assert instrument.left > 0, f"Ctrl-C at step {step} was lost"
        ended = {name: (error, count) for name, error, count in told.events}
        assert len(ended) == len(told.events) == (2 if pending else 0) or step < 5
        assert sum(count for _, count in ended.values()) == len(port.accepted)
    assert set(outcomes[:-1]) == {KeyboardInterrupt}
    assert step > 5


# While something else is waited for -----------------------------------------------------------


@pytest.mark.parametrize("plain", [True, False], ids=["bytes", "args"])
@pytest.mark.parametrize("position", ["head", "follower"])
def test_ctrl_c_in_a_task_that_awaits_a_send(position: str, plain: bool) -> None:
    """The operation is stopped, with its exact count, and KeyboardInterrupt leaves the call bare."""
    socket, port = scripted(3, Blocked())
    entry = Entry(ten("main"))
    other = Entry(ten("other"))
    caught: list[type[BaseException]] = []

    async def send_other() -> None:
        with pytest.raises(SocketException) if position == "head" else contextlib.nullcontext():
            await send_plain(socket, other)

    async def press() -> None:
        await wait_all_tasks_blocked()
        press_ctrl_c()
        await wait_all_tasks_blocked()
        port.unblock()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            if position == "follower":
                nursery.start_soon(send_other)
                await wait_all_tasks_blocked()
            nursery.start_soon(press)
            try:
                if plain:
                    await send_plain(socket, entry)
                else:
                    entry.operation = args = SocketAsyncEventArgs(entry.message)
                    await socket.send(args)
            except BaseException as error:
                caught.append(type(error))
            await trio.testing.wait_all_tasks_blocked()

    trio.run(main)
    assert caught == [KeyboardInterrupt]
    entries = [entry] if position == "head" else [other, entry]
    assert compare(entries, port.accepted) is None
    assert entry.count == (3 if position == "head" else 0)
    if not plain:
        assert isinstance(entry.operation, SocketAsyncEventArgs)
        assert entry.operation.socket_error is ABORTED


def test_ctrl_c_in_a_parked_task_whose_time_has_just_run_out() -> None:
    """In the same pass of the scheduler, between the limit and Trio's look at the clock."""
    socket, port = scripted(3, Blocked())
    clock = MockClock()
    args = SocketAsyncEventArgs(ten("b"))
    args.timeout = 1

    async def press() -> None:
        await wait_all_tasks_blocked()
        trio.lowlevel.current_trio_token().run_sync_soon(clock.jump, 2)
        press_ctrl_c()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(socket.send, ten("a"))
            await wait_all_tasks_blocked()
            nursery.start_soon(trio.lowlevel.enable_ki_protection(press))
            try:
                await socket.send(args)
            finally:
                nursery.cancel_scope.cancel()

    with pytest.raises((KeyboardInterrupt, BaseExceptionGroup)) as caught:
        trio.run(main, clock=clock)
    assert KeyboardInterrupt in map(type, flattened(caught.value))
    assert args.socket_error in (SocketError.TIMED_OUT, ABORTED)
    assert (args.bytes_transferred, port.accepted) == (0, ten("a")[:3])


@pytest.mark.parametrize("what", ["wait", "end_send", "wait_one"])
def test_ctrl_c_in_a_task_that_waits_for_an_operation(what: str) -> None:
    """The wait ends, the operation goes on, and its end wakes nobody who is gone."""
    told = Told()
    socket, port = scripted(3, Blocked())
    args = told.args("a")
    caught: list[type[BaseException]] = []

    async def press() -> None:
        await wait_all_tasks_blocked()
        press_ctrl_c()

    async def main() -> None:
        async with open_initiator(), trio.open_nursery() as nursery:
            result = socket.begin_send(ten("b"))
            assert socket.send_async(args)
            nursery.start_soon(press)
            try:
                if what == "wait":
                    await args.wait()
                elif what == "end_send":
                    await socket.end_send(result)
                else:
                    await result.async_wait_handle.wait_one()
            except KeyboardInterrupt as error:
                caught.append(type(error))
            assert args.pending
            assert not result.is_completed
            port.unblock()
            assert await args.wait() == 10
            assert await socket.end_send(result) == 10

    trio.run(main)
    assert caught == [KeyboardInterrupt]
    assert told.events == [("a", SUCCESS, 10)]
    assert port.accepted == ten("b") + ten("a")


# Whose code is protected ----------------------------------------------------------------------


def test_the_applications_own_code_is_not_protected() -> None:
    """Ctrl-C ends a handler that loops for ever, and a callback, however the dispatcher came to call it."""
    seen: list[tuple[str, bool]] = []

    def look(name: str) -> Callable[..., None]:
        return lambda *_: seen.append((name, trio.lowlevel.currently_ki_protected()))

    def look_later(name: str) -> Callable[..., Awaitable[None]]:
        async def handler(*_: object) -> None:
            look(name)()
            await trio.lowlevel.checkpoint()
            look(name)()

        return handler

    class Overridden(SocketAsyncEventArgs):
        __slots__ = ()

        def on_completed(self) -> None:
            look("override")()

    socket, port = scripted(Blocked())

    async def main() -> None:
        async with open_initiator(JOIN):
            args = SocketAsyncEventArgs(ten("a"))
            args.completed += look("handler")
            args.completed += look_later("asynchronous handler")
            args.completed += look("handler behind it")
            assert socket.send_async(args)
            assert socket.send_async(Overridden(ten("b")))
            socket.begin_send(ten("c"), callback=look("callback"))
            socket.begin_send(ten("d"), callback=look_later("asynchronous callback"))
            port.unblock()

    trio.run(main)
    assert len(seen) == 8
    assert [name for name, protected in seen if protected] == []


def test_the_librarys_own_tasks_are_protected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C is for the application: engine, waiting tasks, timers and dispatcher never see it."""
    protected: dict[str, list[bool]] = {}

    def watch(holder: type, name: str) -> None:
        inner = getattr(holder, name)

        def watched(*args: Any, **kwargs: Any) -> Any:
            protected.setdefault(name, []).append(trio.lowlevel.currently_ki_protected())
            return inner(*args, **kwargs)

        monkeypatch.setattr(holder, name, watched)

    watch(EventArgsOperation, "tell")
    watch(OperationQueue, "wait_ready")
    watch(Dispatcher, "_settle")
    watch(Timers, "_fire_due")
    if _engine.HAVE_EPOLL:
        watch(_engine.EpollSet, "fetch")

    async def handler(*_: object) -> None:
        await trio.lowlevel.checkpoint()

    async def main() -> None:
        with connected("unix") as (real, peer):
            filled = fill(real)
            socket, port = scripted(Blocked())
            async with open_initiator(JOIN):
                for each in (real, real, socket):
                    args = SocketAsyncEventArgs(ten("a"))
                    args.timeout = 1000
                    if each is socket:
                        args.completed += handler
                    assert each.send_async(args)
                await wait_all_tasks_blocked()
                port.unblock()
                await read_exactly(peer, filled)

    trio.run(main)
    assert len(protected) == 4 + _engine.HAVE_EPOLL
    # By the dispatcher itself, and by the task of the handler.
    assert len(protected["_settle"]) == 2
    assert all(all(each) for each in protected.values()), protected


def test_an_endless_handler_can_be_interrupted() -> None:
    """It is unprotected, so Ctrl-C strikes right there; all others are told."""
    told = Told()
    socket, _ = scripted(3, Blocked())

    def endless(socket: Socket, args: SocketAsyncEventArgs) -> None:
        signal.raise_signal(signal.SIGINT)
        pytest.fail("Ctrl-C was kept for later")

    async def main() -> None:
        async with open_initiator():
            first = told.args("a")
            first.completed += endless
            assert socket.send_async(first)
            assert socket.send_async(told.args("b"))

    with pytest.raises(BaseExceptionGroup) as caught:
        trio.run(main)
    assert [type(error) for error in flattened(caught.value)] == [KeyboardInterrupt]
    assert told.events == [("a", ABORTED, 3), ("b", ABORTED, 0)]


@pytest.mark.parametrize("how", ["send_async", "begin_send", "cancel", "close", "forget_torn"])
def test_calls_that_change_a_queue_are_protected(how: str) -> None:
    """Their innermost step, where the port or the owner is told, runs to its end."""
    protected: list[bool] = []

    class Watching(ScriptedPort):  # type: ignore[misc]
        def send(self, buffer: Any, flags: int, /) -> int:
            protected.append(trio.lowlevel.currently_ki_protected())
            return super().send(buffer, flags)

        def close(self, *, reset: bool) -> None:
            protected.append(trio.lowlevel.currently_ki_protected())
            super().close(reset=reset)

    async def main() -> None:
        port = Watching([3, Blocked()])
        socket = Socket.from_port(port)
        args = SocketAsyncEventArgs(ten("a"))
        async with open_initiator():
            result: AsyncResult | None = None
            if how == "begin_send":
                result = socket.begin_send(ten("a"))
            else:
                assert socket.send_async(args)
            if how == "cancel":
                assert args.cancel()
            elif how == "forget_torn":
                assert args.cancel()
                socket.forget_torn()
                assert socket.torn is None
            elif how == "close":
                socket.close()
                assert len(protected) == 2
            assert result is None or not result.is_completed

    trio.run(main)
    assert protected
    assert all(protected)


# At random, and at every line -----------------------------------------------------------------


def stress(*arguments: str) -> str:
    """Run trials in a process of their own; return what they printed."""
    run = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.stress", *arguments],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stderr == ""
    assert "mismatches: 0" in run.stdout
    return run.stdout


def how_often(what: str, printed: str) -> int:
    """The count that the trials print for something."""
    found = re.search(rf"^  {what}: (\d+)$", printed, re.MULTILINE)
    return 0 if found is None else int(found[1])


needs_timers = pytest.mark.skipif(
    not hasattr(signal, "setitimer"), reason="this system has no interval timers"
)


@needs_timers
def test_ctrl_c_at_random() -> None:
    """The trials print how many there were; some must have come in time, or they would show nothing."""
    printed = stress("sigint", "--trials", "120")
    assert how_often("interrupted", printed) > 0


@pytest.mark.parametrize("name", sorted(SENDERS))
def test_ctrl_c_at_every_line(name: str) -> None:
    """At steps of tasks, and wherever nothing protects the code, at lines; so many of them, and evenly spread."""
    printed = stress("instants", "--only", name, "--trials", "60")
    assert how_often("struck", printed) >= 40


def test_cancels_at_random() -> None:
    """In the same manner; that something was cut and resumed is part of what is claimed."""
    printed = stress("cancel", "--trials", "300")
    for what in ("cut", "resumed to the end", "operation cancelled", "scope cancelled", "closed"):
        assert how_often(what, printed) > 0, what


def test_a_mismatch_is_found_and_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The trials themselves are worth something only if a wrong count ends them with a failure."""
    from tests import stress as trials

    right = trials.Entry.count.fget
    assert right is not None
    wrong = property(lambda entry: right(entry) - (right(entry) == len(entry.message)))
    monkeypatch.setattr(trials.Entry, "count", wrong)
    assert trials.main(["cancel", "--trials", "5"]) == 1
    printed = capsys.readouterr().out
    assert "bytes were reported" in printed
    assert "mismatches: 0" not in printed
