"""The public `Socket`: the faces put together, and the ways to make one."""

from __future__ import annotations

import socket as stdlib_socket
from contextlib import suppress
from typing import TYPE_CHECKING, final

from trio import Event, lowlevel, socket as trio_socket

from .._base.codes import SocketAsyncOperation, SocketShutdown
from .._base.errors import SocketException
from .._kernel.orderly_end import read_until_acknowledged
from .._kernel.port import INET, KernelPort, Port
from .._kernel.tcp_totals import kernel_totals
from .._operations.operation import Operation
from .._operations.queue import CLOSED, FORKED, TORN, UNCONNECTED
from .._owners.awaiting_task import TurnStep, perform
from .audit import Auditing
from .endpoint import Endpoint, OnTorn, require_on_torn, translate
from .options import Options
from .receive_message_from import ReceivingMessageFrom
from .resume import Resuming
from .send_files import SendingFiles
from .stream import SocketStream
from .trio_face import TrioFace

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self


@final
class Socket(ReceivingMessageFrom, Resuming, SendingFiles, Auditing, Options):
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

    __slots__ = ()

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
            super().__init__(KernelPort(sock), connected=False, on_torn=on_torn)
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
        Endpoint.__init__(made, port, connected=connected, on_torn=on_torn)
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
        made._peer = peer
        try:
            acknowledged, unacknowledged, _, _ = kernel_totals(made._port)
            made._acknowledged_before = acknowledged + unacknowledged
        except OSError:
            pass  # not TCP, or not Linux: there will be no audit
        try:
            made._listening = bool(
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
        if self._trio is None:
            self._require_open()
            self._trio = TrioFace(
                trio_socket.from_stdlib_socket(self._require_kernel()),
                self.close,
                self._note_shutdown,
                self._require_own,
            )
        return self._trio  # type: ignore[no-any-return]

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
        self._require_own()
        if not self._port.is_stream:
            raise ValueError(
                "a datagram socket cannot be a stream, for it would join what was apart"
            )
        if no_delay and self._port.family in INET:
            with suppress(
                SocketException
            ):  # another protocol than TCP, or a connection that is gone
                self.no_delay = True
        return SocketStream(self, shared=shared)

    @lowlevel.enable_ki_protection
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
        try:
            if self._sends.gate & (CLOSED | FORKED):
                if self._ending is None or self._sends.gate & FORKED:
                    await lowlevel.checkpoint()
                else:
                    await self._ending.wait()
                return
            self._require_usable()
            await lowlevel.checkpoint_if_cancelled()
            turn = Operation()
            while True:
                self._note(turn, TurnStep(), SocketAsyncOperation.NONE)
                try:
                    await perform(turn, self._sends)
                except SocketException:
                    pass  # whatever ended the queue has told its operations
                if not self._sends.length:
                    break  # or something was started meanwhile, and would be cut
            if self.connected and self._port.is_stream and not self._sends.gate & TORN:
                try:
                    self.shutdown(SocketShutdown.SEND)
                except SocketException:
                    pass  # the peer is gone, so there is nobody to tell
            port = self._port
            if (
                isinstance(port, KernelPort)
                and port.sock.type != stdlib_socket.SOCK_DGRAM
                and not self._sends.gate & (UNCONNECTED | CLOSED | TORN)
            ):
                self._ending = ending = Event()
                self._close_queues(lambda: None)
                if not ending.is_set():  # or whoever was told of an end has closed it
                    port.wake_all()
                    await read_until_acknowledged(port, ending)
        finally:
            self.close()

    async def __aenter__(self) -> Self:
        return self

    @lowlevel.enable_ki_protection
    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc is not None:
            self.close()
        await self.aclose()


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
