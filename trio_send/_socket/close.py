"""The end of a socket: shutdown, close, and the close that loses no accepted byte."""

from __future__ import annotations

import socket as stdlib_socket
from typing import TYPE_CHECKING

import trio

from .._base.codes import SocketAsyncOperation, SocketShutdown
from .._base.errors import SocketException
from .._base.interrupts import one_step
from .._kernel.orderly_end import read_until_acknowledged
from .._kernel.port import KernelPort
from .._operations.gate import CLOSED, FORKED, TORN, UNCONNECTED
from .._owners.awaiting_task import TurnStep, perform
from .connection_end import close, shut_down
from .core import Verb
from .starts import make_step

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self


class Closing(Verb):
    """The part of `Socket` that ends it."""

    __slots__ = ()

    @one_step
    def shutdown(self, how: SocketShutdown) -> None:
        """Say that nothing more will be sent, or received, or both.

        A send that is pending ends with SHUTDOWN and its exact count (F215), as does every later one (F214).

        Args:
          how: which direction to end.

        Raises:
          SocketException: the system refused, for example because the socket is not connected.
          ValueError: ``how`` is no `SocketShutdown`.
          ObjectDisposedError: the socket was closed.
          InvalidOperationError: the call comes from another thread.

        **Threads**: only from the Trio thread that uses the socket.
        """
        self._core.require_usable()
        shut_down(self._core, how)

    @one_step
    def close(self, *, reset: bool | None = None) -> None:
        """Close the socket at once; repeated calls are harmless.

        Every pending operation ends with OPERATION_ABORTED and its exact count (F205, F206), each once, and its error
        is an `ObjectDisposedError` too. The first 256 end in the call, and 256 more in each round of the scheduler.

        Bytes that the kernel has accepted are still delivered in the background, with two exceptions. A reset drops
        those that have not reached the peer, also of messages that had ended with success. And if something has arrived
        that nobody has read, or still arrives, the kernel itself resets a TCP connection, whatever ``reset`` says.
        `aclose` loses nothing in that way.

        The call never waits, whatever SO_LINGER says: a time other than 0 makes no difference, and 0 seconds ask for a
        reset, as ever.

        In a process that was forked off, it closes the descriptor of that process and touches nothing else.

        Args:
          reset: whether the peer sees a reset instead of an orderly end. None stands for: if sends were pending or the
            stream is torn, and `shutdown` did not come first (F210, F211); so a message that was cut cannot be taken
            for a complete one. Unix sockets know no reset, so there the peer sees an orderly end.

        Raises:
          InvalidOperationError: the call comes from another thread.

        **Checkpoints**: never.

        **If cancelled**: nothing is raised here.

        **Threads**: only from the Trio thread that uses the socket.
        """
        close(self._core, reset)

    @trio.lowlevel.enable_ki_protection
    async def aclose(self) -> None:
        """Let the queued sends finish, tell the peer that nothing more comes, and close; lose no accepted byte.

        From the moment at which the peer is told, the socket is closed for everybody else: receives that are pending
        end as by `close`. But if something has arrived that nobody has read, or still arrives, the kernel would answer
        the close with a reset, and drop accepted bytes that have not reached the peer yet. So input is read and thrown
        away until the peer's kernel has acknowledged everything, or the peer is gone. **A peer that neither reads nor
        goes holds this call until its scope ends**, so limit it:

        .. code-block:: python

           with trio.move_on_after(10):
               await socket.aclose()

        No event tells of acknowledgements. The kernel is asked when input comes, and after 1 ms first and at last every
        50 ms. Only Linux can be asked, and only about TCP; where nobody tells, and with Unix sockets, what has arrived
        is read, and then the socket is closed. SO_LINGER neither limits the wait nor adds to it.

        A torn stream cannot be finished, so it is closed at once, with a reset.

        Raises:
          InvalidOperationError: the call comes from another thread.

        **Checkpoints**: always.

        **If cancelled**: `trio.Cancelled`, and the socket is closed at once, as by `close`.

        **Threads**: only from the Trio thread that uses the socket.
        """
        core = self._core
        try:
            if core.sends.gate & (CLOSED | FORKED):
                if core.ending is None or core.sends.gate & FORKED:
                    await trio.lowlevel.checkpoint()
                else:
                    await core.ending.wait()
                return
            core.require_usable()
            await trio.lowlevel.checkpoint_if_cancelled()
            while True:
                turn = make_step(core, self, TurnStep(), SocketAsyncOperation.NONE)
                try:
                    await perform(turn, core.sends)
                except SocketException:
                    pass  # whatever ended the queue has told its operations
                if not core.sends.length:
                    break  # or something was started meanwhile, and would be cut
            if core.connected and core.port.is_stream and not core.sends.gate & TORN:
                try:
                    shut_down(core, SocketShutdown.SEND)
                except SocketException:
                    pass  # the peer is gone, so there is nobody to tell
            port = core.port
            if (
                isinstance(port, KernelPort)
                and port.sock.type != stdlib_socket.SOCK_DGRAM
                and not core.sends.gate & (UNCONNECTED | CLOSED | TORN)
            ):
                core.ending = ending = trio.Event()
                core.close_queues(lambda: None)
                if not ending.is_set():  # or whoever was told of an end has closed it
                    port.wake_all()
                    await read_until_acknowledged(port, ending)
        finally:
            self.close()

    async def __aenter__(self) -> Self:
        return self

    @trio.lowlevel.enable_ki_protection
    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc is not None:
            self.close()
        await self.aclose()
