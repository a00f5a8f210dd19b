"""Hold the dispatcher to telling everything that has ended: once, in order, and without holding up anybody."""

from __future__ import annotations

import contextvars
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import trio
from trio.testing import assert_checkpoints, assert_no_checkpoints, wait_all_tasks_blocked

from tests.helpers import Told, Turns, in_flight, scripted, ten, unblock
from trio_send import (
    AsyncResult,
    ExitPolicy,
    Socket,
    SocketAsyncEventArgs,
    SocketError,
    SocketException,
    current_initiator,
    open_initiator,
)
from trio_send._owners.dispatcher import EVENTS_PER_TRIP
from trio_send._owners.exiting_owner import START_BUDGET
from trio_send.testing import Blocked

if sys.version_info < (3, 11):
    from exceptiongroup import ExceptionGroup

ABORTED = SocketError.OPERATION_ABORTED
SUCCESS = SocketError.SUCCESS
JOIN = ExitPolicy.JOIN


class Left(Exception):
    """What a handler raises."""


# Order ----------------------------------------------------------------------------------------


@pytest.mark.fact("F197")
async def test_events_come_in_the_order_in_which_operations_end() -> None:
    """Not in that of their starts, nor socket by socket."""
    told = Told()
    first, _ = scripted(Blocked())
    second, port = scripted(Blocked())
    async with open_initiator():
        args = {name: told.args(name) for name in "abcdef"}
        for name in "abc":
            assert first.send_async(args[name])
        for name in "def":
            assert second.send_async(args[name])
        args["b"].cancel()
        args["f"].cancel()
        args["a"].cancel()
        await wait_all_tasks_blocked()
        args["c"].cancel()
        port.unblock()
        await wait_all_tasks_blocked()
    assert told.events == [
        ("b", ABORTED, 0),
        ("f", ABORTED, 0),
        ("a", ABORTED, 0),
        ("c", ABORTED, 0),
        ("d", SUCCESS, 10),
        ("e", SUCCESS, 10),
    ]


async def test_what_ends_while_others_are_told_is_told_behind_them() -> None:
    """A handler that ends operations does not push in front of those that had ended before."""
    told = Told()
    socket, _ = scripted(Blocked())
    async with open_initiator():
        args = {name: told.args(name) for name in "abcd"}

        def handler(socket: Socket, _: SocketAsyncEventArgs) -> None:
            args["c"].cancel()

        args["a"].completed += handler
        for each in args.values():
            assert socket.send_async(each)
        args["a"].cancel()
        args["b"].cancel()
        await wait_all_tasks_blocked()
        assert [name for name, _, _ in told.events] == ["a", "b", "c"]
    assert [name for name, _, _ in told.events] == ["a", "b", "c", "d"]


async def test_handlers_of_one_event_run_in_order() -> None:
    """Each sees what those before it have done."""
    seen: list[int] = []
    socket, port = scripted(Blocked())
    args = SocketAsyncEventArgs(ten("a"))
    for number in range(5):
        args.completed += lambda *_, number=number: seen.append(number)
    async with open_initiator(JOIN):
        assert socket.send_async(args)
        port.unblock()
    assert seen == [0, 1, 2, 3, 4]


@pytest.mark.fact("F131")
async def test_nothing_is_told_inside_a_call_of_the_application() -> None:
    """Neither a start nor a cancel nor a close calls a handler; the event comes later, exactly once."""
    told = Told()
    socket, _ = scripted(3, Blocked())
    async with open_initiator():
        first, second, third = (told.args(name) for name in "abc")
        for args in (first, second, third):
            assert socket.send_async(args)
        with assert_no_checkpoints():
            assert second.cancel()
            assert first.cancel()
            socket.close()
        assert told.events == []
        assert third.pending
        assert third.socket_error is SocketError.IO_PENDING
        await wait_all_tasks_blocked()
        assert [name for name, _, _ in told.events] == ["b", "a", "c"]
    assert len(told.events) == 3


