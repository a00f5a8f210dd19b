"""`TornMessage`: what is known of the message that was cut, while its stream is torn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from .._base.checks import counted

if TYPE_CHECKING:
    from .._operations.cut import Cut
    from .async_result import AsyncResult
    from .event_args import SocketAsyncEventArgs


@attrs.frozen(repr=False)
class TornMessage:
    """What is known of the message that was cut, and so tore its stream."""

    _cut: Cut

    def __repr__(self) -> str:
        cut = self._cut.operation if self.operation is None else self.operation
        return f"<TornMessage: {counted(self.bytes_transferred, 'byte')} accepted, {cut!r}>"

    @property
    def reason(self) -> str | None:
        """Why it was cut."""
        return self._cut.detail

    @property
    def operation(self) -> SocketAsyncEventArgs | AsyncResult | None:
        """The operation that was cut; None for an awaited send, which nobody holds."""
        return self._cut.face  # type: ignore[no-any-return]

    @property
    def bytes_transferred(self) -> int:
        """How many bytes of the message the kernel accepted."""
        return self._cut.operation.transferred

    @property
    def size(self) -> int:
        """How many bytes the message has."""
        message = self._cut.operation.message
        return 0 if message is None else message.size

    @property
    def remaining(self) -> list[memoryview]:
        """Views of the bytes that the kernel did not accept, fit for a ``buffer_list``.

        If some of them lie in files, reading it raises `InvalidOperationError`: `Socket.send_rest` sends them, and
        `Socket.resume` does with the args that were cut.
        """
        return self._cut.operation.remaining()
