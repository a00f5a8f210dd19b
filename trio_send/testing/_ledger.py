"""The books of sends: what is started ends or is pending, what is offered is accepted, waits or is given up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from .._base.checks import counted
from .._base.codes import SocketAsyncOperation, SocketError
from .._owners.initiator import Initiator
from .._tracing.instrument import Instrument, TracedOperation

if TYPE_CHECKING:
    from .._base.statistics import InitiatorStatistics, SocketStatistics
    from .._socket.socket import Socket

_SENDS: Final = frozenset(
    (
        SocketAsyncOperation.SEND,
        SocketAsyncOperation.SEND_TO,
        SocketAsyncOperation.SEND_PACKETS,
    )
)


@final
class Ledger(Instrument):
    """Counts all sends of a run from start to end, and finds out whether the counts add up.

    At any moment ``started == succeeded + failed + aborted + pending``, and ``offered == accepted + queued +
    abandoned``. Let it watch with `trio_send.add_instrument`, and call `check` wherever the counts should be right,
    which is everywhere. What was pending when it began to watch is not in its books. No test framework is needed.

    Attributes:
      started: how many sends were started.
      succeeded: how many of them were completed.
      failed: how many ended with an error other than OPERATION_ABORTED.
      aborted: how many ended with OPERATION_ABORTED.
      offered: how many bytes those that were started had to send.
      accepted: how many of these the kernel has accepted.
      abandoned: how many of these will not be sent, because their send has failed or was stopped.
    """

    def __init__(self) -> None:
        self.started: int = 0
        self.succeeded: int = 0
        self.failed: int = 0
        self.aborted: int = 0
        self.offered: int = 0
        self.accepted: int = 0
        self.abandoned: int = 0
        #: Of each pending send, by its number, how long its message is, and how many bytes are left.
        self._open: dict[int, tuple[int, int]] = {}

    def __repr__(self) -> str:
        return (
            f"<Ledger: {self.started} started, {self.succeeded} succeeded, {self.failed} failed, "
            f"{self.aborted} aborted, {self.pending} pending; of {counted(self.offered, 'byte')} "
            f"{self.accepted} accepted, {self.queued} queued, {self.abandoned} abandoned>"
        )

    @property
    def pending(self) -> int:
        """How many sends were started and have not ended."""
        return len(self._open)

    @property
    def queued(self) -> int:
        """How many bytes the pending sends have left."""
        return sum(left for _, left in self._open.values())

    def operation_started(self, operation: TracedOperation) -> None:
        """Count it if it is a send."""
        if operation.kind in _SENDS:
            left = operation.size - operation.accepted_before
            self.started += 1
            self.offered += left
            self._open[operation.number] = operation.size, left

    def bytes_accepted(self, operation: TracedOperation, count: int, total: int) -> None:
        """Count them."""
        if operation.number in self._open:
            size, left = self._open[operation.number]
            self._open[operation.number] = size, left - count
            self.accepted += count

    def operation_completed(
        self,
        operation: TracedOperation,
        error: SocketError,
        count: int,
        queue_delay: float | None,
        detail: str | None,
    ) -> None:
        """Count how it ended."""
        if operation.number not in self._open:
            return
        size, _ = self._open.pop(operation.number)
        self.offered -= (
            size - operation.size
        )  # a file may have ended before the length that it claimed
        self.abandoned += operation.size - count
        if error is SocketError.SUCCESS:
            self.succeeded += 1
        elif error is SocketError.OPERATION_ABORTED:
            self.aborted += 1
        else:
            self.failed += 1

    def check(self, *watched: Socket | Initiator) -> None:
        """Raise unless all counts add up.

        Args:
          watched: sockets and initiators whose `Socket.statistics` and `Initiator.statistics` have to add up too.

        Raises:
          AssertionError: they do not; it says which.
        """
        _compare(
            "sends of the ledger",
            self.started,
            {
                "succeeded": self.succeeded,
                "failed": self.failed,
                "aborted": self.aborted,
                "pending": self.pending,
            },
        )
        _compare(
            "bytes of the ledger",
            self.offered,
            {"accepted": self.accepted, "queued": self.queued, "abandoned": self.abandoned},
        )
        for each in watched:
            if isinstance(each, Initiator):
                check_initiator(repr(each), each.statistics())
            else:
                check_socket(repr(each), each.statistics())


def check_socket(name: str, now: SocketStatistics) -> None:
    """Raise `AssertionError` unless what a socket counts adds up."""
    _compare(
        f"operations of {name}",
        now.started,
        {
            "succeeded": now.succeeded,
            "failed": now.failed,
            "aborted": now.aborted,
            "queued": now.queued_operations,
        },
    )
    _compare(
        f"bytes of {name}",
        now.bytes_offered,
        {
            "accepted": now.bytes_accepted,
            "queued": now.queued_bytes,
            "abandoned": now.bytes_abandoned,
        },
    )


def check_initiator(name: str, now: InitiatorStatistics) -> None:
    """Raise `AssertionError` unless what an initiator counts adds up."""
    _compare(
        f"operations of {name}",
        now.started,
        {
            "succeeded": now.succeeded,
            "failed": now.failed,
            "aborted": now.aborted,
            "pending": now.pending_operations,
        },
    )


def _compare(what: str, total: int, parts: dict[str, int]) -> None:
    """Raise unless the parts make up the total, and none is less than nothing."""
    if total != sum(parts.values()) or min(parts.values()) < 0:
        told = ", ".join(f"{count} {name}" for name, count in parts.items())
        raise AssertionError(f"the {what} do not add up: {total} are not {told}")