# Batches and budgets --------------------------------------------------------------------------


async def test_what_ends_together_is_told_together() -> None:
    """No task has a turn between the events of a batch, and every task has one between long rows of them."""
    log: list[str] = []
    socket, _ = scripted(Blocked())
    instrument = Turns(log, "turn")
    count = 3 * EVENTS_PER_TRIP + 10
    async with open_initiator():
        for _ in range(count):
            args = SocketAsyncEventArgs(b"x")
            args.completed += lambda *_: log.append("event")
            assert socket.send_async(args)
        await wait_all_tasks_blocked()
        trio.lowlevel.add_instrument(instrument)
        socket.close()
        await wait_all_tasks_blocked()
        trio.lowlevel.remove_instrument(instrument)
    rows = [row.count("event") for row in " ".join(log).split("turn") if "event" in row]
    assert rows == [EVENTS_PER_TRIP] * 3 + [10]


async def test_a_chain_of_completions_lets_other_tasks_run() -> None:
    """Handlers that start the next operation, which ends at once, for ever: others still have their turns."""
    log: list[str] = []
    socket, _ = scripted()
    left = 20 * START_BUDGET

    def again(socket: Socket, args: SocketAsyncEventArgs) -> None:
        nonlocal left
        while left:
            left -= 1
            log.append("send")
            if socket.send_async(args):
                return

    instrument = Turns(log, "turn")
    async with open_initiator(JOIN):
        args = SocketAsyncEventArgs(b"x")
        args.completed += again
        trio.lowlevel.add_instrument(instrument)
        again(socket, args)
        await wait_all_tasks_blocked()
        trio.lowlevel.remove_instrument(instrument)
    rows = [row.count("send") for row in " ".join(log).split("turn") if "send" in row]
    assert sum(rows) == 20 * START_BUDGET
    # The dispatcher may call one more handler before it yields, each with a budget of its own.
    assert max(rows) <= 2 * (START_BUDGET + 1)


@pytest.mark.fact("F135")
async def test_the_stack_stays_as_deep_as_it_was() -> None:
    """A handler may start the next operation, and that one's handler the next, without end."""
    depths: set[int] = set()
    socket, port = scripted(*[Blocked(0), 1] * 300)
    left = 300

    def depth() -> int:
        frame: Any = sys._getframe()
        count = 0
        while frame is not None:
            count += 1
            frame = frame.f_back
        return count

    def again(socket: Socket, args: SocketAsyncEventArgs) -> None:
        nonlocal left
        depths.add(depth())
        left -= 1
        if left:
            assert socket.send_async(args)

    async with open_initiator(JOIN):
        args = SocketAsyncEventArgs(b"x")
        args.completed += again
        assert socket.send_async(args)
    assert left == 0
    assert len(depths) == 1
    assert port.accepted == b"x" * 300


@pytest.mark.fact("F123")
async def test_a_start_that_uses_up_the_budget_is_told_like_any_other() -> None:
    """The answer is "pending" although the operation is done; nothing can stop it any more."""
    told = Told()
    socket, port = scripted()
    async with open_initiator():
        for number in range(START_BUDGET):
            assert socket.send_async(told.args(str(number), b"x")) is False
        last = told.args("last")
        attempts = port.attempts
        assert socket.send_async(last) is True
        assert port.attempts == attempts + 1
        assert last.pending
        assert last.bytes_transferred == 10
        assert last.socket_error is SocketError.IO_PENDING
        assert not last.cancel()
        socket.close()
        assert told.events == []
        assert await last.wait() == 10
        assert told.events == [("last", SUCCESS, 10)]
    assert told.events == [("last", SUCCESS, 10)]


