"""Code that runs in the middle of a call, what it does there, and whether everything adds up afterwards.

Two kinds of such code strike. A signal handler runs where CPython looks at signals: where a function begins, behind a
call, and behind a jump back; a trace function finds these instants in the library's frames and raises a true signal
there. A finaliser runs where the collector does: before 3.12 wherever an object is made, later where signals are looked
at. A chain of garbage cycles, each of which makes the next one, counts these instants.

The struck call is not helped in any way, and what the strike does is what any program may do there.
"""

from __future__ import annotations

import gc
import inspect
import linecache
import signal
import socket as stdlib_socket
import sys
import types
from collections.abc import Awaitable, Callable
from operator import itemgetter
from pathlib import Path
from typing import Any

import trio
import trio.testing

from tests.helpers import in_flight
from tests.striking import (
    BIG,
    LIBRARY,
    LOOKS_BEHIND,
    Mistake,
    Scene,
    begins,
    is_below_library,
    require,
)
from trio_send import (
    InvalidOperationError,
    ManualResetEvent,
    ObjectDisposedError,
    SocketAsyncEventArgs,
    SocketException,
    SocketShutdown,
    open_initiator,
)
from trio_send._kernel.port import KernelPort
from trio_send._messages.files import OpenFile
from trio_send._operations.gate import NOTED, STEP

#: What may be refused, to the one who strikes or to the call that is struck.
REFUSALS = (SocketException, ObjectDisposedError, InvalidOperationError, ValueError)


#: How the library's own system calls for a send read, apart from those of a port.
SYSTEM_CALLS = (".port.send(", "core.send(", " = send(")


class Reentry:
    """Does something in the middle of what is done inside the block, once.

    Args:
      number: of the instant, from 1 on; 0 stands for none.

    Attributes:
      seen: how many instants there were.
      struck: whether one of them was it.
      where: which one.
      action: what to do there.
    """

    def __init__(self, number: int) -> None:
        self.seen = 0
        self.struck = False
        self.where = ""
        self.is_in_call = False
        self.action: Callable[[], object] = lambda: None
        self._number = number

    def __enter__(self) -> None:
        raise NotImplementedError

    def __exit__(self, *_: object) -> None:
        raise NotImplementedError

    def _is_now(self, frame: types.FrameType) -> bool:
        """Count an instant; tell whether it is the one."""
        self.seen += 1
        if self.seen != self._number:
            return False
        self.struck = True
        # What runs in the first instants of a system call cannot prevent it, nor what a port's own code asks for. The
        # short way makes the call by itself.
        line = linecache.getline(frame.f_code.co_filename, frame.f_lineno or 0)
        self.is_in_call = frame.f_code.co_name.startswith("send") and (
            isinstance(frame.f_locals.get("self"), (KernelPort, OpenFile))
            or isinstance(self, Calls)
            or any(call in line for call in SYSTEM_CALLS)
        )
        self.where = (
            f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno} {frame.f_code.co_name}"
        )
        return True


class Handler(Reentry):
    """A signal handler, at each instant at which Python looks at signals in the library."""

    def __enter__(self) -> None:
        self._before = signal.signal(signal.SIGTERM, lambda *_: self.action())
        self._trace = sys.gettrace()
        # Without a frame that has asked for it before, 3.12 and 3.13 tell a new one of no instructions.
        sys._getframe().f_trace_opcodes = True
        sys.settrace(self._begun)

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._trace)
        signal.signal(signal.SIGTERM, self._before)

    def _instant(self, frame: types.FrameType) -> None:
        if self._is_now(frame):
            signal.raise_signal(signal.SIGTERM)

    def _begun(self, frame: types.FrameType, event: str, _: object) -> Any:
        code = frame.f_code
        if self.struck or code.co_name in ("__del__", "remove") or not is_below_library(frame):
            return None
        if begins(frame):
            self._instant(frame)
        if sys.version_info[:2] == (3, 11):
            return None  # which loses its stack when protected functions are traced instruction by instruction
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        before: int | None = None

        def instruction(frame: types.FrameType, event: str, _: object) -> Any:
            nonlocal before
            if self.struck:
                return None
            if event == "opcode":
                if before in LOOKS_BEHIND:
                    self._instant(frame)
                before = code.co_code[frame.f_lasti]
            return instruction

        return instruction


