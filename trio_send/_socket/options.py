"""The socket options that have a name of their own in .NET, as properties of that name."""

from __future__ import annotations

import socket as stdlib_socket
from contextlib import suppress
from typing import Final

import trio

from .._base.checks import require_whole_number
from .._base.codes import SocketError
from .._base.errors import SocketException
from .._kernel.port import INET, LINGER
from .._kernel.readable_bytes import readable_bytes
from .core import Verb, translate

_SOL_SOCKET: Final = stdlib_socket.SOL_SOCKET
_TCP: Final = stdlib_socket.IPPROTO_TCP
_IP: Final = stdlib_socket.IPPROTO_IP
_IPV6: Final = stdlib_socket.IPPROTO_IPV6

#: .NET's limits: its lingering time has 16 bits, and its sizes 32.
_LONGEST_LINGER: Final = 0xFFFF
_LARGEST_SIZE: Final = 0x7FFFFFFF
_HIGHEST_TTL: Final = 255


def _require_flag(name: str, value: bool) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, not {value!r}")
    return value


def _require_range(name: str, value: int, unit: str, highest: int) -> int:
    value = require_whole_number(name, value, unit)
    if not 0 <= value <= highest:
        raise ValueError(f"{name} is {value}, but must be from 0 to {highest} {unit}")
    return value


