"""Ending a connection without giving up its socket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from .._base.codes import SocketAsyncOperation
from .._base.errors import SocketException
from .._operations.operation import Operation, Step, describe_os_error
from .connection_end import end_connection
from .core import Verb
from .starts import args_to_start, prepare, settle

if TYPE_CHECKING:
    from .core import SocketCore
    from .event_args import SocketAsyncEventArgs

_DISCONNECT: Final = SocketAsyncOperation.DISCONNECT

#: It is no send, and there is nothing to attempt twice.
_STEP: Final = Step()


class Disconnecting(Verb):
    """The part of `Socket` that disconnects."""

    __slots__ = ()

    @trio.lowlevel.enable_ki_protection
    def disconnect_async(self, args: SocketAsyncEventArgs) -> bool:
        """End the connection in both directions, at once; see `disconnect`.

        Args:
          args: whom to tell, and with `SocketAsyncEventArgs.disconnect_reuse_socket` whether the socket is to be
            connected again. Their buffer does not matter.

        Returns:
          False: it has ended on the spot, and the args tell how (F251). True after many starts in a row that did, as
          `send_async` does.

        Raises:
          TypeError: ``args`` is None or something else.
          OperationInProgressError: ``args`` is in use.
          ObjectDisposedError: the socket or ``args`` was closed.
          InvalidOperationError: no initiator is open, the call comes from another thread, or the message of ``args``
            was cut and stands half sent on a torn stream.

        **Checkpoints**: never.

        **If cancelled**: nothing is raised here.

        **Threads**: only from the Trio thread that uses the socket.
        """
        core = self._core
        operation = args_to_start(core, args)
        owner = core.require_owner()
        operation.claim()
        prepare(core, self, operation, _DISCONNECT, face=args, step=_STEP)
        if not owner.refuses(operation):
            _disconnect(core, operation, args.disconnect_reuse_socket)
        return settle(core, operation)

    @trio.lowlevel.enable_ki_protection
    async def disconnect(self, *, reuse_socket: bool = False) -> None:
        """End the connection in both directions, at once.

        It is a shutdown (F251): what the system has accepted is still delivered, and then the peer finds the end of the
        stream. Sends that are pending end with SHUTDOWN and their exact counts, as do later ones; receives that are
        pending find the end. `connected` is False then. Use `aclose` to let the queued sends finish first.

        Args:
          reuse_socket: whether to connect the socket again. It then gets a fresh descriptor, to which neither options
            nor the own address nor `trio` are carried over, and sends before the next connect end with NOT_CONNECTED.
            The old one is closed, so input that nobody has read costs the peer what `close` says.

        Raises:
          SocketException: the socket is not connected, with NOT_CONNECTED.
          ObjectDisposedError: the socket was closed.
          InvalidOperationError: the call comes from another thread.

        **Checkpoints**: always.

        **If cancelled**: `trio.Cancelled`, and the connection stands.

        **Threads**: only from the Trio thread that uses the socket.
        """
        core = self._core
        core.require_usable()
        await trio.lowlevel.checkpoint_if_cancelled()
        operation = Operation()
        operation.claim()
        prepare(core, self, operation, _DISCONNECT, step=_STEP)
        _disconnect(core, operation, reuse_socket)
        operation.rest(core.sends)
        if core.sends.instruments.watching:
            core.sends.instruments.ended_on_the_spot(operation, core.sends)
        await trio.lowlevel.cancel_shielded_checkpoint()
        if operation.code:
            raise operation.make_error()


def _disconnect(core: SocketCore, operation: Operation, reuse: bool) -> None:
    """Disconnect; write what went wrong into the results."""
    try:
        end_connection(core, reuse)
    except SocketException as error:
        operation.set_error(*describe_os_error(error))