async def test_a_start_that_pends_renews_the_budget() -> None:
    """Only starts in a row that did not pend keep others waiting."""
    socket, port = scripted(*[1] * (START_BUDGET - 1), Blocked(), *[1] * (START_BUDGET + 1))
    args = SocketAsyncEventArgs(b"x")
    async with open_initiator():
        for _ in range(START_BUDGET - 1):
            assert socket.send_async(args) is False
        assert socket.send_async(args) is True
        port.unblock()
        await args.wait()
        for _ in range(START_BUDGET):
            assert socket.send_async(args) is False
        assert socket.send_async(args) is True
        await args.wait()


async def test_failed_starts_use_up_the_budget_too() -> None:
    """A loop over a broken socket would spin for ever."""
    told = Told()
    socket, _ = scripted("EPIPE")
    async with open_initiator():
        answers = [socket.send_async(told.args(str(n))) for n in range(3 * START_BUDGET)]
        assert answers.count(True) in (2, 3)
    assert len(told.events) == answers.count(True)
    assert {(error, count) for _, error, count in told.events} == {(SocketError.SHUTDOWN, 0)}


# Handlers that fail ---------------------------------------------------------------------------


@pytest.mark.fact("F133")
@pytest.mark.parametrize("failing", ["first", "middle", "last", "all"])
async def test_a_handler_that_raises_keeps_nobody_from_being_told(failing: str) -> None:
    """The error leaves through the initiator, and the batch goes on."""
    told = Told()
    socket, _ = scripted(Blocked())
    raised: list[Left] = []

    def fail(socket: Socket, args: SocketAsyncEventArgs) -> None:
        raised.append(Left(args.user_token))
        raise raised[-1]

    with pytest.raises(ExceptionGroup) as caught:
        async with open_initiator():
            args = [told.args(name) for name in "abcde"]
            for each in {"first": args[:1], "middle": args[2:3], "last": args[4:], "all": args}[
                failing
            ]:
                each.completed += fail
            for each in args:
                assert socket.send_async(each)
            socket.close()
            await trio.sleep_forever()
    assert [name for name, _, _ in told.events] == list("abcde")
    assert list(caught.value.exceptions) == raised
    assert len(raised) == (5 if failing == "all" else 1)


async def test_handlers_behind_one_that_raises_are_not_called() -> None:
    """As in .NET: an exception ends the chain of that one event."""
    told = Told()
    socket, _ = scripted(Blocked())

    def fail(socket: Socket, args: SocketAsyncEventArgs) -> None:
        raise Left

    with pytest.raises(ExceptionGroup):
        async with open_initiator():
            args = SocketAsyncEventArgs(b"x", user_token="a")
            args.completed += fail
            args.completed += told
            assert socket.send_async(args)
            assert socket.send_async(told.args("b"))
    assert told.events == [("b", ABORTED, 0)]


async def test_whoever_waits_is_woken_though_the_handler_raised() -> None:
    """The wait is for the operation, and that has ended."""
    socket, _ = scripted(3, Blocked())
    counts: list[int] = []

    def fail(socket: Socket, args: SocketAsyncEventArgs) -> None:
        raise Left

    args = SocketAsyncEventArgs(ten("a"))
    args.completed += fail

    async def wait() -> None:
        counts.append(await args.wait())

    async with trio.open_nursery() as nursery:
        with pytest.raises(ExceptionGroup):
            async with open_initiator():
                assert socket.send_async(args)
                nursery.start_soon(wait)
                await wait_all_tasks_blocked()
                args.cancel()
                await trio.sleep_forever()
    assert counts == [3]


# Asynchronous handlers ------------------------------------------------------------------------


