"""Hold the library to leaving the others their turn, however its sends go, and to a stack that stays flat."""

from __future__ import annotations

import socket as stdlib_socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import asynccontextmanager, nullcontext
from typing import Any

import outcome
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.accelerator import go_in_python
from tests.helpers import in_flight
from tests.scripted import run_virtual
from trio_send import (
    AsyncResult,
    ExitPolicy,
    OperationInProgressError,
    Socket,
    SocketAsyncEventArgs,
    SocketError,
    add_instrument,
    open_initiator,
)
from trio_send._owners import exiting_owner
from trio_send._owners.dispatcher import EVENTS_PER_TRIP
from trio_send._owners.exiting_owner import START_BUDGET, STARTS_PER_LOOK
from trio_send.abc import Instrument, Port
from trio_send.testing import Blocked, ScriptedPort


class EasyPort(Port):
    """A port that takes everything, or, if ``reluctant``, takes everything at every second attempt.

    Args:
      reluctant: whether to refuse every other attempt.
      fd: the descriptor of something that is always writable; -1 for none.
    """

    is_stream = True

    def __init__(self, *, reluctant: bool = False, fd: int = -1) -> None:
        self.count = 0
        self.attempts = 0
        self.reluctant = reluctant
        self.fd = fd

    def send(self, buffer: Any, flags: int, /) -> int:
        self.attempts += 1
        if self.reluctant and self.attempts % 2:
            raise BlockingIOError
        self.count += len(buffer)
        return len(buffer)

    def send_gather(self, views: Sequence[Any], flags: int, /) -> int:
        return self.send(b"".join(views), flags)

    def send_to(self, buffer: Any, flags: int, address: Any, /) -> int:
        return self.send(buffer, flags)

    def fileno(self) -> int:
        return self.fd

    async def wait_writable(self) -> None:
        await trio.lowlevel.checkpoint()

    async def wait_readable(self) -> None:
        await trio.sleep_forever()

    def close(self, *, reset: bool) -> None:
        pass


@asynccontextmanager
async def counting_turns() -> Any:
    """Run a task that counts how often it gets its turn, until the list with the number is cleared."""
    turns = [0]

    async def count() -> None:
        while turns:
            turns[0] += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count)
        await trio.lowlevel.checkpoint()
        yield turns
        nursery.cancel_scope.cancel()


def broken_socket() -> tuple[Socket, SocketError]:
    return Socket.from_port(ScriptedPort(["ECONNRESET"])), SocketError.CONNECTION_RESET


def unconnected_socket() -> tuple[Socket, SocketError]:
    return Socket.from_port(ScriptedPort(), connected=False), SocketError.NOT_CONNECTED


def denied_socket() -> tuple[Socket, SocketError]:
    return Socket.from_port(ScriptedPort(["EACCES"] * 10_000)), SocketError.ACCESS_DENIED


def easy_socket() -> tuple[Socket, SocketError]:
    return Socket.from_port(EasyPort()), SocketError.SUCCESS


MAKERS = [easy_socket, broken_socket, unconnected_socket, denied_socket]


@pytest.mark.fact("F123")
@pytest.mark.parametrize("make", MAKERS)
async def test_a_loop_over_starts_pends_now_and_then(
    make: Callable[[], tuple[Socket, SocketError]],
) -> None:
    socket, error = make()
    rounds = 10
    async with counting_turns() as turns, open_initiator():
        args = SocketAsyncEventArgs(b"x")
        pended = []
        begun = turns[0]
        for number in range(rounds * (START_BUDGET + 1)):
            before = turns[0]
            if socket.send_async(args):
                pended.append(number)
                assert turns[0] == before
                assert await args.wait() == (error is SocketError.SUCCESS)
                # Everybody else had a turn, but for this round's, if Trio drew this task first.
                assert turns[0] - begun >= len(pended) - 1
            assert args.socket_error is error
            assert args.bytes_transferred == (error is SocketError.SUCCESS)
    # One after each budget's worth.
    assert pended == list(range(START_BUDGET, rounds * (START_BUDGET + 1), START_BUDGET + 1))
    assert args.activation == rounds


@pytest.mark.parametrize("make", MAKERS)
async def test_a_loop_that_stops_only_at_what_pends_comes_to_an_end(
    make: Callable[[], tuple[Socket, SocketError]],
) -> None:
    socket, _ = make()
    async with open_initiator():
        args = SocketAsyncEventArgs(b"x")
        starts = 1
        while not socket.send_async(args):
            starts += 1
            assert starts <= START_BUDGET + 1
        assert starts == START_BUDGET + 1


