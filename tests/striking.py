"""Ctrl-C at one chosen instant of a call, what the call does meanwhile, and whether everything adds up afterwards.

An instant is where CPython looks at signals: where a function begins, behind a call, and behind a jump back. A trace
function finds them in the library's frames, and in those of what the library calls. It strikes with a true SIGINT, so
that whoever handles that decides what becomes of it: Trio in its thread, Python or the library elsewhere. A trace
function runs on top of the frame that it traces, and Trio takes it for a part of that frame.

Nothing here protects the call, or helps it in any other way.
"""

from __future__ import annotations

import dis
import inspect
import signal
import socket as stdlib_socket
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import trio

import trio_send
from trio_send import (
    AsyncResult,
    Initiator,
    Socket,
    SocketAsyncEventArgs,
    SocketException,
    current_initiator,
)
from trio_send._base.inbox import Inbox
from trio_send._operations.gate import FULL, NOTED, STEP
from trio_send._operations.operation import Operation
from trio_send._operations.queue import OperationQueue
from trio_send._operations.send_queue import SendQueue
from trio_send._operations.watermarks import Watermarks
from trio_send._owners.awaiting_task import AwaitingTask
from trio_send._owners.dispatcher import Dispatcher
from trio_send._owners.exiting_owner import ExitingOwner
from trio_send._socket.async_result import ResultOperation

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup

LIBRARY = str(Path(trio_send.__file__).parent)
HERE = str(Path(__file__).parent)

#: What is told as a change, by who is changed. What is written beside an operation, before it is anybody's, is none.
CHANGES: dict[types.CodeType, str] = {
    function.__code__: whom
    for whom, functions in {
        "queue": (
            OperationQueue._append,
            OperationQueue._unlink,
            OperationQueue._finish_alone,
            SendQueue._mark_torn,
            SendQueue.forget_torn,
            Watermarks.set_high,
            Watermarks.set_low,
            SendQueue.set_refuses,
        ),
        "owner": (
            ExitingOwner.joined,
            ExitingOwner.ended,
            ExitingOwner.pace,
            AwaitingTask.ended,
            Dispatcher.post,
            Inbox.put,
        ),
        "operation": (Operation.move, Operation.claim, ResultOperation.take),
    }.items()
    for function in functions
}

#: The methods of a kernel's socket that change something.
SYSTEM_CALLS = frozenset(
    {
        "accept",
        "_accept",
        "bind",
        "close",
        "connect",
        "connect_ex",
        "detach",
        "listen",
        "recv",
        "recv_into",
        "recvfrom",
        "recvfrom_into",
        "recvmsg",
        "recvmsg_into",
        "send",
        "sendall",
        "sendmsg",
        "sendto",
        "setsockopt",
        "shutdown",
        "sendfile",
    }
)


def is_kept() -> bool:
    """Whether Ctrl-C would be kept for later in the frame that is traced, on top of which this runs."""
    if trio.lowlevel.in_trio_run():
        return trio.lowlevel.currently_ki_protected()
    return signal.getsignal(signal.SIGINT) is not signal.default_int_handler


def is_below_library(frame: types.FrameType | None) -> bool:
    """Whether the frame is of the library, or of what it has called."""
    while frame is not None:
        if frame.f_code.co_filename.startswith(LIBRARY):
            return True
        if frame.f_code.co_filename.startswith(HERE):
            return False
        frame = frame.f_back
    return False


class Watch:
    """Sees what a call changes, and whether Ctrl-C could come in between.

    Attributes:
      changed: who was changed: "kernel", "queue", "owner" or "operation".
      exposed: the changes in the middle of which Ctrl-C could have come, each as a sentence.
      unmarked: the functions of the library that were called from outside, and in which Ctrl-C could come at once.
    """

    def __init__(self) -> None:
        self.changed: set[str] = set()
        self.exposed: list[str] = []
        self.unmarked: set[str] = set()
        self.struck = False

    def __enter__(self) -> None:
        sys.setprofile(self._profile)

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _profile(self, frame: types.FrameType, event: str, what: Any) -> None:
        whom = None
        if event == "call":
            whom = CHANGES.get(frame.f_code)
            caller = frame.f_back
            if (
                frame.f_code.co_filename.startswith(LIBRARY)
                and caller is not None
                and caller.f_code.co_filename.startswith(HERE)
                and not is_kept()
            ):
                self.unmarked.add(frame.f_code.co_name)
        elif event == "c_call" and what.__name__ in SYSTEM_CALLS and is_below_library(frame):
            on = getattr(what, "__self__", None)
            if isinstance(on, stdlib_socket.SocketType) or what.__name__ == "sendfile":
                whom = "kernel"
        if whom is None:
            return
        self.changed.add(whom)
        if not is_kept():
            name = what.__name__ if event == "c_call" else frame.f_code.co_name
            self.exposed.append(f"{whom}: {name}, {frame.f_code.co_filename}:{frame.f_lineno}")