async def test_an_asynchronous_handler_may_wait_for_its_own_batch() -> None:
    """Each runs in a task of its own, so it does not hold up the one it waits for."""
    log: list[str] = []
    socket, _ = scripted(Blocked())
    first, second = SocketAsyncEventArgs(ten("a")), SocketAsyncEventArgs(ten("b"))

    async def wait_for_second(socket: Socket, args: SocketAsyncEventArgs) -> None:
        log.append("first begins")
        await ended.wait()
        log.append("first ends")

    async def end(socket: Socket, args: SocketAsyncEventArgs) -> None:
        log.append("second")
        ended.set()

    first.completed += wait_for_second
    second.completed += end
    ended = trio.Event()
    async with open_initiator():
        assert socket.send_async(first)
        assert socket.send_async(second)
        # Both end in one step, and so are told in one batch.
    assert sorted(log[:2]) == ["first begins", "second"] or log == [
        "first begins",
        "second",
        "first ends",
    ]
    assert log[-1] == "first ends"


async def test_an_asynchronous_handler_may_wait_for_an_operation_behind_its_own() -> None:
    """The same through the public wait: the other operation is told while the handler waits for it."""
    counts: list[int] = []
    socket, port = scripted(Blocked(), 10, Blocked(), 10)
    first, second = SocketAsyncEventArgs(ten("a")), SocketAsyncEventArgs(ten("b"))

    async def handler(socket: Socket, args: SocketAsyncEventArgs) -> None:
        counts.append(await second.wait())

    first.completed += handler
    async with open_initiator(JOIN):
        assert socket.send_async(first)
        assert socket.send_async(second)
        port.unblock()
        await wait_all_tasks_blocked()
        assert counts == []
        port.unblock()
    assert counts == [10]


async def test_handlers_behind_an_asynchronous_one_wait_for_it() -> None:
    """From the first asynchronous one on, the handlers of an event run in one task, still in order."""
    log: list[str] = []
    socket, port = scripted(Blocked())

    def named(name: str) -> Callable[..., object]:
        return lambda *_: log.append(name)

    def named_async(name: str) -> Callable[..., Coroutine[Any, Any, None]]:
        async def handler(socket: Socket, args: SocketAsyncEventArgs) -> None:
            log.append(f"{name} begins")
            await proceed.wait()
            log.append(f"{name} ends")

        return handler

    proceed = trio.Event()
    args = SocketAsyncEventArgs(ten("a"))
    for name in ("one", "two"):
        args.completed += named(name)
    for name in ("three", "four"):
        args.completed += named_async(name)
    args.completed += named("five")
    async with open_initiator(JOIN):
        assert socket.send_async(args)
        port.unblock()
        await args.wait()
        assert log[:2] == ["one", "two"]
        assert "three ends" not in log
        await wait_all_tasks_blocked()
        assert log == ["one", "two", "three begins"]
        proceed.set()
    assert log == [
        "one",
        "two",
        "three begins",
        "three ends",
        "four begins",
        "four ends",
        "five",
    ]


@pytest.mark.fact("F069")
async def test_an_asynchronous_handler_holds_up_no_other_event() -> None:
    """While it sleeps, everything else is told, and its own args may be used again."""
    told = Told()
    socket, port = scripted(Blocked(), 10)
    proceed = trio.Event()
    args = told.args("a")

    async def handler(socket: Socket, args: SocketAsyncEventArgs) -> None:
        await proceed.wait()

    args.completed += handler
    async with open_initiator():
        assert socket.send_async(args)
        port.unblock()
        await wait_all_tasks_blocked()
        for _ in range(3):
            port.add(Blocked())
            assert socket.send_async(args)
            port.unblock()
            await wait_all_tasks_blocked()
        assert len(told.events) == 4
        proceed.set()


# Whoever waits --------------------------------------------------------------------------------


async def test_wait_returns_behind_the_synchronous_handlers() -> None:
    """With the count of its own activation, though a handler has started the args anew."""
    log: list[str] = []
    socket, port = scripted(Blocked(), 10, Blocked())
    args = SocketAsyncEventArgs(ten("a"))

    def again(socket: Socket, args: SocketAsyncEventArgs) -> None:
        log.append("handler")
        args.set_buffer(b"xyz")
        assert socket.send_async(args)

    args.completed += again
    async with open_initiator():
        assert socket.send_async(args)
        port.unblock()
        with assert_checkpoints():
            assert await args.wait() == 10
        assert log == ["handler"]
        assert args.pending
        assert args.activation == 2
        args.completed -= again
    assert args.socket_error is ABORTED


