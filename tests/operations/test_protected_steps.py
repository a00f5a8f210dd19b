"""Hold every step of a queue to keeping Ctrl-C away by itself, whoever takes it.

Whatever takes a step may be protected as well, and mostly is. But a way in that is added, or a mark that is forgotten
further up, must not leave a queue in the middle of something. So each step is taken here by a function that nothing
protects, and at every call that it makes somebody looks whether Ctrl-C could come. The port and the owner look too.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

import trio_send
from tests.scripted import RecordingOwner, SpyPort
from trio_send import Initiator, Socket, SocketAsyncEventArgs, SocketException, open_initiator
from trio_send._base.waiting_tasks import WaitingTasks
from trio_send._messages.buffers import Message, Piece
from trio_send._operations.bulk_ends import OwnerEnds, _trips
from trio_send._operations.gate import STEP
from trio_send._operations.operation import Operation, Step
from trio_send._operations.queue import OperationQueue
from trio_send._operations.send_calls import PLAIN_FLAGS
from trio_send._operations.send_queue import SendQueue
from trio_send._operations.states import TRYING
from trio_send._owners.awaiting_task import perform
from trio_send._owners.initiator import owner_of
from trio_send.testing import Blocked

LIBRARY = str(Path(trio_send.__file__).parent)

ABORTED = 995


class LookingOwner(RecordingOwner):
    """An owner that looks whether Ctrl-C could come, each time that it is told something."""

    def __init__(self, look: Callable[[], None]) -> None:
        super().__init__()
        self._look = look

    def joined(self, queue: Any) -> None:
        self._look()
        super().joined(queue)

    def ended(self, operation: Operation, queue: Any) -> None:
        self._look()
        super().ended(operation, queue)

    def watch(self, queue: Any) -> None:
        self._look()
        super().watch(queue)

    def unwatch(self, queue: Any) -> None:
        self._look()
        super().unwatch(queue)

    def lend(self, queue: Any, borrower: object) -> bool:
        self._look()
        return super().lend(queue, borrower)


class LookingStep(Step):
    """What is too early at first, and looks whether Ctrl-C could come, each time that it is attempted."""

    def __init__(self, look: Callable[[], None]) -> None:
        self._look = look
        self._is_early = True

    def attempt(self, operation: Operation) -> None:
        self._look()
        if self._is_early:
            self._is_early = False
            raise BlockingIOError


@attrs.define
class Desk:
    """A queue, its port and an owner, and what was seen in the middle of a step."""

    protected: list[bool] = attrs.Factory(list)
    port: SpyPort = attrs.field(init=False)
    owner: LookingOwner = attrs.field(init=False)
    queue: SendQueue = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.port = SpyPort(on_call=lambda _: self.look())
        self.owner = LookingOwner(self.look)
        self.queue = SendQueue(self.port, refuse_torn=True)

    def look(self) -> None:
        self.protected.append(trio.lowlevel.currently_ki_protected())

    def script(self, *lines: int | str | Blocked) -> None:
        self.port.inner.add(*lines)

    def operation(self) -> Operation:
        """One that was claimed, for seven bytes."""
        operation = Operation()
        operation.message = Message((Piece(b"message", 0, 7),))
        operation.flags = PLAIN_FLAGS
        operation.reset_results()
        operation.claim()
        return operation

    def pending(self) -> Operation:
        """One that waits in the queue, with three bytes sent."""
        self.script(3, Blocked())
        operation = self.operation()
        assert self.queue.start(operation, self.owner)
        self.port.inner.unblock()
        self.protected.clear()
        return operation

    def attempted(self) -> Operation:
        """One whose first attempt was made by a face, which has begun a step for it."""
        operation = self.operation()
        self.queue.gate = STEP
        return operation


STEPS: dict[str, Callable[[Desk], Callable[[], object]]] = {}


def step(take: Callable[[Desk], Callable[[], object]]) -> Callable[[Desk], Callable[[], object]]:
    """Put a function into the table that makes everything ready, and returns the step."""
    STEPS[take.__name__] = take
    return take


@step
def start(desk: Desk) -> Callable[[], object]:
    operation = desk.operation()
    return lambda: desk.queue.start(operation, desk.owner)


@step
def start_that_pends(desk: Desk) -> Callable[[], object]:
    desk.script(3, Blocked())
    return start(desk)


@step
def join(desk: Desk) -> Callable[[], object]:
    desk.pending()
    operation = desk.operation()
    return lambda: desk.queue.join(operation, desk.owner)


@step
def go_on(desk: Desk) -> Callable[[], object]:
    operation = desk.attempted()
    return lambda: desk.queue.go_on(operation, desk.owner, None)


@step
def go_on_after_an_error(desk: Desk) -> Callable[[], object]:
    operation = desk.attempted()
    return lambda: desk.queue.go_on(operation, desk.owner, BlockingIOError())


@step
def end_attempt(desk: Desk) -> Callable[[], object]:
    """What came in the middle of the attempt is done then."""
    operation = desk.pending()
    desk.queue.gate |= STEP
    desk.queue.request_stop(operation, ABORTED, None)
    return desk.queue.end_attempt


@step
def drain(desk: Desk) -> Callable[[], object]:
    desk.pending()
    return lambda: desk.queue.drain(1000)


@step
def drain_of_receives(desk: Desk) -> Callable[[], object]:
    """Which is another method than that of a queue of sends."""
    queue = OperationQueue(desk.port)
    operation = Operation()
    operation.step = LookingStep(desk.look)
    operation.reset_results()
    operation.claim()
    assert queue.start(operation, desk.owner)
    desk.protected.clear()
    return lambda: queue.drain(1000)


@step
def stop(desk: Desk) -> Callable[[], object]:
    operation = desk.pending()
    return lambda: desk.queue.stop(operation, ABORTED, None)


@step
def request_stop(desk: Desk) -> Callable[[], object]:
    operation = desk.pending()
    return lambda: desk.queue.request_stop(operation, ABORTED, None)


@step
def request(desk: Desk) -> Callable[[], object]:
    return lambda: desk.queue.request(desk.look)


@step
def close(desk: Desk) -> Callable[[], object]:
    desk.pending()
    return lambda: desk.queue.close(desk.look)


@step
def finish_held(desk: Desk) -> Callable[[], object]:
    """The rest of a step that was put off."""
    operation = desk.pending()
    desk.queue.gate |= STEP
    desk.queue.request_stop(operation, ABORTED, None)
    desk.queue.held = True
    return desk.queue._finish_held


@step
def resume(desk: Desk) -> Callable[[], object]:
    operation = desk.pending()
    desk.queue.stop(operation, ABORTED, None)
    desk.owner.tell()
    desk.protected.clear()
    operation.claim()
    return lambda: desk.queue.resume(operation, desk.owner)


@step
def lend(desk: Desk) -> Callable[[], object]:
    operation = desk.pending()
    borrower: WaitingTasks[int | None] = WaitingTasks(None)
    return lambda: desk.queue.lend(operation, borrower)


def end_later(desk: Desk) -> None:
    """Have what is pending end, in a turn that has yet to come."""
    desk.pending()
    desk.queue.stop_owner(desk.owner, ABORTED, None, at_most=0)
    assert desk.queue.is_ending
    desk.protected.clear()


@step
def end_some(desk: Desk) -> Callable[[], object]:
    end_later(desk)
    return lambda: desk.queue.end_some(1000)


@step
def end_some_soon(desk: Desk) -> Callable[[], object]:
    """In the turn that Trio is asked for."""
    end_later(desk)
    return _trips.get()._make


@step
def end_those_of_an_owner(desk: Desk) -> Callable[[], object]:
    desk.pending()
    return OwnerEnds(desk.owner, ABORTED, "why", [desk.queue]).begin


@contextmanager
def exposed_calls() -> Iterator[list[str]]:
    """The calls by the library, or of it, between which Ctrl-C could come."""
    exposed: list[str] = []

    def profile(frame: types.FrameType, event: str, what: Any) -> None:
        if event not in ("call", "c_call") or not frame.f_code.co_filename.startswith(LIBRARY):
            return
        if not trio.lowlevel.currently_ki_protected():
            exposed.append(f"{frame.f_code.co_name}: {event}")

    sys.setprofile(profile)
    try:
        yield exposed
    finally:
        sys.setprofile(None)


@pytest.mark.parametrize("name", STEPS)
async def test_a_step_keeps_ctrl_c_away_by_itself(name: str) -> None:
    desk = Desk()
    take = STEPS[name](desk)
    assert not trio.lowlevel.currently_ki_protected()
    with exposed_calls() as exposed:
        take()
    assert desk.protected, "nobody has seen anything of the step"
    assert all(desk.protected)
    assert exposed == []
    assert not desk.queue.gate & STEP


@pytest.mark.parametrize("lines", [(7,), (3, Blocked(0), 4), ("ECONNRESET",)], ids=str)
async def test_what_a_task_awaits_keeps_ctrl_c_away_by_itself(
    lines: tuple[int | str | Blocked, ...],
) -> None:
    """On the spot, after a wait, and with an error."""
    desk = Desk()
    desk.script(*lines)
    operation = desk.operation()
    with exposed_calls() as exposed:
        coroutine = perform(operation, desk.queue)
        with suppress(SocketException):
            await coroutine
    assert all(desk.protected)
    assert exposed == []
    assert operation.transferred == sum(line for line in lines if isinstance(line, int))


# What the accelerator calls -------------------------------------------------------------------


def tried(socket: Socket) -> SocketAsyncEventArgs:
    """Args whose first attempt was made on the short way, in a step that was begun for it."""
    args = SocketAsyncEventArgs(b"message")
    args._operation.state = TRYING
    socket._core.sends.gate = STEP
    return args


def send_async_ended(socket: Socket, initiator: Initiator) -> Callable[[], object]:
    args, owner = tried(socket), owner_of(initiator)
    return lambda: socket._send_async_ended(args, owner)


def send_async_stuck(socket: Socket, initiator: Initiator) -> Callable[[], object]:
    args, owner = tried(socket), owner_of(initiator)
    return lambda: socket._send_async_stuck(args, owner, 0, BlockingIOError())


def begin_send_stuck(socket: Socket, initiator: Initiator) -> Callable[[], object]:
    owner = owner_of(initiator)
    socket._core.sends.gate = STEP
    return lambda: socket._begin_send_stuck(b"message", 0, 7, None, owner, 0, BlockingIOError())


def waiting(socket: Socket) -> SendQueue:
    """The queue of a socket, with an operation that waits."""
    port = socket._core.port
    assert isinstance(port, SpyPort)
    port.inner.add(Blocked())
    assert socket.send_async(SocketAsyncEventArgs(b"waits"))
    return socket._core.sends


def watch_first(socket: Socket, initiator: Initiator) -> Callable[[], object]:
    return waiting(socket)._watch_first


def go_on_alone(socket: Socket, initiator: Initiator) -> Callable[[], object]:
    queue = waiting(socket)
    queue.gate |= STEP
    assert queue.head is not None
    return partial(queue.go_on_alone, queue.head, 0, BlockingIOError())


@pytest.mark.parametrize(
    "begin", [send_async_ended, send_async_stuck, begin_send_stuck, watch_first, go_on_alone]
)
async def test_what_goes_on_behind_a_compiled_attempt_keeps_ctrl_c_away_by_itself(
    begin: Callable[[Socket, Initiator], Callable[[], object]],
) -> None:
    """What is compiled has no frame that could be marked, so these are called by that of the program."""
    socket = Socket.from_port(SpyPort())
    async with open_initiator() as initiator:
        assert socket.send_async(SocketAsyncEventArgs(b"warm")) is False
        go_on = begin(socket, initiator)
        with exposed_calls() as exposed:
            go_on()
        assert exposed == []
        assert not socket._core.sends.gate & STEP
        socket.close()
