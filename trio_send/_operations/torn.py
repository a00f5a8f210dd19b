"""`TornMessage`: what is known of the message that was cut, while its stream is torn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from .._base.checks import counted
from .operation import Operation

if TYPE_CHECKING:
    from .._socket.async_result import AsyncResult
    from .._socket.event_args import SocketAsyncEventArgs


@attrs.frozen(slots=True, repr=False, eq=False)
class TornMessage:
    """What is known of the message that was cut, and so tore its stream."""

    _operation: Operation
    #: Why it was cut.
    reason: str | None

    def __repr__(self) -> str:
        return f"<TornMessage: {counted(self.bytes_transferred, 'byte')} accepted, {self._operation!r}>"

    def _is_about(self, operation: Operation) -> bool:
        """Tell whether ``operation`` is the one that was cut."""
        return self._operation is operation

    @property
    def operation(self) -> SocketAsyncEventArgs | AsyncResult | None:
        """The operation that was cut; None for an awaited send, which nobody holds."""
        operation: Any = self._operation
        return None if type(operation) is Operation else operation

    @property
    def bytes_transferred(self) -> int:
        """How many bytes of the message the kernel accepted."""
        return self._operation._transferred

    @property
    def size(self) -> int:
        """How many bytes the message has."""
        message = self._operation._message
        return 0 if message is None else message.size

    @property
    def remaining(self) -> list[memoryview]:
        """Views of the bytes that the kernel did not accept, fit for a ``buffer_list``.

        If some of them lie in files, reading it raises `InvalidOperationError`: `Socket.send_rest` sends them, and
        `Socket.resume` does with the args that were cut.
        """
        return self._operation._remaining()