async def test_several_may_wait_and_each_may_give_up() -> None:
    """Those that are cancelled leave the others waiting, and the operation goes on."""
    counts: list[int] = []
    socket, port = scripted(Blocked())
    args = SocketAsyncEventArgs(ten("a"))

    async def wait(scope: trio.CancelScope) -> None:
        with scope:
            counts.append(await args.wait())

    async with open_initiator(), trio.open_nursery() as nursery:
        assert socket.send_async(args)
        scopes = [trio.CancelScope() for _ in range(4)]
        for scope in scopes:
            nursery.start_soon(wait, scope)
        await wait_all_tasks_blocked()
        scopes[1].cancel()
        await wait_all_tasks_blocked()
        assert scopes[1].cancelled_caught
        port.unblock()
        await wait_all_tasks_blocked()
        assert counts == [10, 10, 10]


async def test_a_waiter_that_is_cancelled_by_a_handler_gives_up_cleanly() -> None:
    """The handler runs when the waiters have been taken off already, and yet before they wake."""
    counts: list[int] = []
    socket, port = scripted(Blocked())
    args = SocketAsyncEventArgs(ten("a"))
    args.completed += lambda *_: scope.cancel()

    async def wait() -> None:
        with scope:
            counts.append(await args.wait())

    async with open_initiator(), trio.open_nursery() as nursery:
        scope = trio.CancelScope()
        assert socket.send_async(args)
        nursery.start_soon(wait)
        nursery.start_soon(args.wait)
        await wait_all_tasks_blocked()
        port.unblock()
    assert scope.cancelled_caught
    assert counts == []


async def test_wait_on_idle_args_is_a_checkpoint() -> None:
    """And returns the count of the latest operation."""
    socket, _ = scripted(10)
    args = SocketAsyncEventArgs(ten("a"))
    with assert_checkpoints():
        assert await args.wait() == 0
    async with open_initiator():
        assert socket.send_async(args) is False
    with assert_checkpoints():
        assert await args.wait() == 10


async def test_a_wait_on_idle_args_is_not_for_what_another_task_starts_meanwhile() -> None:
    """Trio runs the two in any order, so it takes some rounds until each comes first."""
    first = set()
    for _ in range(30):
        socket, port = scripted(10, Blocked())
        args = SocketAsyncEventArgs(ten("a"))
        log: list[object] = []

        async def wait(args: SocketAsyncEventArgs, log: list[object]) -> None:
            log.append("wait")
            log.append(await args.wait())

        async def start(socket: Socket, args: SocketAsyncEventArgs, log: list[object]) -> None:
            log.append("start")
            args.set_buffer(b"xyz")
            assert socket.send_async(args) is True

        async with open_initiator():
            assert socket.send_async(args) is False
            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait, args, log)
                nursery.start_soon(start, socket, args, log)
                await unblock(port)
        first.add(log[0])
        assert log == (["wait", "start", 10] if log[0] == "wait" else ["start", "wait", 3])
    assert first == {"wait", "start"}


# Subclasses and callbacks ---------------------------------------------------------------------


@pytest.mark.fact("F129")
@pytest.mark.parametrize("asynchronous", [True, False])
async def test_on_completed_may_be_overridden(asynchronous: bool) -> None:
    """The override is called in place of the handlers, exactly once for each event."""
    log: list[str] = []

    class Synchronous(SocketAsyncEventArgs):
        __slots__ = ()

        def on_completed(self) -> None:
            log.append(variable.get())

    class Asynchronous(SocketAsyncEventArgs):
        __slots__ = ()

        async def on_completed(self) -> None:  # type: ignore[override]
            await trio.lowlevel.checkpoint()
            log.append(variable.get())

    socket, port = scripted(Blocked())
    args = (Asynchronous if asynchronous else Synchronous)(ten("a"))
    async with open_initiator(JOIN):
        token = variable.set("start")
        assert socket.send_async(args)
        variable.reset(token)
        port.unblock()
    assert log == ["start"]


