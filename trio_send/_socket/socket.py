"""`Socket`: what it can do, verb by verb, and the ways to make one."""

from __future__ import annotations

import socket as stdlib_socket
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, final

from trio import lowlevel, socket as trio_socket

from .._base.errors import SocketException
from .._kernel.port import INET, KernelPort, Port
from .._kernel.tcp_totals import kernel_totals
from .audit import Auditing
from .back_pressure import BackPressure
from .begin_receive import BeginReceiving
from .begin_send import BeginSending
from .close import Closing
from .connect import Connecting
from .connection_end import close
from .core import OnTorn, SocketCore, core_of, require_on_torn, translate
from .disconnect import Disconnecting
from .endpoint import Endpoint
from .listen import Accepting
from .options import Options
from .receive import Receiving
from .receive_from import ReceivingFrom
from .receive_message_from import ReceivingMessageFrom
from .resume import Resuming
from .send import Sending
from .send_datagrams import SendingDatagrams
from .send_files import SendingFiles
from .send_to import SendingTo
from .stream import SocketStream
from .trio_face import TrioFace

if TYPE_CHECKING:
    from typing_extensions import Self


@final
class Socket(
    Sending,
    BeginSending,
    SendingTo,
    SendingDatagrams,
    SendingFiles,
    Resuming,
    Receiving,
    BeginReceiving,
    ReceivingFrom,
    ReceivingMessageFrom,
    Connecting,
    Accepting,
    Disconnecting,
    BackPressure,
    Auditing,
    Options,
    Endpoint,
    Closing,
):
    """A socket whose sends are operations: counted exactly, in order, and owned by who started them.

    It belongs to the thread that made it and to the call of `trio.run` in which it was first used.

    Args:
      family: the address family.
      type: the type; streams and datagrams.
      proto: the protocol number; 0 stands for the usual one.
      on_torn: what to do when a message on a stream was cut: ``"refuse"`` to write behind it until `resume`,
        `send_rest` or `forget_torn` settles the matter, or ``"allow"`` it.

    Raises:
      SocketException: the system refused.
      ValueError: ``on_torn`` is neither of the two.

    Source: the two pages' ``Socket``.
    """

    __slots__ = ("__weakref__", "_core")

    @lowlevel.enable_ki_protection
    def __init__(
        self,
        family: int = stdlib_socket.AF_INET,
        type: int = stdlib_socket.SOCK_STREAM,  # the standard library's name
        proto: int = 0,
        *,
        on_torn: OnTorn = "refuse",
    ) -> None:
        require_on_torn(on_torn)
        try:
            sock = stdlib_socket.socket(family, type, proto)
        except OSError as error:
            raise translate(error) from error
        try:
            self._core = SocketCore(KernelPort(sock), connected=False, on_torn=on_torn)
        except BaseException:
            sock.close()
            raise

    @classmethod
    @lowlevel.enable_ki_protection
    def from_port(cls, port: Port, *, connected: bool = True, on_torn: OnTorn = "refuse") -> Self:
        """Make a socket that sends through a port of your own, such as a `trio_send.testing.ScriptedPort`.

        What the port does not offer, such as receiving, is refused with OPERATION_NOT_SUPPORTED.

        Args:
          port: an implementation of `trio_send.abc.Port`.
          connected: whether there is a peer.
          on_torn: as for `Socket`.

        Returns:
          The socket, which closes the port when it is closed.

        Raises:
          TypeError: ``port`` is something else.
          ValueError: ``on_torn`` is neither of the two.

        **Threads**: the one that will use the socket.
        """
        if not isinstance(port, Port):
            raise TypeError(f"port must be a trio_send.abc.Port, not {type(port).__name__}")
        made = cls.__new__(cls)
        made._core = SocketCore(port, connected=connected, on_torn=on_torn)
        return made

    @classmethod
    @lowlevel.enable_ki_protection
    def from_stdlib(cls, sock: stdlib_socket.socket, *, on_torn: OnTorn = "refuse") -> Self:
        """Take over a socket of the standard library.

        Args:
          sock: a socket in any state; it becomes non-blocking and is not to be used directly any more.
          on_torn: as for `Socket`.

        Returns:
          A socket on the same descriptor, connected or listening if ``sock`` was.

        Raises:
          TypeError: ``sock`` is something else.
          ValueError: ``sock`` is closed, or ``on_torn`` is neither of the two.

        **Threads**: the one that will use the socket.
        """
        if not isinstance(sock, stdlib_socket.socket):
            raise TypeError(f"sock must be a socket.socket, not {type(sock).__name__}")
        if sock.fileno() < 0:
            raise ValueError("sock is closed")
        require_on_torn(on_torn)
        try:
            peer = sock.getpeername()
        except OSError:
            connected, peer = False, None
        else:
            connected = True
        made = cls.from_port(KernelPort(sock), connected=connected, on_torn=on_torn)
        core = core_of(made)
        core.peer = peer
        try:
            acknowledged, unacknowledged, _, _ = kernel_totals(core.port)
            core.acknowledged_before = acknowledged + unacknowledged
        except OSError:
            pass  # not TCP, or not Linux: there will be no audit
        try:
            core.is_listening = bool(
                sock.getsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_ACCEPTCONN)
            )
        except OSError:
            pass  # not every kind of socket, nor every system, knows the option
        return made

    @classmethod
    @lowlevel.enable_ki_protection
    def from_trio(cls, sock: trio_socket.SocketType, *, on_torn: OnTorn = "refuse") -> Self:
        """Take over a trio socket.

        Args:
          sock: a trio socket in any state; it is detached from its descriptor. Use `trio` to get another.
          on_torn: as for `Socket`.

        Returns:
          A socket on the same descriptor, connected or listening if ``sock`` was.

        Raises:
          TypeError: ``sock`` is something else.
          ValueError: ``sock`` is closed, or ``on_torn`` is neither of the two.

        **Threads**: the one that will use the socket.
        """
        if not isinstance(sock, trio_socket.SocketType):
            raise TypeError(f"sock must be a trio socket, not {type(sock).__name__}")
        if sock.fileno() < 0:
            raise ValueError("sock is closed")
        require_on_torn(on_torn)
        family, kind, proto = sock.family, sock.type, sock.proto
        return cls.from_stdlib(
            stdlib_socket.socket(family, kind, proto, fileno=sock.detach()),
            on_torn=on_torn,
        )

    @property
    def trio(self) -> trio_socket.SocketType:
        """The same socket as a trio socket, for everything that is not here; the same object each time.

        Closing it closes this one. Do not send through it while operations are queued, because it knows nothing of
        them. Once this one is closed, and in a process that was forked off, its calls are refused as those of this one
        are.
        """
        core = self._core
        if core.trio_face is None:
            core.require_open()
            port = core.require_kernel_port()
            core.let_others_wait(port)
            # It must not keep the socket, which keeps it.
            core.trio_face = TrioFace(
                trio_socket.from_stdlib_socket(port.sock),
                partial(close, core),
                core.note_shutdown,
                core.require_own,
            )
        return core.trio_face

    @lowlevel.enable_ki_protection
    def as_stream(self, *, shared: bool = False, no_delay: bool = True) -> SocketStream:
        """Make a Trio stream of this socket, for code that is written for streams.

        Its ``send_all`` and ``send_eof`` go through the socket's queue, in order with all other sends. A ``send_all``
        that is cancelled leaves the message in `torn`, with the exact count; later ones raise
        `trio.BrokenResourceError` until `send_rest` or `forget_torn` settles the matter. ``aclose`` is `close`, as with
        Trio's own streams: it drains nothing; `aclose` of the socket does. Other errors are those of Trio's own
        streams, with the `SocketException` as their cause. The stream's ``socket`` is this socket.

        The stream's ``last_send`` is a `SendReport` on the calling task's latest ``send_all`` if that failed or was
        cancelled, and None if it succeeded. So each of the tasks that share a stream can tell whether its own message
        was cut, and what remains of it. Those that were refused behind a cut go on in the order in which they stood.

        `trio.SSLStream` can stand on it. Counts then are of the encrypted bytes, and mean nothing for what was sent
        through the `trio.SSLStream`: which of its bytes went out, nobody can tell, nor send the rest of them.

        Args:
          shared: what happens if two tasks call ``send_all`` at once. If not shared, the second gets
            `trio.BusyResourceError`, as Trio's streams have it; if shared, the messages are sent one after the other,
            in the order of the calls.
          no_delay: whether to set TCP_NODELAY, as Trio's streams do, so that a small message does not wait for the
            peer's acknowledgement of the one before, for about 40 ms. If not, the option is left as it is. Other
            sockets than those of TCP do not have it.

        Returns:
          The stream; another one each time.

        Raises:
          ValueError: this is not a stream socket.
          ObjectDisposedError: the socket was closed.
          InvalidOperationError: the call comes from a process that was forked off.

        **Checkpoints**: never; for the stream's methods see `trio.abc.HalfCloseableStream`.

        **If cancelled**: nothing is raised here.

        **Threads**: only from the Trio thread that uses the socket.
        """
        self._core.require_own()
        if not self._core.port.is_stream:
            raise ValueError(
                "a datagram socket cannot be a stream, because that would join what was apart"
            )
        if no_delay and self._core.port.family in INET:
            with suppress(
                SocketException
            ):  # another protocol than TCP, or a connection that is gone
                self.no_delay = True
        return SocketStream(self, shared=shared)


@lowlevel.enable_ki_protection
def socketpair(
    family: int | None = None,
    type: int = stdlib_socket.SOCK_STREAM,  # the standard library's name
    proto: int = 0,
    *,
    on_torn: OnTorn = "refuse",
) -> tuple[Socket, Socket]:
    """Make two sockets that are connected to each other.

    Args:
      family: the address family; None stands for the system's own choice, Unix sockets where there are any.
      type: the type; streams and datagrams.
      proto: the protocol number; 0 stands for the usual one.
      on_torn: as for `Socket`.

    Returns:
      The two ends.

    Raises:
      SocketException: the system refused, for example to make a pair of this family.
      ValueError: ``on_torn`` is neither of the two.

    **Threads**: the one that will use the sockets.
    """
    require_on_torn(on_torn)
    if family is None:
        family = getattr(stdlib_socket, "AF_UNIX", stdlib_socket.AF_INET)
    try:
        left, right = stdlib_socket.socketpair(family, type, proto)
    except OSError as error:
        raise translate(error) from error
    return Socket.from_stdlib(left, on_torn=on_torn), Socket.from_stdlib(right, on_torn=on_torn)
