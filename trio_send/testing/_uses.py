"""What the sends of a world are made with: args, which several of them may use in turn, or a result of its own."""

from __future__ import annotations

from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, TypeAlias, final

import attrs

from .. import (
    AsyncResult,
    InvalidOperationError,
    SocketAsyncEventArgs,
    SocketError,
    SocketException,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ._record import Sent
    from ._witness import Witness

#: What a send is made with.
Operation: TypeAlias = "SocketAsyncEventArgs | AsyncResult"

#: What follows the event of a send.
Then: TypeAlias = "Callable[[Sent], object]"


@final
class Uses:
    """Knows which operation a send has, and whose the args are now.

    Args:
      witness: takes note of what is told.
    """

    def __init__(self, witness: Witness) -> None:
        self._witness = witness
        self._operations: dict[int, Operation] = {}
        self._activations: dict[int, int] = {}
        self._latest: dict[SocketAsyncEventArgs, Sent] = {}

    # To begin -----------------------------------------------------------------------------------------

    def make_args(self, sent: Sent, parts: int, then: Then | None = None) -> SocketAsyncEventArgs:
        """Return fresh args for a send.

        Args:
          sent: the send.
          parts: in how many buffers its message is.
          then: called by the handler of its event, and not by those of later ones.
        """
        args = SocketAsyncEventArgs()
        self._fill(args, sent, parts)
        self._use(args, sent)
        args.completed += self._make_handler(sent, then)
        return args

    def reuse_args(self, sent: Sent, parts: int, earlier: Sent) -> SocketAsyncEventArgs | None:
        """Return the args of an earlier send, if it had some and they are not in use.

        Args:
          sent: the send.
          parts: in how many buffers its message is.
          earlier: the earlier send.
        """
        args = self._operations.get(earlier.number)
        if not isinstance(args, SocketAsyncEventArgs):
            return None
        before = self._latest[args]
        count, error = args.bytes_transferred, args.socket_error.name
        try:
            self._fill(args, sent, parts)
        except InvalidOperationError:
            return None
        if not before.is_over:
            before.count, before.error, before.is_over = count, error, True
        self._use(args, sent)
        return args

    def _fill(self, args: SocketAsyncEventArgs, sent: Sent, parts: int) -> None:
        if parts == 1:
            args.buffer_list = None
            args.set_buffer(bytearray(sent.message))
        else:
            args.set_buffer(None)
            args.buffer_list = split(sent.message, parts)

    def _use(self, args: SocketAsyncEventArgs, sent: Sent) -> None:
        self._operations[sent.number] = args
        self._latest[args] = sent

    def begun(self, sent: Sent, result: AsyncResult) -> None:
        """Take note of the result of a send."""
        self._operations[sent.number] = result

    def activated(self, sent: Sent) -> None:
        """Take note of the number of the activation that a send by args has now."""
        args = self._operations[sent.number]
        assert isinstance(args, SocketAsyncEventArgs)
        self._activations[sent.number] = args.activation

    def _make_handler(
        self, first: Sent, then: Then | None
    ) -> Callable[[object, SocketAsyncEventArgs], object]:
        if then is None:
            return lambda _, args: self.told(self._latest[args], args)

        def completed(_: object, args: SocketAsyncEventArgs) -> None:
            sent = self._latest[args]
            self.told(sent, args)
            if sent is first:
                try:
                    then(sent)
                except Exception as error:
                    self._witness.note_raised(error)
                    raise

        async def completed_later(_: object, args: SocketAsyncEventArgs) -> None:
            sent = self._latest[args]
            self.told(sent, args)
            if sent is first:
                result: Any = then(sent)
                try:
                    await result
                except Exception as error:
                    self._witness.note_raised(error)
                    raise

        return completed_later if iscoroutinefunction(then) else completed

    # While it goes on ---------------------------------------------------------------------------------

    def __getitem__(self, sent: Sent) -> Operation | None:
        """The operation of a send; None if it has none, or somebody else uses its args."""
        operation = self._operations.get(sent.number)
        if isinstance(operation, SocketAsyncEventArgs) and self._latest[operation] is not sent:
            return None
        return operation

    def whose(self, args: SocketAsyncEventArgs) -> Sent:
        """Return the send that uses args now."""
        return self._latest[args]

    def is_pending(self, sent: Sent) -> bool:
        """Tell whether the operation of a send is pending."""
        operation = self[sent]
        return operation is not None and _is_pending(operation)

    def stop(self, sent: Sent) -> None:
        """Stop the operation of a send, if it still is the one of this send."""
        operation = self._operations.get(sent.number)
        if isinstance(operation, SocketAsyncEventArgs):
            user = self._latest[operation]
            activation = self._activations.get(sent.number)
            if activation is None and user is not sent:
                return  # it was refused, so there was never anything to stop
            if operation.cancel(activation=activation):
                user.stopped = self._witness.moment_of_stop()
                if user is not sent:
                    self._witness.record.strays.append(sent)
        elif operation is not None and operation.cancel():
            sent.stopped = self._witness.moment_of_stop()

    def take_up(self, sent: Sent) -> Callable[[], None]:
        """Take note that the rest of a send is about to be sent; return what to call if it is not."""
        before = attrs.asdict(sent, recurse=False)
        sent.told_as = sent.stopped = None
        sent.awaited_as = []
        sent.is_over = False
        sent.resumed.append(False)

        def undo() -> None:
            sent.resumed.pop()
            for name, value in before.items():
                setattr(sent, name, value)

        return undo

    def told(self, sent: Sent, operation: Operation) -> None:
        """Take note that somebody is told of the end of a send."""
        sent.told.append(self._witness.moment())
        sent.told_as = (operation.bytes_transferred, _error_of(operation))
        if isinstance(operation, SocketAsyncEventArgs):
            buffers: Sequence[object] = operation.buffer_list or [operation.buffer]
            sent.was_free = all(map(_is_free, buffers))

    def settle(self, sent: Sent) -> None:
        """Read how the operation of a send says that it has ended."""
        operation = self[sent]
        if operation is None or sent.is_over:
            return
        sent.is_over = not _is_pending(operation)
        sent.count = operation.bytes_transferred
        sent.error = _error_of(operation)

    def look(self) -> object:
        """Return all that a step can change, as far as a program can tell."""
        return [
            (_is_pending(operation), operation.bytes_transferred)
            for operation in self._operations.values()
        ]


def split(message: bytes, parts: int) -> list[bytearray]:
    """Return a message as so many buffers, the last of which holds what is left."""
    size = len(message) // parts
    starts = [i * size for i in range(parts)]
    return [
        bytearray(message[i:j]) for i, j in zip(starts, [*starts[1:], len(message)], strict=True)
    ]


def _is_free(buffer: Any) -> bool:
    """Tell whether a buffer can be changed in length, so that nobody holds it."""
    try:
        buffer.append(0)
        buffer.pop()
    except BufferError:
        return False
    return True


def _is_pending(operation: Operation) -> bool:
    if isinstance(operation, SocketAsyncEventArgs):
        return operation.pending
    return not operation.is_completed


def _error_of(operation: Operation) -> str:
    if isinstance(operation, SocketAsyncEventArgs):
        return operation.socket_error.name
    result = operation.outcome
    error = getattr(result, "error", None)
    if isinstance(error, SocketException):
        return error.socket_error_code.name
    return "" if result is None else SocketError.SUCCESS.name