@pytest.mark.parametrize("face", ["on_completed", "callback"])
@pytest.mark.parametrize("answer", [42, [], iter(())], ids=["number", "list", "iterator"])
async def test_what_a_handler_returns_is_of_no_importance_unless_it_is_a_coroutine(
    answer: object, face: str
) -> None:
    """The event is over when the call is, and the args are free again."""
    calls: list[object] = []

    class Answering(SocketAsyncEventArgs):
        __slots__ = ()

        def on_completed(self) -> object:  # type: ignore[override]
            return called(self)

    def called(what: object) -> object:
        calls.append(what)
        return answer

    socket, port = scripted(Blocked(), 10, Blocked(), 10)
    async with open_initiator() as initiator:
        args = Answering(ten("a"))
        for number in (1, 2):
            if face == "callback":
                subject: Any = socket.begin_send(ten("a"), callback=called)
            else:
                subject = args
                assert socket.send_async(args)
            await unblock(port)
            assert len(calls) == number
            assert calls[-1] is subject
            assert not in_flight(subject)
            assert initiator.statistics().unfinished_events == 0
            assert await (socket.end_send(subject) if face == "callback" else args.wait()) == 10
    assert port.accepted == 2 * ten("a")


async def test_a_callback_is_called_once_with_its_result() -> None:
    """It finds everything settled: the result complete, the handle set, the count to be taken."""
    log: list[Any] = []

    def callback(result: AsyncResult) -> None:
        log.append((result.async_state, result.is_completed, result.completed_synchronously))
        log.append(socket.end_send_nowait(result))

    socket, port = scripted(Blocked())
    async with open_initiator(JOIN):
        pending = socket.begin_send(ten("a"), callback=callback, state="pending")
        assert not pending.is_completed
        port.unblock()
        assert await pending.async_wait_handle.wait_one()
        await wait_all_tasks_blocked()
        assert log == [("pending", True, False), 10]
        with assert_no_checkpoints():
            done = socket.begin_send(ten("b"), callback=callback, state="done")
        assert done.is_completed
        assert len(log) == 2, "the callback was called inside begin_send"
    assert log[2:] == [("done", True, True), 10]


@pytest.mark.fact("F198")
async def test_callbacks_come_in_the_order_of_the_queue() -> None:
    """Those of results that ended on the spot among them."""
    log: list[str] = []
    socket, port = scripted(10, 10, Blocked())
    async with open_initiator(JOIN):
        for name in "abcd":
            socket.begin_send(ten(name), callback=lambda ar: log.append(ar.async_state), state=name)
        assert log == []
        port.unblock()
    assert log == ["a", "b", "c", "d"]


async def test_a_result_that_failed_on_the_spot_has_no_callback() -> None:
    """The error was raised, or returned; there is nothing more to tell."""
    socket, _ = scripted("EPIPE")
    async with open_initiator():
        with pytest.raises(SocketException):
            socket.begin_send(ten("a"), callback=lambda _: pytest.fail("called"))
        assert socket.try_begin_send(ten("a"), callback=lambda _: pytest.fail("called")) == (
            None,
            SocketError.SHUTDOWN,
        )
        await wait_all_tasks_blocked()


async def test_a_callback_may_be_asynchronous() -> None:
    """Then it may await the end method, which is why there is one."""
    counts: list[int] = []
    socket, port = scripted(Blocked())

    async def callback(result: AsyncResult) -> None:
        with assert_checkpoints():
            counts.append(await socket.end_send(result))

    async with open_initiator():
        socket.begin_send(ten("a"), callback=callback)
        port.unblock()
        await wait_all_tasks_blocked()
        socket.begin_send(ten("b"), callback=callback)
    assert counts == [10, 10]


