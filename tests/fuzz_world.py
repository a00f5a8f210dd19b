"""The things a fuzzed sequence of calls is made on, and what has to be true of them whatever is called.

A sequence is a list of steps, each of them the name of an action of `tests.fuzz_actions` and a few bytes that say on
what. They mean the same each time, so a sequence that fails can be made shorter and run again.
"""

from __future__ import annotations

import array
import contextlib
import os
import socket as stdlib_socket
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NoReturn

import attrs
import outcome
import trio
from trio.testing import MockClock

from tests import fuzz_oracle
from tests.fuzz_oracle import Entry, RecordingPort
from tests.helpers import bytes_of, stdlib_pair
from trio_send import (
    AsyncResult,
    BufferManager,
    Initiator,
    ManualResetEvent,
    SendPacketsElement,
    Socket,
    SocketAsyncEventArgs,
    SocketAsyncEventArgsPool,
    SocketAsyncOperation,
    SocketError,
    SocketException,
    abc,
)
from trio_send._operations import bulk_ends
from trio_send._operations.states import CUT
from trio_send._owners import exiting_owner as _leaving
from trio_send.testing import Blocked, ScriptedPort

Step = tuple[str, bytes]

#: Virtual seconds that an awaited call may take, and those that may pass before an initiator that is left is cancelled.
PATIENCE = 20

#: No more than so many things of a kind, or a sequence would meet none of them twice.
MOST_SOCKETS = 6
MOST_ARGS = 6
MOST_TASKS = 12

STREAM = bytes_of(1 << 16, seed=7)


class Wrong(Exception):
    """Something that must not be."""


class Boom(Exception):
    """What handlers and bodies raise."""


class Pick:
    """Chooses by the bytes of a step; by zeros when there are no more.

    Attributes:
      wrong_type: whether a thing of a type was chosen that belongs nowhere.
    """

    def __init__(self, data: bytes) -> None:
        self._data = iter(data)
        self.wrong_type = False

    def number(self, below: int) -> int:
        return next(self._data, 0) % below

    def of(self, things: Sequence[Any]) -> Any:
        return things[self.number(len(things))]

    def or_wrong(self, thing: Any) -> Any:
        """Return ``thing``, or one time in sixteen something of a wrong type."""
        number = self.number(64)
        if number < 60:
            return thing
        self.wrong_type = True
        return (None, object(), "text", 1.5)[number - 60]


@attrs.define(eq=False)
class Watched:
    """A socket, and what it was asked to send.

    Attributes:
      port: what has kept the bytes that were accepted; None if nobody has.
      peer: the other end, a plain socket; None if there is none.
    """

    socket: Socket
    port: Any = None
    peer: stdlib_socket.socket | None = None
    entries: list[Entry] = attrs.field(factory=list)
    #: The message that was cut, and how many bytes had been accepted when that was seen.
    torn: tuple[Any, int] | None = None


@attrs.define(eq=False)
class Follower:
    """Args, and what has become of them.

    Attributes:
      has_handler: whether a handler counts the events.
      pended: how many operations of theirs were pending.
      told: how many events there were.
      entry: the send that was started latest.
      count: what the count was at the latest look.
      settled: whether it must not change any more.
    """

    args: SocketAsyncEventArgs
    has_handler: bool
    pended: int = 0
    told: int = 0
    entry: Entry | None = None
    count: int = 0
    settled: bool = False


class Steps(trio.abc.Instrument):
    """Counts the steps of tasks, and so tells whether a call has let anybody else run."""

    def __init__(self) -> None:
        self.count = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.count += 1


class CountingArgs(SocketAsyncEventArgs):
    """Args that are told without a handler."""

    follower: Follower
    world: World

    def on_completed(self) -> Any:
        self.world.tell(self.follower)
        return super().on_completed()


