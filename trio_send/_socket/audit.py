"""The kernel's word on the bytes that were sent, beside the library's."""

from __future__ import annotations

from typing import final

import attrs
import trio

from .._base.checks import counted
from .._base.codes import SocketError
from .._base.errors import SocketException
from .._kernel.tcp_totals import FIRST_PAUSE, LONGEST_PAUSE, kernel_totals
from .core import Verb, translate


@final
@attrs.frozen
class Audit:
    """The library's count and the kernel's, taken together.

    Acknowledged is not read: the peer's kernel has the bytes, its application may never ask for them.
    """

    #: Bytes the kernel accepted on this socket since the library has had it, by the library's count.
    bytes_accepted: int
    #: How many of them the peer's kernel has acknowledged (``TCP_INFO``).
    bytes_acknowledged: int
    #: How many of them it has not, sent or not (``SIOCOUTQ``).
    bytes_unacknowledged: int
    #: How many of them have not been sent for the first time yet (``SIOCOUTQNSD``).
    bytes_unsent: int
    #: Whether the connection is gone, so that nothing will be acknowledged any more.
    is_closed: bool

    @property
    def agrees(self) -> bool:
        """Whether the kernel's numbers add up to the library's."""
        return self.bytes_acknowledged + self.bytes_unacknowledged == self.bytes_accepted


class Auditing(Verb):
    """The part of `Socket` that asks the kernel."""

    __slots__ = ()

    def audit(self) -> Audit:
        """Ask the kernel what became of the bytes that it has accepted.

        Returns:
          The library's count beside the kernel's; `Audit.agrees` tells whether they add up.

        Raises:
          SocketException: OPERATION_NOT_SUPPORTED for all but TCP on Linux.
          ObjectDisposedError: the socket was closed.
          InvalidOperationError: the call comes from another thread.

        **Checkpoints**: never.

        **If cancelled**: nothing is raised here.

        **Threads**: only from the Trio thread that uses the socket.
        """
        self._core.require_usable()
        try:
            acknowledged, unacknowledged, unsent, closed = kernel_totals(self._core.port)
        except OSError as error:
            raise translate(error) from error
        if self._core.send_was_shut_down:
            # The end of the stream counts as one byte, the last. As long as anything is unacknowledged, it is too.
            if unacknowledged:
                unacknowledged -= 1
                unsent = max(0, unsent - 1)
            else:
                acknowledged -= 1
        return Audit(
            bytes_accepted=self._core.sends.accepted,
            bytes_acknowledged=acknowledged - self._core.acknowledged_before,
            bytes_unacknowledged=unacknowledged,
            bytes_unsent=unsent,
            is_closed=closed,
        )

    async def wait_acknowledged(self) -> None:
        """Wait until the peer's kernel has acknowledged everything that was accepted before this call.

        Acknowledged is not read: what the peer's application does with the bytes, or whether it will ever ask for
        them, only the application can tell.

        The kernel raises no event for this, so it is asked again and again, after 1 ms first and at last every 50 ms.

        Raises:
          SocketException: OPERATION_NOT_SUPPORTED for all but TCP on Linux; CONNECTION_RESET if the connection ended
            before everything was acknowledged.
          ObjectDisposedError: the socket was closed, meanwhile perhaps.
          InvalidOperationError: the call comes from another thread.

        **Checkpoints**: always.

        **If cancelled**: `trio.Cancelled`; the bytes are on their way all the same.

        **Threads**: only from the Trio thread that uses the socket.
        """
        accepted = self._core.sends.accepted
        pause = FIRST_PAUSE
        while True:
            audit = self.audit()
            if audit.bytes_acknowledged >= accepted:
                await trio.lowlevel.checkpoint()
                return
            if audit.is_closed:
                await trio.lowlevel.checkpoint()
                raise SocketException(
                    SocketError.CONNECTION_RESET,
                    detail=f"{audit.bytes_acknowledged} of {counted(accepted, 'byte')} were acknowledged before that",
                )
            await trio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