@pytest.mark.fact("F076")
async def test_a_callback_that_raises_keeps_nobody_from_being_told() -> None:
    """It is like a handler in this, too."""
    log: list[str] = []
    socket, _ = scripted(3, Blocked())
    error = Left()

    def fail(result: AsyncResult) -> None:
        raise error

    with pytest.raises(ExceptionGroup) as caught:
        async with open_initiator():
            first = socket.begin_send(ten("a"), callback=fail)
            socket.begin_send(ten("b"), callback=lambda _: log.append("b"))
    assert caught.value.exceptions == (error,)
    assert log == ["b"]
    assert socket.try_end_send_nowait(first) == (3, ABORTED)


# Contexts -------------------------------------------------------------------------------------

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="nothing")


@pytest.mark.parametrize("flow_context", [True, False])
async def test_what_a_handler_sets_stays_with_it(flow_context: bool) -> None:
    """Neither the next event nor the starter sees it, even if both events are of one start's context."""
    seen: list[str] = []
    socket, _ = scripted(Blocked())

    def handler(socket: Socket, args: SocketAsyncEventArgs) -> None:
        seen.append(variable.get())
        variable.set("set by a handler")

    async with open_initiator():
        for name in "abc":
            args = SocketAsyncEventArgs(ten(name), flow_context=flow_context)
            args.completed += handler
            assert socket.send_async(args)
        socket.close()
        await wait_all_tasks_blocked()
        assert variable.get() == "nothing"
    assert seen == ["nothing"] * 3


@pytest.mark.fact("F268")
async def test_each_start_has_its_own_context() -> None:
    """Also when the same args are started again."""
    seen: list[str] = []
    socket, port = scripted(Blocked(), 10, Blocked(), 10)
    args = SocketAsyncEventArgs(ten("a"))
    args.completed += lambda *_: seen.append(variable.get())
    async with open_initiator():
        for value in ("one", "two"):
            token = variable.set(value)
            assert socket.send_async(args)
            variable.reset(token)
            port.unblock()
            await wait_all_tasks_blocked()
    assert seen == ["one", "two"]


async def test_handlers_of_one_event_share_its_context() -> None:
    """Asynchronous ones go on in a copy of it, so what the earlier ones set is there."""
    seen: list[str] = []
    socket, port = scripted(Blocked())

    async def look(socket: Socket, args: SocketAsyncEventArgs) -> None:
        await trio.lowlevel.checkpoint()
        seen.append(variable.get())

    args = SocketAsyncEventArgs(ten("a"))
    args.completed += lambda *_: variable.set("first handler")
    args.completed += lambda *_: seen.append(variable.get())
    args.completed += look
    async with open_initiator(JOIN):
        assert socket.send_async(args)
        port.unblock()
    assert seen == ["first handler", "first handler"]


@pytest.mark.fact("F262", "F270")
@pytest.mark.parametrize("asynchronous", [True, False])
async def test_a_callback_runs_in_the_context_of_its_start(asynchronous: bool) -> None:
    """There is no way to turn it off, and a result that ended on the spot is no exception."""
    seen: list[str] = []

    def look(result: AsyncResult) -> None:
        seen.append(variable.get())
        assert current_initiator() is initiator

    async def look_later(result: AsyncResult) -> None:
        await trio.lowlevel.checkpoint()
        look(result)

    callback = look_later if asynchronous else look
    socket, port = scripted(10, Blocked())
    async with open_initiator(JOIN) as initiator:
        for value in ("on the spot", "pending"):
            token = variable.set(value)
            socket.begin_send(ten("a"), callback=callback)
            variable.reset(token)
        port.unblock()
    assert sorted(seen) == ["on the spot", "pending"]
