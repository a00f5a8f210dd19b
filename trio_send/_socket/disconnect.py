"""Ending a connection without giving up its socket."""

from __future__ import annotations

import errno as errno_module
import socket as stdlib_socket
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from .._base.codes import SocketAsyncOperation, SocketError, SocketShutdown
from .._base.errors import SocketException
from .._kernel.port import KernelPort
from .._operations.operation import Operation, Step, describe_os_error
from .._operations.queue import CLOSED, UNCONNECTED
from .._owners.engine import SOCKET_ALLOWANCE
from .endpoint import translate
from .listen import Accepting

if TYPE_CHECKING:
    from .event_args import SocketAsyncEventArgs

_DISCONNECT: Final = SocketAsyncOperation.DISCONNECT
_SHUTDOWN: Final = int(SocketError.SHUTDOWN)

#: It is no send, and there is nothing to attempt twice.
_STEP: Final = Step()


class Disconnecting(Accepting):
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
        self._require_usable()
        self._require_args(args)
        self._require_startable(args)
        initiator = self._require_initiator()
        self._note(args, _STEP, _DISCONNECT)
        args._capture_context()
        if initiator._stopped is not None:
            args._set_error(SocketError.OPERATION_ABORTED, 0, initiator._stopped)
        else:
            self._disconnect(args, args.disconnect_reuse_socket)
        return self._settle(args)

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
        self._require_usable()
        await trio.lowlevel.checkpoint_if_cancelled()
        operation = Operation()
        self._note(operation, _STEP, _DISCONNECT)
        self._disconnect(operation, reuse_socket)
        operation._rest(self._sends)
        if self._sends.audience.instruments:
            self._sends.audience.ended_on_the_spot(operation, self._sends)
        await trio.lowlevel.cancel_shielded_checkpoint()
        if operation._code:
            raise operation._exception()

    def _disconnect(self, operation: Operation, reuse: bool) -> None:
        """Disconnect; write what went wrong into the results."""
        try:
            self._end_connection(reuse)
        except SocketException as error:
            operation._set_error(*describe_os_error(error))

    def _end_connection(self, reuse: bool) -> None:
        if self._sends.gate & UNCONNECTED:
            raise SocketException(SocketError.NOT_CONNECTED)
        fresh = self._fresh_port() if reuse else None
        try:
            self.shutdown(SocketShutdown.BOTH)
        except SocketException as error:
            # The peer has reset the connection, and that is an end too.
            if error.socket_error_code is not SocketError.NOT_CONNECTED:
                if fresh is not None:
                    fresh.close(reset=False)
                raise
        self._sends._break(_SHUTDOWN, errno_module.EPIPE)
        if fresh is not None:
            self._replace_port(fresh)

    def _fresh_port(self) -> KernelPort:
        sock = self._require_kernel()
        try:
            return KernelPort(stdlib_socket.socket(sock.family, sock.type, sock.proto))
        except OSError as error:
            raise translate(error) from error

    def _replace_port(self, port: KernelPort) -> None:
        """Stand on another descriptor, that is not connected."""
        stand_on = partial(self._stand_on, port)
        receives = self._receives
        self._sends.renew(
            port,
            SOCKET_ALLOWANCE,
            stand_on
            if receives is None
            else partial(receives.renew, port, SOCKET_ALLOWANCE, stand_on),
        )

    def _stand_on(self, port: KernelPort) -> None:
        # An instrument, or a buffer's own code, has closed the socket meanwhile.
        if self._sends.gate & CLOSED:
            port.close(reset=False)
            return
        self._port.close(reset=False)
        self._port = port
        self._kernel = port.sock
        self._send = port.send
        self._send_was_shut_down = self._receive_was_shut_down = False
        self._acknowledged_before = -self._sends.accepted
        self._trio = self._peer = None
