"""Hold every promise where code of the program runs in the middle of the library's.

The calls that are struck stand in `tests.reentered_calls`, what strikes and how in `tests.reentering`. Each call is
struck at instants that are spread over all that it has, in turn by each of the things that a program may do there.
"""

from __future__ import annotations

import contextvars
import socket as stdlib_socket
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
import trio
import trio.testing

from tests.accelerator import go_in_python
from tests.between_tasks import do_between_tasks_and_wait
from tests.helpers import connected
from tests.reentered_calls import CALLED, DRIVES, WITH_BUFFERS
from tests.reentering import Calls, Finaliser, Handler, Reentry
from tests.stress_reentry import strike_at
from tests.striking import BIG, is_pending
from trio_send import (
    AsyncResult,
    ManualResetEvent,
    ObjectDisposedError,
    Socket,
    SocketAsyncEventArgs,
    SocketError,
    SocketException,
    open_initiator,
)
from trio_send._kernel.epoll_set import HAVE_EPOLL, EpollSet
from trio_send._operations.gate import NOTED, STEP
from trio_send._operations.time_limit import Timer
from trio_send._owners.scope_owner import ScopeOwner
from trio_send._owners.timers import SLACK, Timers

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="the peers are Unix sockets"),
    # Of coroutines that are refused before their first step, and failed results that nobody takes.
    pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning"),
]

#: How many instants of one call are struck here; `python -m tests.stress reentry` strikes at more. To collect at every
#: instant takes its time.
AT_MOST: dict[type[Reentry], int] = {Handler: 8, Finaliser: 4}


