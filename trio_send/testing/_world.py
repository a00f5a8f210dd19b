"""A world: sockets, initiators and sends whose every step is chosen by the explorer and checked by rules."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, final

import attrs
import trio

from .. import (
    AsyncResult,
    ExitPolicy,
    Initiator,
    InvalidOperationError,
    ObjectDisposedError,
    Socket,
    SocketAsyncEventArgs,
    SocketError,
    SocketException,
    SocketShutdown,
    current_initiator,
)
from ._chosen_port import ChosenPort
from ._record import InitiatorRecord, Sent, SocketRecord, Taken
from ._rules import RULES
from ._uses import Uses, split
from ._witness import Witness
from ._world_initiator import OpenInitiator

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    from typing_extensions import Self

    from ._case import Case
    from ._uses import Then

#: How many bytes a world can send: each has a value of its own, so that it is known whose it is.
MOST_BYTES = 256


@final
@attrs.frozen
class _Stop:
    """Something that the explorer may stop: a send."""

    world: World
    sent: Sent

    @property
    def cancel_called(self) -> bool:
        sent = self.sent
        return sent.stopped is not None or sent.is_over or not self.world._uses.is_pending(sent)

    def cancel(self) -> None:
        self.world.stop(self.sent)


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
        self._witness = Witness(case)
        self._record = self._witness.record
        self._offset = 0
        self._sockets: dict[Socket, SocketRecord] = {}
        self._ports: list[ChosenPort] = []
        self._initiators: list[Initiator] = []
        self._scopes: dict[int, InitiatorRecord] = {}
        self._uses = Uses(self._witness)

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
            self._uses.settle(sent)
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
            record.taken.append(Taken(self._witness.moment(), data, trio.current_time()))

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
        return OpenInitiator(self._witness, on_exit, grace, self._opened)

    def send_async(
        self,
        socket: Socket,
        size: int,
        *,
        parts: int = 1,
        timeout: float | None = None,
        stall_timeout: float | None = None,
        again: Sent | None = None,
        then: Then | None = None,
    ) -> Sent:
        """Start a send with args of its own, or with those of an earlier one.

        Args:
          socket: one of this world's.
          size: how many bytes.
          parts: in how many buffers they are.
          timeout: as for `SocketAsyncEventArgs.timeout`, if it is given.
          stall_timeout: as for `SocketAsyncEventArgs.stall_timeout`, if it is given.
          again: an earlier send, by `send_async`, whose args are to be used. If they are in use, nothing is started.
          then: called with the send by the handler of its event, and may be asynchronous. What it raises is noted, and
            held back where it leaves an initiator. Not with ``again``, whose args have their handler.

        Raises:
          ValueError: there are both ``again`` and ``then``.
        """
        if again is not None and then is not None:
            raise ValueError("again and then cannot both be given: those args have their handler")
        sent = self._new(socket, size, "send_async")
        args = (
            self._uses.make_args(sent, parts, then)
            if again is None
            else self._uses.reuse_args(sent, parts, again)
        )
        if args is None:
            self._refused(sent)
            sent.answered = self._witness.moment()
            return sent
        if timeout is not None:
            args.timeout = timeout
        if stall_timeout is not None:
            args.stall_timeout = stall_timeout
        self._case.cancellable(_Stop(self, sent), str(sent))
        try:
            sent.pending = socket.send_async(args)
        except (InvalidOperationError, ObjectDisposedError):
            self._refused(sent)
        else:
            self._uses.activated(sent)
        sent.answered = self._witness.moment()
        return sent

    def begin_send(
        self, socket: Socket, size: int, *, parts: int = 1, callback: bool = True
    ) -> Sent:
        """Begin a send.

        Args:
          socket: one of this world's.
          size: how many bytes.
          parts: in how many buffers they are.
          callback: whether it has a callback.
        """
        sent = self._new(socket, size, "begin_send")
        sent.is_told = callback
        message = sent.message if parts == 1 else split(sent.message, parts)
        try:
            result = socket.begin_send(
                message, callback=partial(self._uses.told, sent) if callback else None
            )
        except SocketException as error:
            sent.count = error.bytes_transferred
            sent.error = error.socket_error_code.name
            sent.is_over = True
        except (InvalidOperationError, ObjectDisposedError):
            self._refused(sent)
        else:
            sent.pending = not result.is_completed
            self._uses.begun(sent, result)
            self._case.cancellable(_Stop(self, sent), str(sent))
        sent.answered = self._witness.moment()
        return sent

    async def send(self, socket: Socket, size: int, *, by_args: bool = False) -> Sent:
        """Send, on behalf of the calling task, in a scope that the explorer may cancel.

        Args:
          socket: one of this world's.
          size: how many bytes.
          by_args: whether to await args, and not bytes.

        **Checkpoints**: always.

        **If cancelled**: by the explorer, it returns; by others, `trio.Cancelled`. How much was accepted is known then
        if the send is one by args, or if the stream is torn.

        **Threads**: only from the Trio thread.
        """
        sent = self._new(socket, size, "send")
        args = self._uses.make_args(sent, 1) if by_args else None
        was_cancelled = True
        try:
            with self._case.cancellable(trio.CancelScope(), str(sent)):
                sent.count = await socket.send(sent.message if args is None else args)
                sent.error = SocketError.SUCCESS.name
                was_cancelled = False
        except SocketException as error:
            sent.count = error.bytes_transferred
            sent.error = error.socket_error_code.name
            was_cancelled = False
        except InvalidOperationError:
            self._refused(sent)
            was_cancelled = False
        finally:
            sent.answered = self._witness.moment()
            if was_cancelled:
                sent.was_cancelled, sent.stopped = True, sent.answered
            if args is None or not was_cancelled:
                sent.is_over = True
        return sent

    async def wait(self, sent: Sent) -> None:
        """Wait until a send has ended that was started by `send_async` or `begin_send`.

        Args:
          sent: the send. The result of one that was begun is taken.

        **Checkpoints**: always.

        **If cancelled**: `trio.Cancelled`; the send goes on.

        **Threads**: only from the Trio thread.
        """
        operation = self._uses[sent]
        if isinstance(operation, SocketAsyncEventArgs):
            times = len(sent.resumed)
            count = await operation.wait()
            if times == len(sent.resumed):
                sent.awaited_as.append((count, None))
        elif isinstance(operation, AsyncResult):
            (socket,) = [s for s, r in self._sockets.items() if r.number == sent.socket]
            try:
                count = await socket.end_send(operation)
            except SocketException as error:
                sent.awaited_as.append((error.bytes_transferred, error.socket_error_code.name))
            except InvalidOperationError:
                pass  # it was taken already
            else:
                sent.awaited_as.append((count, SocketError.SUCCESS.name))
        else:
            await trio.lowlevel.checkpoint()

    def stop(self, sent: Sent) -> None:
        """Stop a send; if it is over, do nothing, whoever uses its args by now.

        Args:
          sent: the send, by `send_async` or `begin_send`.
        """
        self._uses.stop(sent)

    def resume(self, socket: Socket) -> Sent | None:
        """Send the rest of the message that was cut, if the socket is torn and it was sent by args.

        Args:
          socket: one of this world's.

        Returns:
          What goes on; None if nothing does.
        """
        torn = socket.torn
        if torn is None or not isinstance(torn.operation, SocketAsyncEventArgs):
            return None
        args = torn.operation
        sent = self._uses.whose(args)
        undo = self._uses.take_up(sent)
        try:
            sent.resumed[-1] = socket.resume(args)
        except (InvalidOperationError, ObjectDisposedError):
            # Its end has not been told yet, or there is nowhere to go on.
            undo()
            return None
        self._uses.activated(sent)
        sent.initiator = self._owner()
        return sent

    async def send_rest(self, socket: Socket) -> None:
        """Send the rest of the message that was cut, on behalf of the calling task, if it was sent by args.

        Args:
          socket: one of this world's.

        **Checkpoints**: always.

        **If cancelled**: `trio.Cancelled`, and no further byte is sent.

        **Threads**: only from the Trio thread.
        """
        torn = socket.torn
        if torn is None or not isinstance(torn.operation, SocketAsyncEventArgs):
            await trio.lowlevel.checkpoint()
            return
        sent = self._uses.whose(torn.operation)
        undo = self._uses.take_up(sent)
        sent.initiator = None
        is_sent = False
        try:
            await socket.send_rest()
            is_sent = True
        except SocketException:
            is_sent = True  # it was tried, and the args tell how it ended
        except InvalidOperationError:
            undo()
            is_sent = True
        finally:
            if not is_sent:
                sent.stopped = self._witness.moment()

    def forget_torn(self, socket: Socket) -> None:
        """Say that a cut message may be written behind.

        Args:
          socket: one of this world's.
        """
        socket.forget_torn()
        self._sockets[socket].forgiven.append(self._witness.moment())

    def is_closed(self, socket: Socket) -> bool:
        """Tell whether a socket was closed.

        Args:
          socket: one of this world's.
        """
        return self._sockets[socket].closed is not None

    def close(self, socket: Socket) -> None:
        """Close a socket, which stops what is pending on it.

        Args:
          socket: one of this world's.
        """
        record = self._sockets[socket]
        if record.closed is None:
            pending = self._pending_on(record)
            socket.close()
            record.closed = self._witness.moment_of_stop()
            for sent in pending:
                sent.stopped = record.closed

    def shutdown(self, socket: Socket) -> None:
        """Say that nothing more will be sent over a socket, which ends what is pending on it.

        Args:
          socket: one of this world's, not closed.
        """
        pending = self._pending_on(self._sockets[socket])
        socket.shutdown(SocketShutdown.SEND)
        for sent in pending:
            sent.stopped = self._witness.moment()

    # How ------------------------------------------------------------------------------------------

    def _opened(self, initiator: Initiator, record: InitiatorRecord) -> None:
        self._scopes[id(initiator)] = record
        self._initiators.append(initiator)

    def _look(self) -> object:
        """Return all that a step can change, as far as a program can tell."""
        return (
            self._witness.moments,
            self._case._touches,
            [port.is_writable for port in self._ports],
            [(s.queued_operations, s.queued_bytes, s.torn is None) for s in self._sockets],
            self._uses.look(),
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
            started=self._witness.moment(),
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

    def _pending_on(self, record: SocketRecord) -> list[Sent]:
        """What is pending on a socket, as far as that is known."""
        return [
            sent
            for sent in self._record.sends
            if sent.socket == record.number
            and not sent.is_over
            and sent.stopped is None
            and (sent.face == "send" or self._uses.is_pending(sent))
        ]
