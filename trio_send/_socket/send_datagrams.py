"""Many datagrams in one operation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

import trio

from .._base.checks import NotCopied, counted
from .._base.codes import SocketAsyncOperation, SocketError, SocketFlags
from .._base.errors import OperationInProgressError, SocketException
from .._messages.datagrams import Datagrams, datagrams_from_list
from .._operations.operation import Operation
from .core import Verb
from .starts import send_awaited

if TYPE_CHECKING:
    from collections.abc import Iterable

    from typing_extensions import Buffer


@final
class DatagramBatch(NotCopied):
    """Datagrams for `Socket.send_datagrams`, and how many of them were accepted, whatever became of the call.

    To send a batch again means to go on with those that remain.

    Args:
      datagrams: contiguous bytes-like objects, each of them one datagram; they are not copied. The list itself is
        looked at now and not again.

    Raises:
      TypeError: one of them is not bytes-like or not contiguous; the message names it by its index.
    """

    __slots__ = ("__weakref__", "_datagrams", "_earlier_bytes", "_earlier_datagrams", "_operation")

    def __init__(self, datagrams: Iterable[Buffer]) -> None:
        self._operation = Operation()
        self._datagrams: Datagrams = datagrams_from_list("datagrams", datagrams)
        # What earlier calls have sent.
        self._earlier_datagrams = 0
        self._earlier_bytes = 0

    def __repr__(self) -> str:
        return f"<DatagramBatch: {self.datagrams_transferred} of {counted(len(self), 'datagram')} accepted>"

    def __len__(self) -> int:
        return self._earlier_datagrams + self._datagrams.count

    def _begin(self) -> tuple[Operation, Datagrams]:
        """Be about what remains; return what is to be sent."""
        if self._datagrams.sent:
            self._continue()
        return self._operation, self._datagrams

    def _continue(self) -> None:
        self._earlier_datagrams = self.datagrams_transferred
        self._earlier_bytes = self.bytes_transferred
        self._datagrams = self._datagrams.rest()

    @property
    def pending(self) -> bool:
        """Whether a call is under way that sends it."""
        return self._operation.is_pending

    @property
    def datagrams_transferred(self) -> int:
        """How many of the datagrams the kernel has accepted, exact at any time: the first ones, each as a whole."""
        return self._earlier_datagrams + self._datagrams.sent

    @property
    def bytes_transferred(self) -> int:
        """How many bytes those have."""
        return self._earlier_bytes + self._datagrams.bytes_sent

    @property
    def remaining(self) -> list[Buffer]:
        """The datagrams that were not accepted: the very objects of the list."""
        return self._datagrams.unsent


class SendingDatagrams(Verb):
    """The part of `Socket` that sends many datagrams at once."""

    __slots__ = ()

    @trio.lowlevel.enable_ki_protection
    async def send_datagrams(
        self,
        datagrams: Iterable[Buffer] | DatagramBatch,
        address: Any = None,
        socket_flags: SocketFlags = SocketFlags.NONE,
    ) -> int:
        """Send datagrams, one after the other, and wait until the kernel has accepted all of them.

        They are one operation in the socket's one queue, so nothing else is sent between them. On Linux up to 64 UDP
        datagrams of the same length share a system call; the last of them may be shorter. Over loopback, lists
        of 8 took about 0.4 of the time of awaiting each, lists of 64 about 0.12. Elsewhere, and where the kernel or the
        network device cannot do so, each has its own call, and only the trips through the scheduler are saved.

        Args:
          datagrams: a list of contiguous bytes-like objects, each of them one datagram. Or a `DatagramBatch`, of which
            what remains is sent, and which tells afterwards how far that came.
          address: where to, a Python socket address with a numeric host; None stands for the default remote host.
          socket_flags: how to send.

        Returns:
          How many datagrams were accepted: all that there were to send.

        Raises:
          SocketException: a datagram failed, and those behind it were not tried; or the operation was stopped. Its
            ``bytes_transferred`` counts those in front, a batch counts them as datagrams too. OPERATION_NOT_SUPPORTED
            on a stream.
          TypeError: one of the datagrams is not bytes-like or not contiguous, or ``address`` has the wrong shape.
          ValueError: the host in ``address`` is a name (F250).
          OperationInProgressError: the batch is being sent already.
          ObjectDisposedError: the socket was closed.
          InvalidOperationError: the call comes from another thread.

        **Checkpoints**: always.

        **If cancelled**: `trio.Cancelled`, and no further datagram is sent. None is ever sent in part. A
        `DatagramBatch` tells how many were accepted, and sends the rest if it is sent again.

        **Threads**: only from the Trio thread that uses the socket.
        """
        core = self._core
        core.require_usable()
        batch = datagrams if isinstance(datagrams, DatagramBatch) else DatagramBatch(datagrams)
        if batch.pending:
            raise OperationInProgressError(
                "these datagrams are being sent already; wait for the end of that, or make another batch",
            )
        destination, kind = None, SocketAsyncOperation.SEND
        if address is not None:
            destination, kind = core.destination("address", address), SocketAsyncOperation.SEND_TO
        if core.port.is_stream:
            raise SocketException(
                SocketError.OPERATION_NOT_SUPPORTED,
                detail="a stream has no datagrams; send a list as one message with send()",
            )
        operation, message = batch._begin()
        await send_awaited(
            core, self, operation, message, socket_flags, kind, face=batch, address=destination
        )
        return message.sent
