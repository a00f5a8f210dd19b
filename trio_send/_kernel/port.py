"""The seam to the kernel: everything that the rooms above ask of an operating system.

`Port` is the narrow part, what sending needs: try a non-blocking send, wait until writable, close; it may offer to
receive and to be shut down. Whatever implements
it can stand below a `Socket`; `trio_send.testing.ScriptedPort` does, and so every order and every partial write can be
tested without a kernel. `KernelPort` is the real one. It also carries the calls that connect and accept.
"""

from __future__ import annotations

import abc
import errno
import os
import socket as stdlib_socket
import struct
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import trio

if sys.platform != "win32":
    from _signal import (  # type: ignore[import-not-found]  # what `signal` wraps, without enums
        SIG_DFL,
        SIGPIPE,
        getsignal,
    )

from .default_host import set_default_host
from .fresh_descriptor import HAVE_FRESH_DESCRIPTORS, Untried, describe_untried, renew

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from typing_extensions import Buffer

_IS_LINUX: Final = bool(sys.platform == "linux")

#: Whether the system can fill several buffers in one call.
HAVE_SCATTER: Final = hasattr(stdlib_socket.socket, "recvmsg_into")

#: The address families of IPv4 and IPv6.
INET: Final = (stdlib_socket.AF_INET, stdlib_socket.AF_INET6)

#: What a TCP connection says its protocol is: the default, its number, or that of Multipath TCP.
_TCP: Final = (0, stdlib_socket.IPPROTO_TCP, getattr(stdlib_socket, "IPPROTO_MPTCP", 262))

#: What SO_LINGER is made of: whether it is on, and for how many seconds.
LINGER: Final = struct.Struct("hh" if sys.platform == "win32" else "ii")

#: What Linux calls the cutting of one buffer into datagrams; the standard library does not know it.
_UDP_SEGMENT: Final = 103

#: So many datagrams the first kernels that could do it took in one call. Later ones take 128.
_MAX_SEGMENTS: Final = 64


def _is_udp(sock: stdlib_socket.socket) -> bool:
    return (
        sock.type == stdlib_socket.SOCK_DGRAM
        and sock.family in INET
        and sock.proto in (0, stdlib_socket.IPPROTO_UDP)
    )


class Port(abc.ABC):
    """What a `Socket` needs from below in order to send.

    The three ``send`` members are called with native flags and never wait: they return how many bytes were accepted,
    raise `BlockingIOError` when nothing fits, and any other `OSError` when the send failed. They are declared as
    attributes so that an implementation can hand out a bound built-in method, which costs one call less per send.

    Attributes:
      send: ``send(buffer, flags, /) -> int``.
      send_gather: ``send_gather(views, flags, /) -> int``, all buffers as one message.
      send_to: ``send_to(buffer, flags, address, /) -> int``, for one datagram.
      send_file: ``send_file(descriptor, offset, count, /) -> int``, for a range of an open file, without moving its
        position; 0 at the end of the file, and EINVAL for a file that must be read and sent instead, as every file is
        if this is None. A port need not have it.
      is_stream: whether a message may be accepted in part; a datagram is accepted whole or not at all.
      max_segments: how many datagrams one call of ``send_segments`` takes; 1 if there is none.
      send_segments: ``send_segments(buffers, size, flags, address, /) -> int``, for bytes that are to be cut into
        datagrams of ``size`` bytes, the last one perhaps shorter; an address of None stands for the default. It accepts
        all of them or none.
      family: the address family; None if addresses are of a kind that cannot be checked.
      has_one_receiver: whether an address counts for nothing, because all goes to the peer; it always does on a stream.
      refills: whether a ``send`` that was accepted in part is worth another attempt at once, because whoever reads may
        have made room meanwhile.
      polls_send_to: whether a ``send_to`` that would block is tried again after pauses, because becoming writable tells
        nothing of its address.
    """

    __slots__ = ()

    send: Callable[[Buffer, int], int]
    send_gather: Callable[[Sequence[Buffer], int], int]
    send_to: Callable[[Buffer, int, Any], int]
    send_segments: Callable[[Sequence[Buffer], int, int, Any], int]
    send_file: Callable[[int, int, int], int] | None = None
    receive_into: Callable[[Sequence[memoryview], int], int] | None = None
    shutdown: Callable[[int], object] | None = None
    is_stream: bool
    family: int | None = None
    has_one_receiver: bool = False
    max_segments: int = 1
    polls_send_to: bool = False
    refills: bool = False

    @abc.abstractmethod
    def fileno(self) -> int:
        """Return the descriptor to watch for readiness, or -1 to be waited for with `wait_writable`."""

    @abc.abstractmethod
    async def wait_writable(self) -> None:
        """Wait until `send` is worth another try.

        **Checkpoints**: always.

        **If cancelled**: `trio.Cancelled`, and nothing has been sent.

        **Threads**: only from the Trio thread that uses the socket.
        """

    @abc.abstractmethod
    async def wait_readable(self) -> None:
        """Wait until there is something to receive or to accept.

        **Checkpoints**: always.

        **If cancelled**: `trio.Cancelled`, and nothing has been received.

        **Threads**: only from the Trio thread that uses the socket.
        """

    @abc.abstractmethod
    def close(self, *, reset: bool) -> None:
        """Wake whoever waits, then close.

        Args:
          reset: end the connection with a reset, so that the peer cannot take what it got for all there was.
        """