class _Garbage:
    """A cycle whose finaliser tells, and that lets another one take its place."""

    def __init__(self, tell: Callable[[], bool]) -> None:
        self.me = self
        self.tell = tell

    def __del__(self) -> None:
        if self.tell():
            _Garbage(self.tell)


class Finaliser(Reentry):
    """A finaliser, at each instant at which the collector runs below the library."""

    def __enter__(self) -> None:
        self._before = gc.get_threshold()
        self._is_over = False
        gc.collect()
        _Garbage(self._tell)
        gc.set_threshold(1, 1, 1)

    def __exit__(self, *_: object) -> None:
        self._is_over = True
        gc.set_threshold(*self._before)

    def _tell(self) -> bool:
        if self._is_over or self.struck:
            return False
        frame: types.FrameType | None = sys._getframe(1)
        while frame is not None and not frame.f_code.co_filename.startswith(LIBRARY):
            frame = frame.f_back
        if frame is not None and self._is_now(frame):
            self.action()
            return False
        return True


class Calls(Reentry):
    """What the library calls itself, a port or a buffer of the program's own: each call of it is an instant."""

    def __enter__(self) -> None:
        self._is_on = True

    def __exit__(self, *_: object) -> None:
        self._is_on = False

    _is_on = False

    def instant(self) -> None:
        if self._is_on and not self.struck and self._is_now(sys._getframe(1)):
            self.action()


class ActingPort(KernelPort):
    """The kernel's port, in front of and behind whose system calls other code runs."""

    __slots__ = ("_calls",)

    def __init__(self, sock: stdlib_socket.socket, calls: Calls) -> None:
        super().__init__(sock)
        self._calls = calls

        def send(buffer: Any, flags: int, /) -> int:
            calls.instant()
            try:
                return sock.send(buffer, flags)
            finally:
                calls.instant()

        self.send = send

    def send_gather(self, views: Any, flags: int, /) -> int:
        self._calls.instant()
        try:
            return super().send_gather(views, flags)
        finally:
            self._calls.instant()


class ActingBuffer:
    """A buffer that runs other code whenever it is opened; Python knows such from 3.12 on."""

    def __init__(self, data: bytes, calls: Calls) -> None:
        self._data = bytearray(data)
        self._calls = calls

    def __buffer__(self, flags: int) -> memoryview:
        self._calls.instant()
        return memoryview(self._data)