async def test_beginning_counts_as_starting() -> None:
    socket, _ = easy_socket()
    async with counting_turns() as turns, open_initiator():
        # Mixed with the other face, for the budget is the initiator's.
        args = SocketAsyncEventArgs(b"x")
        for _ in range(START_BUDGET // 2):
            result = socket.begin_send(b"x")
            assert result.completed_synchronously
            assert not socket.send_async(args)
        before = turns[0]
        result = socket.begin_send(b"x")
        # It looks like one that pended, in every respect.
        assert not result.is_completed
        assert not result.completed_synchronously
        with pytest.raises(trio.WouldBlock):
            socket.end_send_nowait(result)
        assert turns[0] == before
        assert await socket.end_send(result) == 1
        assert turns[0] > before
        assert socket.begin_send(b"x").is_completed


async def test_begins_that_fail_count_too_and_one_in_a_budget_is_told_later() -> None:
    socket, error = denied_socket()
    async with counting_turns() as turns, open_initiator():
        for face in ("try", "raises", "callback"):
            for _ in range(START_BUDGET):
                assert socket.try_begin_send(b"x") == (None, error)
            before = turns[0]
            told: list[AsyncResult] = []
            if face == "raises":
                result = socket.begin_send(b"x")
            else:
                callback = told.append if face == "callback" else None
                begun, code = socket.try_begin_send(b"x", callback=callback)
                assert code is SocketError.SUCCESS
                assert begun is not None
                result = begun
            assert not result.completed_synchronously
            assert not result.is_completed
            assert turns[0] == before
            assert await socket.try_end_send(result) == (0, error)
            assert turns[0] > before
            assert told == [result] * (face == "callback")


async def test_several_sockets_share_the_budget_of_their_initiator() -> None:
    sockets = [Socket.from_port(EasyPort()) for _ in range(3)]
    async with open_initiator():
        operations = [SocketAsyncEventArgs(b"x") for _ in sockets]
        starts = 0
        while not sockets[starts % 3].send_async(operations[starts % 3]):
            starts += 1
        assert starts == START_BUDGET
        # An initiator inside has one of its own.
        async with open_initiator():
            other = SocketAsyncEventArgs(b"x")
            for _ in range(START_BUDGET):
                assert not sockets[0].send_async(other)
            assert sockets[0].send_async(other)


async def test_what_pends_gives_the_budget_back() -> None:
    port = ScriptedPort()
    socket = Socket.from_port(port)
    async with open_initiator():
        args = SocketAsyncEventArgs(b"x")
        for _ in range(3):
            for _ in range(START_BUDGET - 1):
                assert not socket.send_async(args)
            port.add("EAGAIN")
            # This start will yield in any case, so the count begins anew.
            assert socket.send_async(args)
            await args.wait()
            assert args.activation <= 3


async def test_every_await_lets_the_others_run() -> None:
    async with counting_turns() as turns:
        for make in MAKERS:
            socket, error = make()
            for message in (b"x", SocketAsyncEventArgs(b"x")):
                before = turns[0]
                for _ in range(20):
                    try:
                        assert await socket.send(message) == 1
                    except OSError:
                        assert error is not SocketError.SUCCESS
                # Two tasks that take turns may swap places once.
                assert turns[0] - before >= 19


# An operation that is answered "pending" although it is done


@asynccontextmanager
async def told_later(socket: Socket, *, on_exit: ExitPolicy = ExitPolicy.ABORT) -> Any:
    """Open an initiator whose budget is spent, and start args that are done and not told."""
    told: list[tuple[int, SocketError, int]] = []
    async with open_initiator(on_exit) as initiator:
        args = SocketAsyncEventArgs(b"x")
        for _ in range(START_BUDGET):
            assert not socket.send_async(args)
        args.set_buffer(b"whole")
        args.completed += lambda _, args: told.append(
            (args.bytes_transferred, args.socket_error, args.activation)
        )
        assert socket.send_async(args)
        assert told == []
        yield args, told, initiator
    assert told == [(5, SocketError.SUCCESS, 1)]
    assert args.socket_error is SocketError.SUCCESS
    assert args.bytes_transferred == 5
    assert args.outcome == outcome.Value(5)
    assert args.remaining == []
    assert not args.pending


async def test_what_is_done_and_not_told_looks_pending_with_its_full_count() -> None:
    port = EasyPort()
    async with told_later(Socket.from_port(port)) as (args, told, _):
        assert port.count == START_BUDGET + 5
        assert args.pending
        assert args.socket_error is SocketError.IO_PENDING
        assert args.bytes_transferred == 5
        assert args.outcome is None
        assert args.remaining == []
        # Told once, and then only what it was.
        assert await args.wait() == 5
        assert len(told) == 1
        await wait_all_tasks_blocked()
        assert await args.wait() == 5


async def test_nothing_stops_what_is_done() -> None:
    socket = Socket.from_port(EasyPort())
    async with told_later(socket) as (args, _, _):
        assert not args.cancel()
        assert not args.cancel(activation=args.activation)
        assert args.pending
    async with told_later(socket) as (args, _, initiator):
        initiator.cancel_scope.cancel()
        assert args.socket_error is SocketError.IO_PENDING
    # Leaving is all it takes to be told; closing the socket changes nothing.
    async with told_later(socket):
        pass
    async with told_later(socket, on_exit=ExitPolicy.JOIN) as (args, _, _):
        socket.close()
        assert not args.cancel()


async def test_what_fails_and_is_told_later_is_told_once_too() -> None:
    socket, error = broken_socket()
    told: list[SocketError] = []
    async with open_initiator():
        args = SocketAsyncEventArgs(b"x")
        args.completed += lambda _, args: told.append(args.socket_error)
        for _ in range(START_BUDGET):
            assert not socket.send_async(args)
        assert socket.send_async(args)
        assert args.socket_error is SocketError.IO_PENDING
        assert args.outcome is None
        assert told == []
        assert not args.cancel()
    assert told == [error]
    assert args.socket_error is error


# Restarting from inside Completed


def stack_depth() -> int:
    frame: Any = sys._getframe()
    depth = 0
    while frame is not None:
        depth += 1
        frame = frame.f_back
    return depth


@pytest.mark.fact("F075", "F135")
@pytest.mark.parametrize("reluctant", [False, True])
@pytest.mark.parametrize(("face", "restarts"), [("args", 100_000), ("begin", 20_000)])
def test_a_long_chain_of_restarts_keeps_the_stack_flat(
    face: str, restarts: int, reluctant: bool
) -> None:
    # Ports with a descriptor are watched in the cheaper way, which matters in so long a chain.
    left, right = stdlib_socket.socketpair()
    port = EasyPort(reluctant=reluctant, fd=left.fileno())
    depths: set[int] = set()
    starts = 0

    async def main() -> None:
        nonlocal starts
        socket = Socket.from_port(port)
        done = trio.Event()

        def restart_args(socket: Socket, args: SocketAsyncEventArgs) -> None:
            nonlocal starts
            depths.add(stack_depth())
            assert args.socket_error is SocketError.SUCCESS
            while starts < restarts:
                starts += 1
                if socket.send_async(args):
                    return
            done.set()

        def begin_again(result: Any) -> None:
            nonlocal starts
            depths.add(stack_depth())
            assert socket.end_send_nowait(result) == 1
            if starts < restarts:
                starts += 1
                socket.begin_send(b"x", callback=begin_again)
            else:
                done.set()

        async with counting_turns() as turns, open_initiator():
            before = turns[0]
            if reluctant:
                turns.clear()  # every restart yields, so nobody need count
            if face == "begin":
                starts += 1
                socket.begin_send(b"x", callback=begin_again)
            else:
                args = SocketAsyncEventArgs(b"x")
                args.completed += restart_args
                restart_args(socket, args)
                depths.clear()
            await done.wait()
            if turns:
                # The others have had their turns meanwhile.
                assert turns[0] - before >= restarts // (START_BUDGET + EVENTS_PER_TRIP)

    with left, right:
        run_virtual(main)
    assert starts == restarts
    assert port.count == restarts
    assert len(depths) == 1


@pytest.fixture
def short_stack() -> Iterator[None]:
    """The stack that a program has unless it asks for more."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(1000)
    yield
    sys.setrecursionlimit(before)


@pytest.mark.usefixtures("short_stack")
@pytest.mark.fact("F135")
@pytest.mark.parametrize("frames", [1, 4, 6])
@pytest.mark.parametrize("face", ["args", "begin", "failures"])
@pytest.mark.parametrize("watched", [False, True])
async def test_a_program_that_calls_itself_for_each_start_has_stack_enough(
    face: str, frames: int, watched: bool
) -> None:
    socket, _ = denied_socket() if face == "failures" else easy_socket()
    args = SocketAsyncEventArgs(b"x")
    done = trio.Event()
    depths: list[int] = []

    def ended(*_: object) -> None:
        depths.append(stack_depth())
        if len(depths) == 2000:
            done.set()
        else:
            start(frames)

    def start(layers: int) -> None:
        if layers > 1:
            start(layers - 1)
        elif face != "begin":
            if not socket.send_async(args):
                ended()
        else:
            result = socket.begin_send(b"x")
            if result.completed_synchronously:
                assert socket.end_send_nowait(result) == 1
                ended()
            else:
                socket.begin_send(b"y", callback=ended)

    args.completed += ended
    async with open_initiator():
        with add_instrument(Instrument()) if watched else nullcontext():
            start(frames)
            await done.wait()
    assert max(depths) < 1000


async def test_the_stack_is_looked_at_as_often_when_nobody_watches_any_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    go_in_python(monkeypatch)
    looks: list[None] = []
    monkeypatch.setattr(exiting_owner, "is_deep", lambda: looks.append(None))
    socket, _ = easy_socket()
    args = SocketAsyncEventArgs(b"x")
    async with open_initiator():
        with add_instrument(Instrument()):
            pass
        for _ in range(START_BUDGET):
            assert socket.send_async(args) is False
        # One look behind each portion but the last, for then a start is made to pend.
        assert len(looks) == START_BUDGET // STARTS_PER_LOOK - 1
        assert socket.send_async(args) is True
        await args.wait()


async def test_a_crowd_that_ends_at_once_is_told_in_portions() -> None:
    # A thousand operations end in one step; between their handlers the other tasks get their turns.
    port = ScriptedPort([Blocked()])
    socket = Socket.from_port(port)
    crowd = 8 * EVENTS_PER_TRIP
    seen: list[int] = []
    async with counting_turns() as turns, open_initiator():
        for _ in range(crowd):
            args = SocketAsyncEventArgs(b"x")
            args.completed += lambda *_: seen.append(turns[0])
            assert socket.send_async(args)
        socket.close()
        await args.wait()
    assert len(seen) == crowd
    # Two tasks that take turns may swap places once in a while, so twice.
    assert max(seen.count(turn) for turn in set(seen)) <= 2 * EVENTS_PER_TRIP


# What nobody has to be called for is told by the wait for it


async def spent(socket: Socket) -> None:
    """Use up the budget of the current initiator."""
    args = SocketAsyncEventArgs(b"x")
    for _ in range(START_BUDGET):
        assert not socket.send_async(args)


async def test_waiting_for_what_is_done_is_one_checkpoint() -> None:
    socket, _ = easy_socket()
    steps = 0

    class Steps(trio.abc.Instrument):
        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            nonlocal steps
            steps += 1

    async with open_initiator():
        await wait_all_tasks_blocked()
        await spent(socket)
        args = SocketAsyncEventArgs(b"whole")
        assert socket.send_async(args)
        instrument = Steps()
        trio.lowlevel.add_instrument(instrument)
        try:
            assert await args.wait() == 5
        finally:
            trio.lowlevel.remove_instrument(instrument)
        assert steps == 1
        assert not args.pending
        assert args.socket_error is SocketError.SUCCESS


@pytest.mark.parametrize("look", ["pending", "socket_error", "outcome", "start", "completed"])
async def test_whoever_asks_instead_of_waiting_gets_another_answer_in_time(look: str) -> None:
    socket, _ = easy_socket()
    async with open_initiator():
        await spent(socket)
        args = SocketAsyncEventArgs(b"whole")
        assert socket.send_async(args)
        await wait_all_tasks_blocked()  # it is held back however long nobody asks
        told: list[int] = []
        if look == "start":
            with pytest.raises(OperationInProgressError):
                socket.send_async(args)
        elif look == "completed":
            args.completed += lambda _, args: told.append(args.bytes_transferred)
        else:
            assert getattr(args, look) in (True, SocketError.IO_PENDING, None)
        await wait_all_tasks_blocked()
        assert not args.pending
        assert args.outcome == outcome.Value(5)
        assert told == ([5] if look == "completed" else [])


@pytest.mark.parametrize("look", ["pending", "completed"])
async def test_whoever_asks_where_a_wait_is_about_to_tell_has_it_told_once(
    look: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a signal handler may; the wait leaves it to the dispatcher then, and returns the count all the same."""
    socket, _ = easy_socket()
    told: list[int] = []
    async with open_initiator() as initiator:
        await spent(socket)
        args = SocketAsyncEventArgs(b"whole")
        assert socket.send_async(args)
        tell_held_now = exiting_owner.ExitingOwner.tell_held_now

        def struck(owner: exiting_owner.ExitingOwner) -> None:
            if look == "pending":
                assert args.pending
            else:
                args.completed += lambda _, args: told.append(args.bytes_transferred)
            tell_held_now(owner)

        monkeypatch.setattr(exiting_owner.ExitingOwner, "tell_held_now", struck)
        assert await args.wait() == 5
        assert in_flight(args)
        assert initiator.statistics().unfinished_events == 1
        await wait_all_tasks_blocked()
        assert not in_flight(args)
        assert initiator.statistics().unfinished_events == 0
        assert told == ([5] if look == "completed" else [])


async def test_only_the_latest_is_held_back() -> None:
    socket, _ = easy_socket()
    async with open_initiator():
        held = []
        for _ in range(3):
            await spent(socket)
            args = SocketAsyncEventArgs(b"whole")
            assert socket.send_async(args)
            held.append(args)
        with pytest.raises(trio.WouldBlock):
            await spent(socket)
            socket.end_send_nowait(socket.begin_send(b"whole"))
        await wait_all_tasks_blocked()
        assert [args._operation.in_flight for args in held] == [
            False
        ] * 3  # as properties they would have asked


async def test_a_wait_that_is_cancelled_leaves_it_to_be_told() -> None:
    socket, _ = easy_socket()
    async with open_initiator():
        await spent(socket)
        args = SocketAsyncEventArgs(b"whole")
        assert socket.send_async(args)
        with trio.CancelScope() as scope:
            scope.cancel()
            await args.wait()
        assert scope.cancelled_caught
        assert args.pending
        assert await args.wait() == 5
        assert not args.pending


async def test_several_wait_for_what_is_held_back() -> None:
    socket, _ = easy_socket()
    counts: list[int] = []

    async def wait_for(args: SocketAsyncEventArgs) -> None:
        counts.append(await args.wait())

    async with open_initiator():
        await spent(socket)
        args = SocketAsyncEventArgs(b"whole")
        assert socket.send_async(args)
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(wait_for, args)
        assert not args.pending
        assert not socket.send_async(args)
    assert counts == [5, 5, 5]


@pytest.mark.parametrize("form", ["args", "result"])
async def test_who_waits_is_told_also_if_somebody_asks_at_the_last_moment(form: str) -> None:
    """Then its end is on its way through the dispatcher, and the wait is not over before that."""
    socket, _ = easy_socket()

    class Asks(trio.abc.Instrument):
        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            if task is waiting and operation._operation.in_flight:
                assert not operation.is_completed if form == "result" else operation.pending

    async with open_initiator():
        await wait_all_tasks_blocked()
        await spent(socket)
        operation: Any
        waiting = trio.lowlevel.current_task()
        if form == "args":
            operation = SocketAsyncEventArgs(b"whole")
            assert socket.send_async(operation)
        else:
            operation = socket.begin_send(b"whole")
        instrument = Asks()
        trio.lowlevel.add_instrument(instrument)
        try:
            if form == "args":
                assert await operation.wait() == 5
                assert not operation.pending
            else:
                assert await socket.end_send(operation) == 5
        finally:
            trio.lowlevel.remove_instrument(instrument)


async def test_an_initiator_that_is_left_tells_what_it_holds_back() -> None:
    socket, _ = easy_socket()
    async with open_initiator():
        await spent(socket)
        args = SocketAsyncEventArgs(b"whole")
        assert socket.send_async(args)
    assert not args.pending
    assert args.outcome == outcome.Value(5)


# What pended and nobody has to be called for is told where it ends


@pytest.mark.parametrize("begun", [False, True])
async def test_the_end_of_what_nobody_handles_needs_no_trip_through_the_dispatcher(
    begun: bool, autojump_clock: trio.testing.MockClock
) -> None:
    port = ScriptedPort([Blocked(1)])
    socket = Socket.from_port(port)
    ran: list[str] = []

    class Steps(trio.abc.Instrument):
        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            ran.append(task.name)

    async with open_initiator(name="ours"):
        args = SocketAsyncEventArgs(b"whole")
        operation = socket.begin_send(b"whole") if begun else args
        if not begun:
            assert socket.send_async(args)
        await wait_all_tasks_blocked()
        instrument = Steps()
        trio.lowlevel.add_instrument(instrument)
        try:
            if begun:
                assert await socket.end_send(operation) == 5
            else:
                assert await args.wait() == 5
        finally:
            trio.lowlevel.remove_instrument(instrument)
        assert ran
        assert not [name for name in ran if name.endswith("dispatcher")]
        # With somebody to call, the dispatcher calls.
        told: list[int] = []
        args.completed += lambda _, args: told.append(args.bytes_transferred)
        port.add(Blocked(1))
        assert socket.send_async(args)
        assert await args.wait() == 5
        assert told == [5]