class KernelPort(Port):
    """A non-blocking socket of the operating system."""

    __slots__ = (
        "family",
        "has_one_receiver",
        "informs",
        "is_stream",
        "send",
        "sock",
        "untried",
    )

    def __init__(self, sock: stdlib_socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.is_stream = sock.type == stdlib_socket.SOCK_STREAM
        # The attributes of the socket make an enum each time they are read, which takes a good part of a send.
        self.family = int(sock.family)
        self.has_one_receiver = sock.type == stdlib_socket.SOCK_SEQPACKET
        self.send = sock.send
        #: Whether the kernel was asked to tell of each datagram how it came.
        self.informs = False
        #: What the socket was before it tried to connect, if it has, so that the descriptor has to be renewed before
        #: another attempt.
        self.untried: Untried | None = None

    @property
    def max_segments(self) -> int:  # type: ignore[override]
        return _MAX_SEGMENTS if _IS_LINUX and _is_udp(self.sock) else 1

    @property
    def refills(self) -> bool:  # type: ignore[override]
        return self.is_stream

    @property
    def polls_send_to(self) -> bool:  # type: ignore[override]
        # A Unix datagram waits for room at its receiver. Of all receivers the system watches the default one only, so
        # the socket counts as writable for ever although another one is full.
        return self.family == getattr(stdlib_socket, "AF_UNIX", None)

    @property
    def _is_tcp(self) -> bool:
        return self.family in INET and self.is_stream and self.sock.proto in _TCP

    def send_to(self, buffer: Buffer, flags: int, address: Any, /) -> int:
        return self.sock.sendto(buffer, flags, address)

    if sys.platform != "win32":

        def send_gather(self, views: Sequence[Buffer], flags: int, /) -> int:
            return self.sock.sendmsg(views, (), flags)

    else:

        def send_gather(self, views: Sequence[Buffer], flags: int, /) -> int:
            return self.sock.send(b"".join(views), flags)

    def shutdown(self, how: int, /) -> None:
        self.sock.shutdown(how)

    def receive_into(self, views: Sequence[memoryview], flags: int, /) -> int:
        """Receive once, into one buffer after the other; return how many bytes that were."""
        if len(views) == 1:
            return self.sock.recv_into(views[0], 0, flags)
        if sys.platform != "win32" and HAVE_SCATTER:
            return self.sock.recvmsg_into(views, 0, flags)[0]
        data = self.sock.recv(sum(view.nbytes for view in views), flags)
        left = memoryview(data)
        for view in views:
            count = min(view.nbytes, left.nbytes)
            view[:count] = left[:count]
            left = left[count:]
        return len(data)

    def send_segments(
        self, buffers: Sequence[Buffer], size: int, flags: int, address: Any, /
    ) -> int:
        ancillary = [(stdlib_socket.IPPROTO_UDP, _UDP_SEGMENT, struct.pack("=H", size))]
        sendmsg: Callable[..., int] = self.sock.sendmsg  # type: ignore[attr-defined,unused-ignore]
        return sendmsg(buffers, ancillary, flags, address)

    if sys.platform != "win32" and hasattr(os, "sendfile"):

        def send_file(self, descriptor: int, offset: int, count: int, /) -> int:
            if getsignal(SIGPIPE) == SIG_DFL:
                # A peer that is gone would end this process, because the call knows nothing like MSG_NOSIGNAL.
                raise OSError(errno.EINVAL, "SIGPIPE has its default action")
            return os.sendfile(self.sock.fileno(), descriptor, offset, count)

    def fileno(self) -> int:
        return self.sock.fileno()

    # Not async functions but what they would await: every frame on the way down is passed twice for each wait.
    def wait_writable(self) -> Coroutine[Any, Any, None]:
        return trio.lowlevel.wait_writable(self.sock)  # noqa: ASYNC105

    def wait_readable(self) -> Coroutine[Any, Any, None]:
        return trio.lowlevel.wait_readable(self.sock)  # noqa: ASYNC105

    def wake_all(self) -> None:
        """Wake every task that waits for the descriptor."""
        if trio.lowlevel.in_trio_run():
            # Raised if it is the calling task that is about to wait; whoever lets it wait wakes it in another way.
            with suppress(trio.ClosedResourceError):
                trio.lowlevel.notify_closing(self.sock)

    def close(self, *, reset: bool) -> None:
        if self.sock.fileno() < 0:
            return
        try:
            if reset:
                # Lingering for zero seconds is how a reset is asked for: unsent bytes are dropped and the peer's next
                # read fails. Unix sockets ignore it.
                self._set_linger(is_on=True)
            elif self._lingers():
                # The call would block for as long, and with it the whole program. Without the option the system goes
                # on delivering just the same.
                self._set_linger(is_on=False)
        except OSError:
            pass  # already disconnected, so there is nobody left to tell
        # Tasks that wait for this descriptor must learn of the close from Trio, because the kernel does not tell them,
        # and the number may belong to another socket a moment later.
        self.wake_all()
        self.sock.close()

    def _lingers(self) -> bool:
        """Whether the program has asked for closing to wait."""
        option = self.sock.getsockopt(
            stdlib_socket.SOL_SOCKET, stdlib_socket.SO_LINGER, LINGER.size
        )
        is_on, seconds = LINGER.unpack(option)
        return bool(is_on and seconds)

    def _set_linger(self, *, is_on: bool) -> None:
        """Have closing linger for zero seconds, which is a reset, or not linger at all."""
        self.sock.setsockopt(
            stdlib_socket.SOL_SOCKET, stdlib_socket.SO_LINGER, LINGER.pack(is_on, 0)
        )

    def bind(self, address: Any) -> None:
        """Take an address as the own one, whatever old connections from there the system remembers.

        Raises:
          OSError: refused.
        """
        # On Windows the option means something else: to take an address away from whoever has it.
        if sys.platform != "win32" and self._is_tcp:
            self.sock.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_REUSEADDR, 1)
        self.sock.bind(address)

    @property
    def is_renewable(self) -> bool:
        """Whether an attempt to connect uses the descriptor up, and a fresh one can take its place."""
        return HAVE_FRESH_DESCRIPTORS and self._is_tcp

    def renew(self) -> None:
        """Have a fresh descriptor under the same number if the one that there is was used up; else do nothing.

        Raises:
          OSError: there is none to be had, or it cannot be made what the old one was.
        """
        if self.untried is not None:
            renew(self.sock, self.untried)
            self.untried = None

    def connect_begin(self, address: Any) -> bool:
        """Start to connect; return True when the connection stands at once.

        Raises:
          BlockingIOError: a Unix listener has no room. Nothing has begun, and there will be no event.
          OSError: refused at once.
        """
        if self.is_renewable:
            self.untried = describe_untried(self.sock)
        elif self.family in INET and not self.is_stream:
            set_default_host(self.sock, address)
            return True
        try:
            self.sock.connect(address)
        except BlockingIOError as error:
            if error.errno == errno.EAGAIN and sys.platform != "win32":
                raise
            return False
        except OSError as error:
            if error.errno == errno.EISCONN:
                self.untried = None  # what there is already stays
            raise
        self.untried = None
        return True

    def connect_poll(self, address: Any) -> bool:
        """Return True when the connection that was started stands.

        Raises:
          OSError: it failed.
        """
        if _IS_LINUX:
            # Asking by connecting once more has the kernel take note of the end as well. If it is asked for SO_ERROR,
            # the socket stays half way: the next attempt on it fails with ECONNABORTED, whatever the address.
            try:
                self.sock.connect(address)
            except BlockingIOError:
                return False
            self.untried = None
            return True
        code = self.sock.getsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_ERROR)
        if code != 0:
            raise OSError(code, "connect failed")
        try:
            self.sock.getpeername()
        except OSError as error:
            # No error and no peer: the connection is still on its way. Readiness cannot be trusted to say so, because a
            # socket that has not begun to connect counts as writable.
            if error.errno in (errno.ENOTCONN, errno.EINVAL):
                return False
            raise
        self.untried = None
        return True