@pytest.mark.parametrize("kind", [Handler, Finaliser])
@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("name", DRIVES)
def test_a_call_is_struck(
    name: str, warm: bool, kind: type[Reentry], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the first start on its socket, which looks at everything, and as a later one, which takes a short way."""
    if kind is Finaliser and sys.version_info >= (3, 14):
        pytest.skip("its collector comes when it likes")
    if kind is Finaliser and sys.gettrace() is not None:
        pytest.skip("what traces makes objects, so that the collector comes between any two lines")
    if name == "send_async small" and kind is Finaliser and warm:
        pytest.skip("it makes nothing that the collector looks at")
    if name in ("send_async small", "send_async behind"):
        # Where it is compiled there is no instant at which anything can strike.
        go_in_python(monkeypatch)
    first = (
        2 * list(DRIVES).index(name) + warm
    )  # each call has other actions, all of them together all
    struck, complaints = strike_at(
        DRIVES[name], kind, warm=warm, at_most=AT_MOST[kind], first=first
    )
    assert complaints == []
    if kind is Finaliser and name == "send_async behind":
        return  # it makes so little that the collector need not come
    assert struck > 0


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("name", CALLED)
def test_a_port_of_ones_own_strikes(name: str, warm: bool) -> None:
    """In front of each system call and behind it."""
    struck, complaints = strike_at(CALLED[name], Calls, warm=warm, at_most=None)
    assert complaints == []
    assert struck > 0


@pytest.mark.skipif(sys.version_info < (3, 12), reason="has no __buffer__")
@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("name", WITH_BUFFERS)
def test_a_buffer_of_ones_own_strikes(name: str, warm: bool) -> None:
    """Whenever it is opened, in starts and in drains."""
    struck, complaints = strike_at(WITH_BUFFERS[name], Calls, warm=warm, at_most=None)
    assert complaints == []
    assert struck > 0


# -- where no task runs ----------------------------------------------------------------------------


@pytest.fixture
def pair() -> Iterator[tuple[Socket, stdlib_socket.socket]]:
    with connected("unix", tiny=False) as both:
        yield both


Pair = tuple[Socket, stdlib_socket.socket]


def at_rest(socket: Socket) -> bool:
    queue = socket._core.sends
    return not queue.gate & (STEP | NOTED) and not queue.held


@pytest.mark.parametrize("listens", [False, True])
async def test_between_tasks_a_cancel_wakes_who_waits(pair: Pair, listens: bool) -> None:
    socket, peer = pair
    async with open_initiator():
        args, told = SocketAsyncEventArgs(bytes(BIG)), []
        if listens:
            args.completed += lambda *_: told.append(1)
        assert socket.send_async(args)
        answers: list[bool] = []
        await do_between_tasks_and_wait(lambda: answers.append(args.cancel()), args.wait)
        assert answers == [True]
        assert args.socket_error is SocketError.OPERATION_ABORTED
        assert len(told) == listens
        assert args.bytes_transferred == len(peer.recv(2 * BIG))
        assert at_rest(socket)


async def test_between_tasks_a_start_that_pends_is_served(pair: Pair) -> None:
    """And a flag that is set there wakes who waits for it."""
    socket, peer = pair
    event = ManualResetEvent()
    received = 0

    async with open_initiator():
        args = SocketAsyncEventArgs(bytes(BIG))
        context = contextvars.copy_context()

        def begin() -> None:
            assert context.run(socket.send_async, args)
            event.set()

        async def wait() -> None:
            nonlocal received
            await event.wait_one()
            while args.pending:
                with suppress(BlockingIOError):
                    received += len(peer.recv(65536))
                await trio.lowlevel.checkpoint()

        await do_between_tasks_and_wait(begin, wait)
        with suppress(BlockingIOError):
            received += len(peer.recv(2 * BIG))
        assert received == args.bytes_transferred == BIG
        assert at_rest(socket)


async def test_between_tasks_a_close_ends_who_awaits(pair: Pair) -> None:
    socket, _ = pair

    async def wait() -> None:
        with pytest.raises(ObjectDisposedError):
            await socket.send(bytes(BIG))

    await do_between_tasks_and_wait(socket.close, wait)
    assert at_rest(socket)


async def test_between_tasks_what_a_stop_lets_go_on_goes_on(pair: Pair) -> None:
    """A stop of what has not begun, in front of which is nothing, and a stop that tears, behind which others wait."""
    socket, _ = pair
    async with open_initiator():
        first = SocketAsyncEventArgs(bytes(BIG))
        assert socket.send_async(first)

        async def wait() -> None:
            with pytest.raises(SocketException, match="CONNECTION_ABORTED"):
                await socket.send(b"behind")

        await do_between_tasks_and_wait(first.cancel, wait)
        assert socket.torn is not None
        socket.forget_torn()


async def test_between_tasks_a_callback_is_called(pair: Pair) -> None:
    """Of a send that has ended on the spot, whose callback is called all the same."""
    socket, _ = pair
    called: list[AsyncResult] = []
    event = trio.Event()

    def callback(result: AsyncResult) -> None:
        called.append(result)
        event.set()

    async with open_initiator():
        context = contextvars.copy_context()
        await do_between_tasks_and_wait(
            lambda: context.run(socket.begin_send, b"at once", callback=callback), event.wait
        )
        assert [each.bytes_transferred for each in called] == [7]


async def test_between_tasks_a_time_limit_is_watched(pair: Pair) -> None:
    socket, _ = pair
    event = trio.Event()
    async with open_initiator():
        args = SocketAsyncEventArgs(bytes(BIG))
        args.timeout = 0.001
        args.completed += lambda *_: event.set()
        context = contextvars.copy_context()
        await do_between_tasks_and_wait(lambda: context.run(socket.send_async, args), event.wait)
        assert args.socket_error is SocketError.TIMED_OUT


async def test_between_tasks_a_mark_that_is_raised_lets_producers_go_on(pair: Pair) -> None:
    socket, _ = pair
    async with open_initiator():
        assert socket.send_async(SocketAsyncEventArgs(bytes(BIG)))

        def raise_marks() -> None:
            socket.high_water = 10 * BIG
            socket.low_water = 10 * BIG

        await do_between_tasks_and_wait(raise_marks, socket.wait_below_low_water)


async def test_between_tasks_what_is_asked_for_in_a_start_there_is_done(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A finaliser that strikes within a start that a signal handler makes between tasks, behind another send."""
    go_in_python(monkeypatch)
    socket, _ = pair
    async with open_initiator():
        first, second = SocketAsyncEventArgs(bytes(BIG)), SocketAsyncEventArgs(b"second")
        assert socket.send_async(first)
        told: list[str] = []
        first.completed += lambda *_: told.append("first")
        second.completed += lambda *_: told.append("second")
        context = contextvars.copy_context()

        def begin() -> None:
            strike = Handler(1)
            strike.action = first.cancel
            with strike:
                assert context.run(socket.send_async, second)
            assert strike.struck

        await do_between_tasks_and_wait(begin, first.wait)
        if second.pending:
            await second.wait()
        assert sorted(told) == ["first", "second"]
        assert at_rest(socket)
        socket.forget_torn()


# -- what stands beside the queue ------------------------------------------------------------------


class Limit(Timer):
    """A limit that does something when it is asked whether it matters."""

    def __init__(
        self, due: float, act: Callable[[], object] | None = None, *, live: bool = True
    ) -> None:
        self._due = due
        self._act = act
        self._live = live
        self.fired = False

    def is_live(self) -> bool:
        act, self._act = self._act, None
        if act is not None:
            act()
        return self._live and not self.fired

    def due(self) -> float:
        return self._due

    def fire(self) -> None:
        self.fired = True


async def test_a_limit_that_comes_up_while_others_are_swept_is_kept(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with trio.open_nursery() as nursery:
        timers = Timers(nursery.start_soon)
        late = Limit(5)
        timers.add(Limit(9, lambda: timers.add(late)))
        for _ in range(2 * SLACK):
            timers.add(Limit(9, live=False))
        await trio.sleep(6)
        assert late.fired
        timers.quit()


async def test_a_limit_that_comes_up_while_its_task_is_made_has_no_second_one(
    autojump_clock: trio.testing.MockClock,
) -> None:
    made = []
    limits = [Limit(3), Limit(2)]

    async with trio.open_nursery() as nursery:

        def spawn(function: Callable[..., Any], *args: Any) -> None:
            made.append(function)
            if len(made) == 1:
                timers.add(limits[1])
            nursery.start_soon(function, *args)

        timers = Timers(spawn)
        timers.add(limits[0])
        await trio.sleep(4)
        assert [each.fired for each in limits] == [True, True]
        assert len(made) == 1
        timers.quit()


class Told:
    """What stands for an epoll object, and does something when it is called."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.act: dict[str, Callable[[], object]] = {}

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)

        def call(*args: Any) -> Any:
            act = self.act.pop(name, None)
            if act is not None:
                act()
            return method(*args)

        return call


class Direction:
    """One who waits for a socket."""

    def __init__(self, sock: stdlib_socket.socket, *, writes: bool) -> None:
        self.port: Any = sock
        self.writes = writes


@pytest.mark.skipif(not HAVE_EPOLL, reason="has no epoll")
@pytest.mark.parametrize("method", ["modify", "unregister"])
def test_the_other_direction_that_comes_up_while_one_changes_is_armed(method: str) -> None:
    left, right = stdlib_socket.socketpair()
    with left, right:
        reader, writer = Direction(left, writes=False), Direction(left, writes=True)
        pollset: EpollSet[Any] = EpollSet()
        told = pollset._epoll = Told(pollset._epoll)
        if method == "modify":
            pollset.arm(left.fileno(), writer)
            # The writer is given up while the reader is armed beside it.
            told.act["modify"] = lambda: pollset.disarm(writer)
            pollset.arm(left.fileno(), reader)
            assert pollset.fetch() == []
        else:
            pollset.arm(left.fileno(), writer)
            told.act["unregister"] = lambda: pollset.arm(left.fileno(), reader)
            pollset.disarm(writer)
        assert pollset.armed == 1
        right.send(b"x")
        assert pollset.fetch() == [reader]
        assert pollset.armed == 0
        pollset.close()


async def test_a_paced_start_in_the_middle_of_another_one_loses_no_end(pair: Pair) -> None:
    """Whose end is held back, each until the next one: both are told."""
    socket, _ = pair
    async with open_initiator() as initiator:
        held = [SocketAsyncEventArgs(b"") for _ in range(3)]
        post = ScopeOwner.post

        def pace(args: SocketAsyncEventArgs) -> bool:
            initiator._owner.budget = initiator._owner.reserve = 0
            return socket.send_async(args)

        assert pace(held[0])
        struck = []
        with pytest.MonkeyPatch.context() as patch:

            def post_and_strike(self: Any, operation: Any) -> None:
                if not struck:
                    struck.append(1)
                    assert pace(held[2])
                post(self, operation)

            patch.setattr(ScopeOwner, "post", post_and_strike)
            assert pace(held[1])
        with trio.fail_after(5):
            for args in held:
                await args.wait()
        assert struck
        assert not any(map(is_pending, held))


async def test_a_flag_that_is_set_while_a_task_begins_to_wait_wakes_it() -> None:
    """At each instant of the wait."""
    number = 0
    while True:
        number += 1
        event = ManualResetEvent()
        strike = Handler(number)
        strike.action = event.set
        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(set_if_late, strike, event)
                with strike:
                    assert await event.wait_one()
        if not strike.struck:
            break
    assert number > 5


async def set_if_late(strike: Handler, event: ManualResetEvent) -> None:
    """Set the flag if the wait has fewer instants than were asked for."""
    await trio.testing.wait_all_tasks_blocked()
    if not strike.struck:
        event.set()