class Options(Verb):
    """The part of `Socket` that reads and sets options by .NET's names."""

    __slots__ = ()

    @property
    def proto(self) -> int:
        """The protocol number, such as `socket.IPPROTO_TCP`; 0 if the usual one was asked for.

        Source: .NET's ``Socket.ProtocolType``.
        """
        return self._core.require_kernel().proto

    @property
    def available(self) -> int:
        """How many bytes have arrived and were not received.

        On a datagram socket the system says whether that is the next datagram, as on Linux, or all of them.

        Source: .NET's ``Socket.Available``.
        """
        self._core.require_open()
        try:
            return readable_bytes(self._core.require_kernel())
        except OSError as error:
            raise translate(error) from error

    @property
    def no_delay(self) -> bool:
        """Whether TCP sends small messages at once, instead of waiting for an acknowledgement to join them; settable.

        False on a fresh socket, as in .NET. On other sockets than those of TCP, reading and setting it are refused.

        Source: .NET's ``Socket.NoDelay``.
        """
        return bool(self._core.get_option(_TCP, stdlib_socket.TCP_NODELAY))

    @no_delay.setter
    def no_delay(self, value: bool) -> None:
        self._core.set_option(_TCP, stdlib_socket.TCP_NODELAY, _require_flag("no_delay", value))

    @property
    def linger_state(self) -> int | None:
        """What becomes of bytes that were accepted and not delivered when the socket is closed; settable.

        None, as on a fresh socket, leaves it to the system, which goes on delivering. 0 seconds have `close` reset the
        connection and throw the bytes away. A larger number makes no difference to `close`, which never waits: the
        system goes on delivering as well. To wait for it, use `wait_acknowledged` in a cancel scope.

        Setting a time that is no number from 0 to 65,535 is a `ValueError`.

        Source: .NET's ``Socket.LingerState``; fact F213.
        """
        is_on, seconds = LINGER.unpack(
            self._core.get_option(_SOL_SOCKET, stdlib_socket.SO_LINGER, LINGER.size)
        )
        return seconds if is_on else None

    @linger_state.setter
    def linger_state(self, value: int | None) -> None:
        seconds = (
            0
            if value is None
            else _require_range("linger_state", value, "seconds", _LONGEST_LINGER)
        )
        option = LINGER.pack(value is not None, seconds)
        self._core.set_option(_SOL_SOCKET, stdlib_socket.SO_LINGER, option)

    @property
    def send_buffer_size(self) -> int:
        """How many bytes the kernel holds that were accepted and not delivered, about; settable.

        What is set is a wish: systems round it and have limits, and Linux sets twice as much, and reads so. A size that
        was set is not adapted to the connection any more.

        Source: .NET's ``Socket.SendBufferSize``.
        """
        return self._core.get_option(_SOL_SOCKET, stdlib_socket.SO_SNDBUF)

    @send_buffer_size.setter
    def send_buffer_size(self, value: int) -> None:
        size = _require_range("send_buffer_size", value, "bytes", _LARGEST_SIZE)
        self._core.set_option(_SOL_SOCKET, stdlib_socket.SO_SNDBUF, size)

    @property
    def receive_buffer_size(self) -> int:
        """How many bytes the kernel holds that have arrived and were not received, about; settable.

        What is set is a wish, as with `send_buffer_size`. On a TCP socket set it before connecting, or on the listener,
        for the two sides agree on the window in their first packets.

        Source: .NET's ``Socket.ReceiveBufferSize``.
        """
        return self._core.get_option(_SOL_SOCKET, stdlib_socket.SO_RCVBUF)

    @receive_buffer_size.setter
    def receive_buffer_size(self, value: int) -> None:
        size = _require_range("receive_buffer_size", value, "bytes", _LARGEST_SIZE)
        self._core.set_option(_SOL_SOCKET, stdlib_socket.SO_RCVBUF, size)

    @property
    def dual_mode(self) -> bool:
        """Whether an IPv6 socket speaks IPv4 as well; settable until it is bound or connected.

        A fresh one does on Linux and macOS, unless the system is set up otherwise. On other sockets, reading and
        setting it are refused with OPERATION_NOT_SUPPORTED.

        Source: .NET's ``Socket.DualMode``.
        """
        self._require_ipv6("dual_mode")
        return not self._core.get_option(_IPV6, stdlib_socket.IPV6_V6ONLY)

    @dual_mode.setter
    def dual_mode(self, value: bool) -> None:
        _require_flag("dual_mode", value)
        self._require_ipv6("dual_mode")
        self._core.set_option(_IPV6, stdlib_socket.IPV6_V6ONLY, not value)

    @property
    def enable_broadcast(self) -> bool:
        """Whether datagrams may be sent to a whole network at once; settable, and False on a fresh socket.

        Source: .NET's ``Socket.EnableBroadcast``.
        """
        return bool(self._core.get_option(_SOL_SOCKET, stdlib_socket.SO_BROADCAST))

    @enable_broadcast.setter
    def enable_broadcast(self, value: bool) -> None:
        flag = _require_flag("enable_broadcast", value)
        self._core.set_option(_SOL_SOCKET, stdlib_socket.SO_BROADCAST, flag)

    @property
    def ttl(self) -> int:
        """Over how many routers a packet may go at most: IPv4's time to live, IPv6's hop limit; settable.

        Setting it on an IPv6 socket is for its IPv4 packets, too. Setting what is no number from 0 to 255 is a
        `ValueError`, and systems refuse 0 where it makes no sense.

        Source: .NET's ``Socket.Ttl``.
        """
        self._core.require_open()
        if self._is_ipv6("ttl"):
            return self._core.get_option(_IPV6, stdlib_socket.IPV6_UNICAST_HOPS)
        return self._core.get_option(_IP, stdlib_socket.IP_TTL)

    @ttl.setter
    @trio.lowlevel.enable_ki_protection
    def ttl(self, value: int) -> None:
        _require_range("ttl", value, "routers", _HIGHEST_TTL)
        self._set_ip("ttl", stdlib_socket.IP_TTL, stdlib_socket.IPV6_UNICAST_HOPS, value)

    @property
    def multicast_loopback(self) -> bool:
        """Whether what is sent to a group comes back to members on this machine; settable, and True on a fresh socket.

        Setting it on an IPv6 socket is for its IPv4 packets, too.

        Source: .NET's ``Socket.MulticastLoopback``.
        """
        self._core.require_open()
        if self._is_ipv6("multicast_loopback"):
            return bool(self._core.get_option(_IPV6, stdlib_socket.IPV6_MULTICAST_LOOP))
        return bool(self._core.get_option(_IP, stdlib_socket.IP_MULTICAST_LOOP))

    @multicast_loopback.setter
    @trio.lowlevel.enable_ki_protection
    def multicast_loopback(self, value: bool) -> None:
        _require_flag("multicast_loopback", value)
        ipv4, ipv6 = stdlib_socket.IP_MULTICAST_LOOP, stdlib_socket.IPV6_MULTICAST_LOOP
        self._set_ip("multicast_loopback", ipv4, ipv6, value)

    # -- shared -------------------------------------------------------------------------------------------------------

    def _is_ipv6(self, name: str) -> bool:
        """Tell IPv6 from IPv4, and refuse what is neither."""
        family = self._core.require_kernel().family
        if family not in INET:
            raise SocketException(
                SocketError.OPERATION_NOT_SUPPORTED,
                detail=f"{name} is an option of IP, and this socket is of another family",
            )
        return family == stdlib_socket.AF_INET6

    def _require_ipv6(self, name: str) -> None:
        self._core.require_open()
        if not self._is_ipv6(name):
            raise SocketException(
                SocketError.OPERATION_NOT_SUPPORTED,
                detail=f"{name} is an option of IPv6, and this socket is one of IPv4",
            )

    def _set_ip(self, name: str, ipv4_option: int, ipv6_option: int, value: int) -> None:
        """Set an option of the IP that the socket speaks, or of both."""
        self._core.require_open()
        if not self._is_ipv6(name):
            self._core.set_option(_IP, ipv4_option, value)
            return
        self._core.set_option(_IPV6, ipv6_option, value)
        if self.dual_mode:
            with suppress(SocketException):  # not every system has it
                self._core.set_option(_IP, ipv4_option, value)
