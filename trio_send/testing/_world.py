"""A world: sockets, initiators and sends whose every step is chosen by the explorer and checked by rules."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, final

import attrs
import trio

from .. import (
    ExitPolicy,
    Initiator,
    InvalidOperationError,
    Socket,
    SocketAsyncEventArgs,
    SocketError,
    SocketException,
    current_initiator,
    open_initiator,
)
from ._chosen_port import ChosenPort
from ._record import InitiatorRecord, Record, Sent, SocketRecord, Taken
from ._rules import RULES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    from typing_extensions import Self

    from ._case import Case

#: How many bytes a world can send: each has a value of its own, so that it is known whose it is.
MOST_BYTES = 256


@final
@attrs.frozen
class _Stop:
    """Something that the explorer may stop: an operation."""

    world: World
    sent: Sent
    operation: Any

    @property
    def cancel_called(self) -> bool:
        return (
            self.sent.stopped is not None
            or self.sent.is_over
            or self.world._is_over(self.operation)
        )

    def cancel(self) -> None:
        if self.operation.cancel():
            self.sent.stopped = self.world._moment_of_stop()


@final
@attrs.frozen
class _Leave:
    """Something that the explorer may stop: an initiator, with all that is inside of it."""

    world: World
    record: InitiatorRecord
    scope: trio.CancelScope

    @property
    def cancel_called(self) -> bool:
        return self.scope.cancel_called or self.record.left is not None

    def cancel(self) -> None:
        self.record.cancelled = _now(self.world)
        self.scope.cancel()


@final
class _OpenInitiator:
    """What `World.initiator` returns."""

    # Not a generator, which would be looked after by Trio until the garbage collector has found it.

    def __init__(self, world: World, on_exit: ExitPolicy, grace: float | None) -> None:
        self._world = world
        self._manager = open_initiator(on_exit, grace=grace)
        self._record = InitiatorRecord(len(world._record.initiators) + 1, on_exit.name, grace)
        world._record.initiators.append(self._record)
        self._initiator: Initiator | None = None

    async def __aenter__(self) -> Initiator:
        world, record = self._world, self._record
        try:
            self._initiator = initiator = await self._manager.__aenter__()
        except BaseException:
            self._leave()
            raise
        world._scopes[id(initiator)] = record
        world._initiators.append(initiator)
        name = f"initiator {record.number}"
        world._case.cancellable(_Leave(world, record, initiator.cancel_scope), name)
        return initiator

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        self._record.was_raised = exc is not None
        self._record.ended = _now(self._world)
        try:
            return await self._manager.__aexit__(exc_type, exc, traceback)
        finally:
            self._leave()

    def _leave(self) -> None:
        record = self._record
        record.left = _now(self._world)
        if record.cancelled is None and trio.current_effective_deadline() == -math.inf:
            # A scope around it was.
            record.cancelled = record.left
        if self._initiator is not None:
            record.pending = self._initiator.pending_operations


def _now(world: World) -> tuple[int, float]:
    """Return the moment and the time."""
    return world._moment(), trio.current_time()


@final
class World:
    """Sockets on chosen kernels, initiators and sends, all of them checked when the world ends.

    Use it in a scenario, as an asynchronous context manager:

    .. code-block:: python

       async def scenario(case):
           async with World(case) as world:
               socket = world.socket()
               async with world.initiator(ExitPolicy.DRAIN, grace=2):
                   world.send_async(socket, 2)
                   world.begin_send(socket, 1)
                   await trio.sleep(0.5)

       report = explore(scenario, limits={"kernel": 1})

    The kernel's answers are decisions of kind ``"kernel"``. The scope of each initiator, each operation and each
    awaiting call is cancelled by itself, like the scenario. With ``limits={"inside": 1}`` stops come from inside of
    the system call as well, as from a finaliser. At the end every rule that is broken is said with `Case.check`.

    Not in a world: receiving, connecting, files, and threads other than Trio's.

    Args:
      case: what the scenario was given.
    """

    def __init__(self, case: Case) -> None:
        case._is_world = True
        case._look = self._look
        self._case = case
        self._record = Record()
        self._moments = 0
        self._offset = 0
        self._sockets: dict[Socket, SocketRecord] = {}
        self._ports: list[ChosenPort] = []
        self._initiators: list[Initiator] = []
        self._operations: dict[int, Any] = {}
        self._scopes: dict[int, InitiatorRecord] = {}

    async def __aenter__(self) -> Self:
        await trio.lowlevel.checkpoint()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for sent in self._record.sends:
            self._settle(sent)
        for socket, record in self._sockets.items():
            record.left = (socket.queued_operations, socket.queued_bytes)
            socket.close(reset=False)
        for rule in RULES:
            for sentence in rule(self._record):
                self._case._say(sentence, rule.__name__)
        await trio.lowlevel.cancel_shielded_checkpoint()

    # What a scenario does -------------------------------------------------------------------------

    def socket(
        self, *, is_stream: bool = True, errors: Sequence[str] = (), on_torn: Any = "refuse"
    ) -> Socket:
        """Make a socket whose kernel does as is chosen.

        Args:
          is_stream: whether messages may be accepted in part.
          errors: the names of the errnos that an attempt may fail with, such as ``"ECONNRESET"``.
          on_torn: as for `Socket`.
        """
        record = SocketRecord(len(self._record.sockets) + 1, is_stream)

        def note(data: bytes) -> None:
            record.taken.append(Taken(self._moment(), data, trio.current_time()))

        name = f"socket {record.number}"
        port = ChosenPort(self._case, name, note, is_stream=is_stream, errors=errors)
        socket = Socket.from_port(port, on_torn=on_torn)
        self._ports.append(port)
        self._record.sockets.append(record)
        self._sockets[socket] = record
        return socket

    def initiator(
        self, on_exit: ExitPolicy = ExitPolicy.ABORT, *, grace: float | None = None
    ) -> AbstractAsyncContextManager[Initiator]:
        """Open an initiator that the explorer may cancel.

        Args:
          on_exit: its policy.
          grace: as for `open_initiator`.

        **Checkpoints**: when it is left.

        **If cancelled**: as with `open_initiator`.

        **Threads**: only from the Trio thread.
        """
        return _OpenInitiator(self, on_exit, grace)

    def send_async(self, socket: Socket, size: int, *, timeout: float | None = None) -> Sent:
        """Start a send with args of its own.

        Args:
          socket: one of this world's.
          size: how many bytes.
          timeout: as for `SocketAsyncEventArgs.timeout`, if it is given.
        """
        sent = self._new(socket, size, "send_async")
        buffer = bytearray(sent.message)
        args = SocketAsyncEventArgs(buffer)
        if timeout is not None:
            args.timeout = timeout

        def completed(_: object, args: SocketAsyncEventArgs) -> None:
            self._told(sent, args)
            try:
                buffer.append(0)
                buffer.pop()
            except BufferError:
                sent.was_free = False

        args.completed += completed
        self._operations[sent.number] = args
        self._case.cancellable(_Stop(self, sent, args), str(sent))
        try:
            sent.pending = socket.send_async(args)
        except InvalidOperationError:
            self._refused(sent)
        sent.answered = self._moment()
        return sent

    def begin_send(self, socket: Socket, size: int) -> Sent:
        """Begin a send with a callback.

        Args:
          socket: one of this world's.
          size: how many bytes.
        """
        sent = self._new(socket, size, "begin_send")
        try:
            result = socket.begin_send(
                sent.message, callback=lambda result: self._told(sent, result)
            )
        except SocketException as error:
            sent.count = error.bytes_transferred
            sent.error = error.socket_error_code.name
            sent.is_over = True
        except InvalidOperationError:
            self._refused(sent)
        else:
            sent.pending = not result.is_completed
            self._operations[sent.number] = result
            self._case.cancellable(_Stop(self, sent, result), str(sent))
        sent.answered = self._moment()
        return sent

    async def send(self, socket: Socket, size: int) -> Sent:
        """Send, on behalf of the calling task, in a scope that the explorer may cancel.

        Args:
          socket: one of this world's.
          size: how many bytes.

        **Checkpoints**: always.

        **If cancelled**: by the explorer, it returns; by others, `trio.Cancelled`. How much was accepted is not known
        then, unless the stream is torn.

        **Threads**: only from the Trio thread.
        """
        sent = self._new(socket, size, "send")
        try:
            with self._case.cancellable(trio.CancelScope(), str(sent)):
                sent.count = await socket.send(sent.message)
                sent.error = SocketError.SUCCESS.name
        except SocketException as error:
            sent.count = error.bytes_transferred
            sent.error = error.socket_error_code.name
        except InvalidOperationError:
            self._refused(sent)
        finally:
            sent.is_over = True
            sent.answered = self._moment()
            if sent.count is None:
                sent.stopped = sent.answered
        return sent

    def resume(self, socket: Socket) -> Sent | None:
        """Send the rest of the message that was cut, if the socket is torn and it was sent by `send_async`.

        Args:
          socket: one of this world's.

        Returns:
          What goes on; None if nothing does.
        """
        torn = socket.torn
        if torn is None or not isinstance(torn.operation, SocketAsyncEventArgs):
            return None
        args = torn.operation
        (sent,) = [sent for sent in self._record.sends if self._operations.get(sent.number) is args]
        told_as, sent.told_as = sent.told_as, None
        stopped, sent.stopped = sent.stopped, None
        sent.resumed.append(False)
        try:
            sent.resumed[-1] = socket.resume(args)
        except InvalidOperationError:
            # Its end has not been told yet, or there is nowhere to go on.
            sent.resumed.pop()
            sent.told_as, sent.stopped = told_as, stopped
            return None
        sent.initiator = self._owner()
        return sent

    def forget_torn(self, socket: Socket) -> None:
        """Say that a cut message may be written behind.

        Args:
          socket: one of this world's.
        """
        socket.forget_torn()
        self._sockets[socket].forgiven.append(self._moment())

    # How ------------------------------------------------------------------------------------------

    def _moment_of_stop(self) -> int:
        """Return the moment from which on a stop that comes now is in effect."""
        # One from inside of a system call takes effect behind it: what the call accepts is the next moment, however
        # many stops there are.
        return self._moments + 1 if self._case._is_inside else self._moment()

    def _moment(self) -> int:
        self._moments += 1
        return self._moments

    def _look(self) -> object:
        """Return all that a step can change, as far as a program can tell."""
        return (
            self._moments,
            self._case._touches,
            [port.is_writable for port in self._ports],
            [(s.queued_operations, s.queued_bytes, s.torn is None) for s in self._sockets],
            [
                (self._is_over(operation), operation.bytes_transferred)
                for operation in self._operations.values()
            ],
            [(repr(i), i.statistics().unfinished_events) for i in self._initiators],
        )

    def _new(self, socket: Socket, size: int, face: str) -> Sent:
        if self._offset + size > MOST_BYTES:
            raise ValueError(
                f"a world can send at most {MOST_BYTES} bytes, each with its own value"
            )
        message = bytes(range(self._offset, self._offset + size))
        self._offset += size
        sent = Sent(
            number=len(self._record.sends) + 1,
            socket=self._sockets[socket].number,
            face=face,
            message=message,
            initiator=None if face == "send" else self._owner(),
            started=self._moment(),
        )
        self._record.sends.append(sent)
        return sent

    def _owner(self) -> int | None:
        """The number of the initiator that what is started here belongs to."""
        try:
            record = self._scopes.get(id(current_initiator()))
        except InvalidOperationError:
            return None
        return None if record is None else record.number

    def _refused(self, sent: Sent) -> None:
        """Take note that a start changed nothing."""
        sent.count = 0
        sent.is_over = True

    def _told(self, sent: Sent, operation: Any) -> None:
        sent.told.append(self._moment())
        sent.told_as = (operation.bytes_transferred, _error_of(operation))

    def _is_over(self, operation: Any) -> bool:
        if isinstance(operation, SocketAsyncEventArgs):
            return not operation.pending
        return bool(operation.is_completed)

    def _settle(self, sent: Sent) -> None:
        """Read how an operation says that it has ended."""
        operation = self._operations.get(sent.number)
        if operation is None or sent.is_over:
            return
        if isinstance(operation, SocketAsyncEventArgs):
            sent.is_over = not operation.pending
        else:
            sent.is_over = operation.is_completed
        sent.count = operation.bytes_transferred
        sent.error = _error_of(operation)


def _error_of(operation: Any) -> str:
    if isinstance(operation, SocketAsyncEventArgs):
        return operation.socket_error.name
    result = operation.outcome
    error = getattr(result, "error", None)
    if isinstance(error, SocketException):
        return error.socket_error_code.name
    return "" if result is None else SocketError.SUCCESS.name
