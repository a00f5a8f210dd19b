"""`SendReport`: what became of a message that a stream could not send."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from .._base.checks import counted

if TYPE_CHECKING:
    from .._base.errors import SocketException
    from .._operations.operation import Operation


@attrs.frozen(slots=True, repr=False, eq=False)
class SendReport:
    """What became of a message whose ``send_all`` failed or was cancelled; see `Socket.as_stream`."""

    _operation: Operation

    def __repr__(self) -> str:
        return f"<SendReport: {self.bytes_transferred} of {counted(self.size, 'byte')} accepted>"

    @property
    def size(self) -> int:
        """How many bytes the message has."""
        message = self._operation.message
        return 0 if message is None else message.size

    @property
    def bytes_transferred(self) -> int:
        """How many of them the kernel accepted: all of them if the task was cancelled in the moment of success."""
        return self._operation.transferred

    @property
    def remaining(self) -> list[memoryview]:
        """Views of the bytes that the kernel did not accept.

        They are taken of the buffer when this is read, and keep it from being resized as long as they live.
        """
        return self._operation.remaining()

    @property
    def error(self) -> SocketException | None:
        """Why it was not sent: with OPERATION_ABORTED if the task was cancelled; None if all of it was accepted."""
        return self._operation.make_error() if self._operation.code else None