class Stage(Scene):
    """A scene in which other code strikes.

    Attributes:
      refused: whether what the strike did was refused, and with what.
      subject: the operation that the struck call is about, if anybody holds it.
      behind: one that waits behind it.
    """

    def __init__(self, strike: Reentry, act: Callable[[Stage], object], *, warm: bool) -> None:
        super().__init__(strike, warm=warm)  # type: ignore[arg-type]
        self.reentry = strike
        self.refused: BaseException | None = None
        self.mistake: BaseException | None = None
        self.subject: Any = None
        self.behind: Any = None
        #: How much of the subject the kernel had when a stop of it was answered.
        self.bytes_at_stop: int | None = None
        self.waiting = ManualResetEvent()
        #: Bytes that the peer has sent, and how many of them were received.
        self.sent_by_peer = 0
        self.starts: dict[SocketAsyncEventArgs, list[int]] = {}
        self.may_be_cut = False
        strike.action = lambda: self._act(act)

    def _act(self, act: Callable[[Stage], object]) -> None:
        try:
            act(self)
        except REFUSALS as error:
            self.refused = error
        except BaseException as error:
            self.mistake = error

    # -- args whose events are counted -------------------------------------------------------------

    def args(self, letter: str, size: int, kind: str = "bytes") -> SocketAsyncEventArgs:
        args = super().args(letter, size, kind)
        self.count_events(args)
        return args

    def count_events(self, args: SocketAsyncEventArgs) -> None:
        self.starts[args] = [0, 0]
        args.completed += lambda _, ended: self._told(ended)

    def _told(self, args: SocketAsyncEventArgs) -> None:
        self.starts[args][1] += 1

    def start(
        self, begin: Callable[[SocketAsyncEventArgs], bool], args: SocketAsyncEventArgs
    ) -> bool:
        """Start args, and note whether an event is due."""
        pending = begin(args)
        self.starts[args][0] += pending
        return pending

    # -- the call ------------------------------------------------------------------------------------

    async def call(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Make the call that is struck; return what it returns, or None if it was refused."""
        try:
            with self.reentry:  # type: ignore[attr-defined]
                answer = function(*arguments, **named)
                return await answer if inspect.isawaitable(answer) else answer
        except REFUSALS:
            return None

    async def read_on(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Read what comes, as a peer does."""
        task_status.started()
        while True:
            self.drain()
            await trio.lowlevel.checkpoint()

    async def read_on_when_blocked(self) -> None:
        """Read what comes, but not before everybody else waits."""
        await trio.testing.wait_all_tasks_blocked()
        while True:
            self.drain()
            await trio.lowlevel.checkpoint()

    async def read_to_the_end(self) -> None:
        """Read until nothing is under way."""
        await self.until(
            lambda: not any(in_flight(operation) for operation in self.operations),
            f"for ever: {self.operations!r}",
        )

    # -- what has come of it ---------------------------------------------------------------------------

    async def settle(self) -> None:
        if self.mistake is not None:
            raise Mistake(f"the strike got {self.mistake!r}")
        socket = self.socket
        for queue in (socket._core.sends, socket._core.receives):
            require(queue is None or not queue.held, "a step is held for ever")
            require(
                queue is None or not queue.gate & (STEP | NOTED), "a step was begun and not ended"
            )
        if self.may_be_cut:  # it was shut down, and takes no more
            await self.read_to_the_end()
            self.compare(socket.statistics().bytes_accepted)
        elif socket.fileno() >= 0:
            await super().settle()
        else:
            await self.until(
                lambda: not any(in_flight(operation) for operation in self.operations),
                f"for ever, and closed: {self.operations!r}",
            )
            self.drain()
            self.drain()
            self.may_be_cut = True
            self.compare(socket.statistics().bytes_accepted)
        await self.look_at_events()
        if self.bytes_at_stop is not None and self.bytes_of("A") < self.messages["A"][0]:
            late = self.bytes_of("A") - self.bytes_at_stop
            require(not late, f"{late} bytes went out after the stop")

    async def look_at_events(self) -> None:
        """See that every start that pended has one event."""
        with trio.fail_after(LIMIT):
            while any(args.pending for args in self.starts):
                self.drain()
                await trio.lowlevel.checkpoint()
        await trio.testing.wait_all_tasks_blocked()
        for args, (due, told) in self.starts.items():
            require(due == told, f"{told} events for {due} starts that pended: {args!r}")

    def bytes_of(self, letter: str) -> int:
        """How many bytes of a message have come."""
        return bytes(self.received).count(letter.encode())

    def compare(self, accepted: int) -> None:
        if self.socket.fileno() < 0 or self.may_be_cut:
            self.given_up |= set(self.messages)
        super().compare(accepted)


Drive = Callable[[Stage], Awaitable[None]]

LIMIT = 10.0


def run_stage(
    drive: Drive, act: Callable[[Stage], object], strike: Reentry, *, warm: bool
) -> str | None:
    """Run one stage; return what was wrong."""
    complaint: str | None = None
    before = sys.gettrace()

    async def main() -> None:
        nonlocal complaint
        stage = Stage(strike, act, warm=warm)
        with trio.move_on_after(LIMIT) as scope:
            async with open_initiator():
                try:
                    await drive(stage)
                except Mistake as mistake:
                    complaint = str(mistake)
                finally:
                    stage.close()
        if scope.cancelled_caught and complaint is None:
            complaint = "it has no end"

    try:
        trio.run(main)
    except BaseException as error:
        complaint = complaint or f"{error!r} came out of it"
    finally:
        sys.settrace(before)
    return complaint


# -- what strikes ----------------------------------------------------------------------------------------


def other(stage: Stage, size: int = 4) -> SocketAsyncEventArgs:
    return stage.args("z", size)


def by_send_async(stage: Stage) -> None:
    stage.start(stage.socket.send_async, other(stage))


def by_begin_send(stage: Stage) -> None:
    message = stage.message("z", 4)
    stage.messages["z"] = 4, stage.socket.begin_send(message)


def by_try_begin_send(stage: Stage) -> None:
    message = bytearray(stage.message("z", 4))
    result, error = stage.socket.try_begin_send(message)
    require(result is not None or error, "neither a result nor an error")
    if result is not None:
        stage.messages["z"] = 4, result


def by_a_big_one(stage: Stage) -> None:
    stage.start(stage.socket.send_async, other(stage, BIG))


def by_a_list(stage: Stage) -> None:
    stage.start(stage.socket.send_async, stage.args("z", 20, "list"))


def cancel(stage: Stage) -> None:
    if stage.subject is None or not stage.subject.cancel():
        return
    if not stage.reentry.is_in_call and stage.peer is not None:
        stage.drain()
        stage.bytes_at_stop = stage.bytes_of("A")


def cancel_behind(stage: Stage) -> None:
    if stage.behind is not None:
        stage.behind.cancel()


def close(stage: Stage) -> None:
    stage.socket.close()


def shut_down(stage: Stage) -> None:
    stage.may_be_cut = True
    stage.socket.shutdown(SocketShutdown.SEND)


def forget_torn(stage: Stage) -> None:
    stage.given_up |= {"A", "P"}
    stage.socket.forget_torn()


def resume(stage: Stage) -> None:
    if isinstance(stage.subject, SocketAsyncEventArgs):
        stage.start(stage.socket.resume, stage.subject)


def start_again(stage: Stage) -> None:
    if isinstance(stage.subject, SocketAsyncEventArgs) and "A" in stage.messages:
        was_free = not stage.subject._operation.in_flight
        if was_free and (stage.messages["A"][0] < BIG or stage.subject.bytes_transferred):
            return  # it would be sent twice, which is what was asked for
        stage.start(stage.socket.send_async, stage.subject)
        require(was_free, "args in use were started")


def set_buffer(stage: Stage) -> None:
    if isinstance(stage.subject, SocketAsyncEventArgs):
        was_free = not stage.subject._operation.in_flight
        stage.subject.set_buffer(b"A" * 7)
        require(was_free, "args in use were given another buffer")
        if (
            stage.subject._operation.elements is None
            and stage.subject in map(itemgetter(1), stage.messages.values())
            and not stage.subject.bytes_transferred
        ):
            stage.messages["A"] = 7, stage.subject
        elif "A" not in stage.messages:
            stage.messages["A"] = 7, None  # a connect sends it


def receive(stage: Stage) -> None:
    args = SocketAsyncEventArgs(bytearray(10))
    stage.count_events(args)
    stage.start(stage.socket.receive_async, args)
    require(args.cancel() or not args.pending, "a receive cannot be stopped")


def set_event(stage: Stage) -> None:
    stage.waiting.set()


def nothing(stage: Stage) -> None: ...


ACTIONS = {
    action.__name__: action
    for action in (
        by_send_async,
        by_begin_send,
        by_try_begin_send,
        by_a_big_one,
        by_a_list,
        cancel,
        cancel_behind,
        close,
        shut_down,
        forget_torn,
        resume,
        start_again,
        set_buffer,
        receive,
        set_event,
        nothing,
    )
}