#: More than CPython has: from 3.11 on it looks at no signals behind a call of a function that is written in Python.
LOOKS_BEHIND = frozenset(
    code
    for name, code in dis.opmap.items()
    if (name.startswith("CALL") and "INTRINSIC" not in name)
    or name in ("JUMP_BACKWARD", "JUMP_ABSOLUTE")
    or name.startswith("POP_JUMP_BACKWARD")
)


def begins(frame: types.FrameType) -> bool:
    """Whether a function begins, or a generator goes on behind a yield; behind an await Python looks at no signals."""
    instructions, at = frame.f_code.co_code, frame.f_lasti
    if sys.version_info < (3, 11):
        return at < 0 or dis.opname[instructions[at + 2]] != "YIELD_FROM"
    return dis.opname[instructions[at]] != "RESUME" or instructions[at + 1] & 3 < 2


class Strike:
    """Presses Ctrl-C at one instant of what is done inside the block.

    Args:
      number: of the instant, from 1 on; 0 stands for none.
      everywhere: whether the beginnings of protected functions count as instants, too. There the interrupt is kept for
        the next checkpoint.

    Attributes:
      seen: how many instants there were.
      struck: whether one of them was it.
      where: which one.
    """

    def __init__(self, number: int, *, everywhere: bool = False) -> None:
        self.seen = 0
        self.struck = False
        self.where = ""
        self._number = number
        self._everywhere = everywhere
        self._task: trio.lowlevel.Task | None = None

    def __enter__(self) -> None:
        self._task = this_task()
        self._before = sys.gettrace()
        # Without a frame that has asked for it before, 3.12 and 3.13 tell a new one of no instructions.
        sys._getframe().f_trace_opcodes = True
        sys.settrace(self._begun)

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)

    def _instant(self, frame: types.FrameType) -> None:
        self.seen += 1
        if self.seen == self._number:
            self.struck = True
            self.where = (
                f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno} {frame.f_code.co_name}"
            )
            sys.settrace(None)
            signal.raise_signal(signal.SIGINT)

    def _begun(self, frame: types.FrameType, event: str, _: object) -> Any:
        code = frame.f_code
        if self.struck or not is_below_library(frame) or this_task() is not self._task:
            return None
        kept = is_kept()
        if kept and not self._everywhere:
            return None
        if begins(frame) and code.co_name != "__del__":
            self._instant(frame)
        if kept:
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        instructions = code.co_code
        before: int | None = None

        def instruction(frame: types.FrameType, event: str, _: object) -> Any:
            nonlocal before
            if self.struck:
                return None
            # What is raised in a finaliser Python throws away, whatever is done about it.
            if event == "opcode" and code.co_name != "__del__":
                if before in LOOKS_BEHIND:
                    self._instant(frame)
                before = instructions[frame.f_lasti]
            return instruction

        return instruction


def this_task() -> trio.lowlevel.Task | None:
    """The task that calls this; None where no task runs."""
    try:
        return trio.lowlevel.current_task()
    except RuntimeError:
        return None


class Mistake(Exception):
    """What is wrong after a strike."""


def require(holds: object, complaint: str) -> None:
    if not holds:
        raise Mistake(complaint)