class World:
    """Everything that a sequence is about.

    Args:
      header: chooses what is there at the beginning.

    Attributes:
      log: what was called, and what came of it.
      happened: what happened, and how often.
    """

    def __init__(self, header: bytes) -> None:
        pick = Pick(header)
        #: Whether to read all properties before and after each call. It has an influence of its own: whoever asks
        #: whether an operation is pending is told of what was held back.
        self.pries = pick.number(2) == 1
        self.budget = pick.of((256, 2, 1))
        self.ends_per_trip = pick.of((256, 2, 1))
        self.first_sockets = [pick.number(256) for _ in range(1 + pick.number(3))]
        self.log: list[str] = []
        self.happened: Counter[str] = Counter()
        self.sockets: list[Watched] = []
        self.followers: list[Follower] = []
        self.results: list[AsyncResult] = []
        self.taken: list[AsyncResult] = []
        self.callbacks: list[tuple[AsyncResult, list[AsyncResult]]] = []
        self.initiators: list[Initiator] = []
        self.scopes: list[trio.CancelScope] = []
        self.streams: list[Any] = []
        self.batches: list[Any] = []
        self.buffers: list[Any] = []
        self.volatile: set[int] = set()
        self.pool = SocketAsyncEventArgsPool()
        self.manager = BufferManager(40, 16)
        self.event = ManualResetEvent()
        self.instruments: list[abc.Instrument] = [abc.Instrument(), FailingInstrument()]
        self.steps = Steps()
        self.inside: str | None = None
        self.fuel = 40
        self.tasks = 0
        self.sent = 0
        self.path = ""
        self.file: Any = None
        self.stack = contextlib.ExitStack()

    def wrong(self, complaint: str) -> NoReturn:
        raise Wrong(complaint)

    # -- things -------------------------------------------------------------------------------------------------------

    def fresh(self, size: int) -> bytes:
        """Bytes that nobody else sends."""
        start = self.sent % (len(STREAM) - size)
        self.sent += size
        return STREAM[start : start + size]

    def add_buffer(self, pick: Pick) -> Any:
        size = pick.of((8, 40, 1, 8, 0, 3, 40, 5000))
        data = self.fresh(size)
        kind = pick.number(6)
        buffer: Any = data
        if kind in (1, 2):
            buffer = bytearray(data)
        elif kind == 3:
            buffer = memoryview(data)
        elif kind == 4:
            buffer = memoryview(bytearray(data))
        elif kind == 5:
            buffer = array.array("H", data[: size // 2 * 2])
        if len(self.buffers) < 12:
            self.buffers.append(buffer)
        return buffer

    def add_socket(self, kind: int, script: Sequence[int | str | Blocked] = ()) -> Watched | None:
        """Make a socket of a kind."""
        if len(self.sockets) >= MOST_SOCKETS:
            return None
        on_torn = "allow" if kind >= 224 else "refuse"
        which = kind % 11
        peer: stdlib_socket.socket | None = None
        port: Any
        if which <= 3:
            port = ScriptedPort(script, is_stream=which != 3)
            watched = Watched(Socket.from_port(port, on_torn=on_torn), port)
        elif which <= 8:
            if which <= 5:
                left, peer = stdlib_pair("unix" if which == 4 else "tcp4", tiny=True)
            elif which == 6:
                left, peer = stdlib_socket.socketpair(type=stdlib_socket.SOCK_DGRAM)
                left.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_SNDBUF, 1)
            elif which == 7:
                left, peer = (
                    stdlib_socket.socket(type=stdlib_socket.SOCK_DGRAM),
                    stdlib_socket.socket(type=stdlib_socket.SOCK_DGRAM),
                )
                peer.bind(("127.0.0.1", 0))
                left.connect(peer.getsockname())
            else:
                left = stdlib_socket.socket(type=stdlib_socket.SOCK_DGRAM)
            port = RecordingPort(left)
            made = Socket.from_port(port, connected=peer is not None, on_torn=on_torn)
            watched = Watched(made, port, peer)
        elif which == 9:
            watched = Watched(Socket(on_torn=on_torn))
        else:
            left, peer = stdlib_pair("tcp4", tiny=True)
            watched = Watched(Socket.from_stdlib(left, on_torn=on_torn), None, peer)
        if peer is not None:
            peer.setblocking(False)
            self.stack.callback(peer.close)
        self.sockets.append(watched)
        return watched

    def add_args(self, pick: Pick, handler: Step | None) -> None:
        """Make args, with a handler that does a step, or counts only, or is asynchronous; or with none."""
        if len(self.followers) >= MOST_ARGS:
            return
        kind = pick.number(5)
        args = CountingArgs() if kind == 4 else SocketAsyncEventArgs()
        follower = Follower(args, kind != 0)
        if isinstance(args, CountingArgs):
            args.follower, args.world = follower, self
        elif kind in (1, 2):

            def on_completed(socket: Socket, args: SocketAsyncEventArgs) -> None:
                self.tell(follower)
                self.react(kind, handler)

            args.completed += on_completed
        elif kind == 3:

            async def on_completed_async(socket: Socket, args: SocketAsyncEventArgs) -> None:
                self.tell(follower, may_be_restarted=True)
                await trio.sleep(1)
                self.react(kind, handler)

            args.completed += on_completed_async
        if pick.number(4):
            args.set_buffer(self.add_buffer(pick))
        self.followers.append(follower)

    def react(self, kind: int, handler: Step | None) -> None:
        """Do a handler's step."""
        if handler is None or not self.fuel:
            return
        self.fuel -= 1
        if kind == 2 and handler[1][:1] == b"\xff":
            raise Boom
        self.happened["steps of handlers"] += 1
        self.act(handler)

    def act(self, step: Step) -> None:
        """Do a step that never waits; `tests.fuzz_toolbox` knows where to find it."""
        raise NotImplementedError

    def tell(self, follower: Follower, *, may_be_restarted: bool = False) -> None:
        """Be told of an event."""
        if self.inside is not None:
            self.wrong(f"a handler was called from inside {self.inside}")
        follower.told += 1
        self.happened["events"] += 1
        if follower.told > follower.pended:
            self.wrong(f"{follower.args} were told of more than was pending")
        if follower.args._operation.in_flight and not may_be_restarted:
            self.wrong(f"{follower.args} were told of before they were free")

    # -- calls --------------------------------------------------------------------------------------------------------

    def call(
        self, what: str, pick: Pick, function: Callable[..., Any], *args: Any, **more: Any
    ) -> Any:
        """Make a call that never waits; return its outcome, an `outcome.Value` or `outcome.Error`."""
        before = self.values() if self.pries else None
        self.inside = what
        try:
            came: Any = outcome.Value(function(*args, **more))
        except BaseException as error:
            came = outcome.Error(error)
        finally:
            self.inside = None
        self.log.append(f"{what}{args}{more or ''} -> {came}")
        self.happened["calls"] += 1
        if isinstance(came, outcome.Error):
            self.judge(what, came.error, pick.wrong_type, before)
        self.check()
        return came

    async def wait(
        self,
        what: str,
        pick: Pick,
        start: Callable[[], Awaitable[Any]],
        entry: Callable[[], Callable[[Any], None]] | None = None,
    ) -> None:
        """Make a call that waits, and stop it after a while.

        Args:
          entry: called in the same step as ``start``; what it returns is called with the outcome, which is None after
            a cancellation.
        """
        with trio.CancelScope() as scope:
            self.scopes.append(scope)
            scope.deadline = trio.current_time() + PATIENCE
            before = self.values() if self.pries else None
            steps = self.steps.count
            conclude = None if entry is None else entry()
            self.log.append(f"await {what} begins")
            self.happened["awaited calls"] += 1
            came: Any = None
            try:
                came = outcome.Value(await start())
            except trio.Cancelled:
                self.happened["cancelled"] += 1
                raise
            except BaseException as error:
                came = outcome.Error(error)
                unseen = before if self.steps.count == steps else None
                self.judge(what, error, pick.wrong_type, unseen)
                if unseen is not None and not fuzz_oracle.is_refusal(error):
                    self.happened[f"{what} raised without a checkpoint"] += 1
            else:
                if self.steps.count == steps:
                    self.wrong(f"{what} was no checkpoint")
            finally:
                self.log.append(f"await {what} -> {came}")
                if conclude is not None:
                    conclude(came)
        if scope in self.scopes:
            self.scopes.remove(scope)
        self.check()

    def judge(
        self, what: str, error: BaseException, wrong_type: bool, before: dict[str, Any] | None
    ) -> None:
        """Hold an error to the documentation of the call, and a refused call to having changed nothing."""
        if isinstance(error, Wrong):
            raise error
        self.happened[f"{what}: {type(error).__name__}"] += 1
        if not fuzz_oracle.is_documented(what, error, wrong_type=wrong_type):
            raise Wrong(f"{what} raised what it does not document: {error!r}") from error
        if before is not None and fuzz_oracle.is_refusal(error):
            after = self.values()
            for name, value in before.items():
                if after.get(name) != value:
                    self.wrong(
                        f"{what} was refused with {error!r}, but {name} was {value} and is {after.get(name)}"
                    )

    # -- what has to be true ------------------------------------------------------------------------------------------

    def values(self) -> dict[str, Any]:
        """Everything that can be read of everything."""
        found: dict[str, Any] = {}
        for number, follower in enumerate(self.followers):
            args = follower.args
            found |= {f"args {number}.{name}": getattr(args, name) for name in ARGS_PROPERTIES}
            found[f"args {number}.outcome"] = repr(args.outcome)
            found[f"args {number}.handlers"] = len(args.completed)
        for number, watched in enumerate(self.sockets):
            socket = watched.socket
            found |= {
                f"socket {number}.{name}": getattr(socket, name) for name in SOCKET_PROPERTIES
            }
            found[f"socket {number}.statistics"] = socket.statistics()
            found[f"socket {number}.fileno"] = socket.fileno()
        for number, result in enumerate(self.results):
            found |= {
                f"result {number}.{name}": getattr(result, name) for name in RESULT_PROPERTIES
            }
            found[f"result {number}.outcome"] = repr(result.outcome)
        for number, initiator in enumerate(self.initiators):
            found[f"initiator {number}"] = initiator.statistics()
        for number, batch in enumerate(self.batches):
            found[f"batch {number}"] = (
                batch.datagrams_transferred,
                batch.bytes_transferred,
                batch.pending,
            )
        found["pool"] = self.pool.count
        found["manager"] = self.manager.available
        return found

    def check(self) -> None:
        """Look whether everything is as it has to be at any time."""
        for buffer in self.buffers:
            if isinstance(buffer, bytearray):
                try:
                    buffer.append(0)
                except BufferError:
                    self.wrong(f"a buffer of {len(buffer)} bytes is locked")
                buffer.pop()
        for follower in self.followers:
            self._check_args(follower)
        for watched in self.sockets:
            statistics = watched.socket.statistics()
            if statistics.queued_bytes < 0 or statistics.queued_operations < 0:
                self.wrong(f"{statistics} cannot be")
            if not statistics.queued_operations and statistics.queued_bytes:
                self.wrong(f"nothing is queued, but {statistics.queued_bytes} bytes are")
            waiting, operation = 0, watched.socket._core.sends.head
            while operation is not None:
                waiting += operation.size_to_send
                operation = operation.next
            if statistics.queued_bytes != waiting:
                self.wrong(f"{waiting} bytes wait: {statistics}")
            torn = watched.socket.torn
            if torn is None:
                watched.torn = None
            elif watched.torn is None or watched.torn[0] is not torn:
                watched.torn = torn, statistics.bytes_accepted
            elif watched.torn[1] != statistics.bytes_accepted:
                self.wrong(f"{statistics.bytes_accepted - watched.torn[1]} bytes behind {torn}")
            if (torn is None) == statistics.is_torn:
                self.wrong(f"torn is {watched.socket.torn}, but {statistics}")
            if watched.port is not None and watched.socket._core.port is watched.port:
                accepted = len(watched.port.accepted)
                if statistics.bytes_accepted != accepted:
                    self.wrong(f"the port accepted {accepted} bytes: {statistics}")

    def _check_args(self, follower: Follower) -> None:
        args = follower.args
        count = args.bytes_transferred
        if args._operation.in_flight or args._operation.state == CUT:
            message = args._operation.message
            size = None if message is None else message.size
            if count < 0 or (size is not None and count > size and args._operation.step is None):
                self.wrong(f"{args} count {count} of {size} bytes")
        if args._operation.in_flight:
            if follower.settled:
                self.wrong(f"{args} are pending, though nobody started them")
            if count < follower.count:
                self.wrong(f"{args} counted {follower.count} bytes before, and {count} now")
        else:
            if follower.settled and count != follower.count:
                self.wrong(f"{args} counted {follower.count} bytes in the end, and {count} now")
            follower.settled = True
        follower.count = count
        if self.pries:
            self._check_outcome(args)

    def _check_outcome(self, args: SocketAsyncEventArgs) -> None:
        ended, error = args.outcome, args.socket_error
        if args.pending != (error is SocketError.IO_PENDING):
            self.wrong(f"{args}: pending is {args.pending}, the error {error!r}")
        if args.pending or args.last_operation is SocketAsyncOperation.NONE:
            if ended is not None:
                self.wrong(f"{args} have the outcome {ended}")
        elif isinstance(ended, outcome.Value):
            if error is not SocketError.SUCCESS or ended.value != args.bytes_transferred:
                self.wrong(f"{args} ended with {error!r} and with {ended}")
        else:
            assert ended is not None
            raised = ended.error
            if not isinstance(raised, SocketException) or raised.socket_error_code is not error:
                self.wrong(f"{args} ended with {error!r} and with {ended}")
            elif raised.bytes_transferred not in (0, args.bytes_transferred):
                self.wrong(f"{args} ended with {ended}")

    def check_bytes(self) -> None:
        """Look whether each socket got what was sent on it, in order."""
        for number, watched in enumerate(self.sockets):
            if watched.port is None or watched.socket._core.port is not watched.port:
                continue
            complaint = fuzz_oracle.complaint_about(watched.entries, watched.port.accepted)
            if complaint is not None:
                self.wrong(f"socket {number}: {complaint}")

    def check_left(self, initiator: Initiator) -> None:
        """Look whether nothing of an initiator that was left is alive."""
        statistics = initiator.statistics()
        if statistics.pending_operations or statistics.unfinished_events or statistics.queues:
            self.wrong(f"{initiator} was left: {statistics}")

    def check_over(self) -> None:
        """Look whether everything has ended, and was told of."""
        self.check()
        for follower in self.followers:
            if follower.args._operation.in_flight:
                self.wrong(f"{follower.args} are pending in the end")
            if follower.has_handler and follower.told != follower.pended:
                self.wrong(
                    f"{follower.args} pended {follower.pended} times and were told of {follower.told} times"
                )
        for result in self.results:
            if not result.is_completed or result.outcome is None:
                self.wrong(f"{result} is pending in the end")
        for result, calls in self.callbacks:
            if calls != [result]:
                self.wrong(f"the callback of {result} was called {len(calls)} times")
        self.check_bytes()

    # -- the run ------------------------------------------------------------------------------------------------------

    def run(self, main: Callable[[], Awaitable[object]]) -> None:
        """Run everything by a clock that jumps, and clean up after it."""
        before = _descriptors()
        budget, look = _leaving.START_BUDGET, _leaving.STARTS_PER_LOOK
        ends_per_trip = bulk_ends.ENDS_PER_TRIP
        bulk_ends.ENDS_PER_TRIP = self.ends_per_trip  # type: ignore[misc]
        _leaving.START_BUDGET = self.budget  # type: ignore[misc]
        _leaving.STARTS_PER_LOOK = min(look, self.budget)  # type: ignore[misc]
        try:
            with self.stack, tempfile.NamedTemporaryFile() as file:
                file.write(self.fresh(300))
                file.flush()
                self.path, self.file = file.name, file
                self.elements: list[Any] = []
                trio.run(main, clock=MockClock(autojump_threshold=0), instruments=[self.steps])
        finally:
            bulk_ends.ENDS_PER_TRIP = ends_per_trip  # type: ignore[misc]
            _leaving.START_BUDGET = budget  # type: ignore[misc]
            _leaving.STARTS_PER_LOOK = look  # type: ignore[misc]
        for watched in self.sockets:
            watched.socket.close()
        left = _descriptors() - before
        if left:
            self.wrong(f"descriptors were left open: {sorted(left)}")


class FailingInstrument(abc.Instrument):
    """Raises when it is told of bytes."""

    def bytes_accepted(self, *_: object) -> None:
        raise Boom


ARGS_PROPERTIES = (
    "buffer",
    "offset",
    "count",
    "buffer_list",
    "send_packets_elements",
    "bytes_transferred",
    "socket_error",
    "socket_flags",
    "last_operation",
    "remote_end_point",
    "accept_socket",
    "connect_socket",
    "timeout",
    "stall_timeout",
    "pending",
    "activation",
)
SOCKET_PROPERTIES = (
    "connected",
    "high_water",
    "low_water",
    "when_full",
    "torn",
    "queued_bytes",
    "queued_operations",
)
RESULT_PROPERTIES = (
    "async_state",
    "completed_synchronously",
    "is_completed",
    "bytes_transferred",
)


def _descriptors() -> set[int]:
    """The numbers of all descriptors that are open."""
    if not os.path.isdir("/proc/self/fd"):
        return set()
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            os.fstat(int(name))
            found.add(int(name))
    return found


def elements_of(world: World, pick: Pick) -> list[Any]:
    """A list of elements, of buffers and files."""
    made = []
    for _ in range(pick.number(4)):
        kind = pick.number(4)
        if kind < 2:
            made.append(SendPacketsElement(world.fresh(pick.of((5, 0, 20)))))
        elif kind == 2:
            made.append(
                SendPacketsElement(world.path, pick.of((0, 10, 299)), pick.of((None, 7, 400)))
            )
        else:
            made.append(SendPacketsElement(world.file, pick.of((0, 100)), pick.of((20, None))))
    return made


def bytes_of_elements(world: World, elements: Sequence[SendPacketsElement]) -> bytes:
    """What the elements send."""
    data = b""
    for element in elements:
        if element.buffer is not None:
            source = bytes(element.buffer)
            data += source[element.offset : element.offset + element.count]
        else:
            with open(world.path, "rb") as file:
                source = file.read()
            data += source[
                element.offset : element.offset + element.count if element.count else None
            ]
    return data