class Scene:
    """A socket with its peer, what is sent on it, and the call that is struck.

    Args:
      strike: the strike, or the watch, around the call.
      warm: whether something was sent before, so that the next start is not the first.
    """

    def __init__(self, strike: Strike | Watch, *, warm: bool = True) -> None:
        self.strike = strike
        self.warm = warm
        self.interrupted = False
        self.socket: Socket = None  # type: ignore[assignment]
        self.peer: stdlib_socket.socket = None  # type: ignore[assignment]
        self.received = bytearray()
        #: The messages, by the letter that each consists of: size, operation if anybody holds it.
        self.messages: dict[str, tuple[int, Any]] = {}
        #: What may have arrived in part, because it was given up.
        self.given_up: set[str] = set()
        self._to_close: list[Any] = []

    # -- what there is -------------------------------------------------------------------------

    def connect(self, kind: str = "unix") -> None:
        """Make the socket and its peer."""
        if kind == "unix":
            left, right = stdlib_socket.socketpair()
        else:
            with stdlib_socket.socket() as listener:
                listener.bind(("127.0.0.1", 0))
                listener.listen()
                left = stdlib_socket.create_connection(listener.getsockname())
                right, _ = listener.accept()
        right.setblocking(False)
        self.peer = right
        self.socket = Socket.from_stdlib(left)
        self._to_close += [self.socket, right]
        if self.warm:
            self.socket.send_async(self.args("W", 10))

    def keep(self, thing: Any) -> Any:
        """Have something closed in the end."""
        self._to_close.append(thing)
        return thing

    def close(self) -> str | None:
        """Close everything; say what could not be closed."""
        complaint = None
        for thing in self._to_close:
            thing.close()
            if isinstance(thing, Socket) and thing.fileno() >= 0:
                complaint = f"{thing!r} cannot be closed"
                thing._core.require_kernel().close()
        return complaint

    def message(self, letter: str, size: int, operation: Any = None) -> bytes:
        """A message of one letter."""
        self.messages[letter] = size, operation
        return letter.encode() * size

    def args(self, letter: str, size: int, kind: str = "bytes") -> SocketAsyncEventArgs:
        """Args with a message of one letter."""
        message = self.message(letter, size)
        if kind == "bytearray":
            args = SocketAsyncEventArgs(bytearray(message))
        elif kind == "range":
            args = SocketAsyncEventArgs(b"-" * 7 + message + b"-" * 9, 7, size)
        elif kind == "mutable range":
            args = SocketAsyncEventArgs(bytearray(b"-" * 7 + message + b"-" * 9), 7, size)
        elif kind == "view":
            args = SocketAsyncEventArgs(memoryview(bytearray(message)))
        elif kind == "list":
            args = SocketAsyncEventArgs(buffer_list=[message[:3], message[3:]])
        else:
            args = SocketAsyncEventArgs(message)
        self.messages[letter] = size, args
        return args

    def fill(self) -> SocketAsyncEventArgs:
        """Have a send wait in the middle of its message."""
        args = self.args("P", BIG)
        require(self.socket.send_async(args), "there was room for everything")
        return args

    # -- the call ------------------------------------------------------------------------------

    async def call(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Make the call that is struck; return what it returns, or None if it was interrupted."""
        result = None
        try:
            with self.strike:
                answer = function(*arguments, **named)
                result = await answer if inspect.isawaitable(answer) else answer
        except KeyboardInterrupt:
            self.interrupted = True
        except BaseExceptionGroup as group:
            _, rest = group.split(KeyboardInterrupt)
            if rest is not None:
                raise
            self.interrupted = True
        if self.strike.struck and not self.interrupted:
            try:
                await trio.lowlevel.checkpoint()
                await trio.lowlevel.checkpoint()
            except KeyboardInterrupt:
                self.interrupted = True
            require(self.interrupted, "Ctrl-C was lost")
        return result

    # -- what has come of it -------------------------------------------------------------------

    def drain(self) -> bool:
        """Take what has arrived; return whether that was the end."""
        while True:
            try:
                piece = self.peer.recv(1 << 20)
            except BlockingIOError:
                return False
            except OSError:
                return True
            if not piece:
                return True
            self.received += piece

    async def until(self, is_so: Callable[[], bool], complaint: str) -> None:
        """Read until something is so."""
        for _ in range(3000):
            self.drain()
            if is_so():
                return
            await trio.sleep(0.0005)
        raise Mistake(complaint)

    @property
    def operations(self) -> list[Any]:
        return [operation for _, operation in self.messages.values() if operation is not None]

    async def settle(self) -> None:
        """Read to the end, and see that everything adds up."""
        socket = self.socket
        stand_in_line(socket)
        await self.until(
            lambda: not socket.queued_operations, f"the queue is never empty: {socket!r}"
        )
        await self.until(
            lambda: not any(map(is_pending, self.operations)), f"for ever: {self.operations!r}"
        )
        stand_in_line(socket)
        if socket.torn is None and socket.connected:
            message = self.message("!", 3)
            with trio.move_on_after(2) as scope:
                await socket.send(message)
            require(not scope.cancelled_caught, "what is sent afterwards waits for ever")
        accepted = socket.statistics().bytes_accepted
        if socket.connected:
            await self.until(
                lambda: len(self.received) >= accepted,
                f"{accepted} bytes are said to be accepted, and {len(self.received)} have come",
            )
        self.compare(accepted)

    def compare(self, accepted: int) -> None:
        """See that what has arrived is what is said to be accepted, in whole messages."""
        require(
            len(self.received) == accepted,
            f"{len(self.received)} bytes have come, and the library knows of {accepted}",
        )
        came: dict[str, int] = {}
        runs = runs_of(self.received)
        for number, (letter, size) in enumerate(runs):
            require(letter not in came, f"mixed: {runs}")
            came[letter] = size
            whole = size == self.messages[letter][0]
            torn_last = self.socket.torn is not None and number == len(runs) - 1
            require(whole or torn_last or letter in self.given_up, f"cut in silence: {runs}")
        for letter, (_, operation) in self.messages.items():
            if operation is not None:
                require(
                    operation.bytes_transferred == came.get(letter, 0),
                    f"{operation!r}, and {came.get(letter, 0)} bytes have come",
                )

    def settle_torn(self) -> None:
        """Give up the rest of a message that was cut."""
        if self.socket.torn is not None:
            operation = self.socket.torn.operation
            for letter, (_, each) in self.messages.items():
                if each is operation or (each is None and operation is None):
                    self.given_up.add(letter)
            self.socket.forget_torn()


#: More than a Unix socket takes at once.
BIG = 400_000


def is_pending(operation: Any) -> bool:
    if isinstance(operation, AsyncResult):
        return not operation.is_completed
    return bool(operation.pending)


def runs_of(received: bytes | bytearray) -> list[tuple[str, int]]:
    """How many of which letter in a row."""
    runs = []
    left = bytes(received)
    while left:
        rest = left.lstrip(left[:1])
        runs.append((left[:1].decode(), len(left) - len(rest)))
        left = rest
    return runs


def stand_in_line(socket: Socket) -> None:
    """See that the queue is one."""
    queue = socket._core.sends
    operation, before, count = queue.head, None, 0
    while operation is not None:
        require(operation.previous is before, "the queue is broken")
        require(operation.queue is queue, "a stranger stands in the queue")
        before, operation, count = operation, operation.next, count + 1
        require(count <= queue.length, "the queue is longer than it says")
    require(queue.tail is before, "the queue has lost its tail")
    require(count == queue.length == socket.queued_operations, "the queue is shorter than it says")
    require(
        bool(queue.gate & 1) == bool(count),
        "the short way is open beside a queue, or closed for ever",
    )
    require(not queue.gate & (STEP | NOTED), "a step was begun and not ended")
    require(
        bool(queue.gate & FULL) == (queue.marks.is_above and queue.marks.refuses),
        "a full queue refuses nothing, or another one does",
    )


Drive = Callable[[Scene], Any]


#: How many seconds a scene may take, and how many more it may take to be cancelled; those that end take milliseconds.
LIMIT = 10.0


def run_scene(drive: Drive, strike: Strike | Watch, *, warm: bool) -> str | None:
    """Run one scene in Trio, with its call struck; return what was wrong."""
    complaint: str | None = None
    before = sys.gettrace()

    def repair(scene: Scene) -> None:
        """End what a strike has left in the middle, so that the next scene is not disturbed by this one."""
        if scene.socket is None:
            return
        for queue in (scene.socket._core.sends, scene.socket._core.receives):
            if queue is not None and queue.gate & STEP:
                queue.end_attempt()

    async def give_up(scene: Scene) -> None:
        """Say that a scene has no end, and only then repair what keeps it from ending."""
        nonlocal complaint
        await trio.sleep(2 * LIMIT)
        complaint = complaint or "it has no end, and cannot be cancelled"
        repair(scene)

    async def main() -> None:
        nonlocal complaint
        scene = Scene(strike, warm=warm)
        trio.lowlevel.spawn_system_task(give_up, scene)
        with trio.move_on_after(LIMIT) as scope:
            async with trio_send.open_initiator():
                try:
                    await drive(scene)
                except Mistake as mistake:
                    complaint = str(mistake)
                except (SocketException, trio.TooSlowError) as error:
                    complaint = f"it raised {error!r}"
                finally:
                    cannot = scene.close()
                    complaint = complaint or cannot
        repair(scene)
        if scope.cancelled_caught and complaint is None:
            complaint = "it has no end"

    try:
        trio.run(main)
    except BaseException as error:
        if isinstance(error, BaseExceptionGroup) and error.split(KeyboardInterrupt)[1] is None:
            error = KeyboardInterrupt()
        complaint = complaint or f"{error!r} came out of it"
    finally:
        sys.settrace(before)
        sys.setprofile(None)
    return complaint


def host_of_this_task() -> Initiator:
    """The initiator around the calling task."""
    initiator = current_initiator()
    assert isinstance(initiator, Initiator)
    return initiator
