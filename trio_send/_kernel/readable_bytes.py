"""How many bytes a socket has received that nobody has taken yet, as the system counts them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket as stdlib_socket

if sys.platform == "win32":
    import ctypes

    _FIONREAD = 0x4004667F

    def readable_bytes(sock: stdlib_socket.socket) -> int:
        """Return how many bytes can be received without waiting; of datagrams, the system says which it counts.

        Raises:
          OSError: the system refused.
        """
        count = ctypes.c_ulong()
        if ctypes.windll.ws2_32.ioctlsocket(sock.fileno(), _FIONREAD, ctypes.byref(count)):
            raise ctypes.WinError(ctypes.windll.ws2_32.WSAGetLastError())
        return count.value

else:
    import fcntl
    import struct

    def readable_bytes(sock: stdlib_socket.socket) -> int:
        """Return how many bytes can be received without waiting; of datagrams, the system says which it counts.

        Raises:
          OSError: the system refused.
        """
        # Here, because few programs ask, and the others need not wait for its import.
        from termios import FIONREAD

        answer = fcntl.ioctl(sock.fileno(), FIONREAD, bytes(4))
        return int(struct.unpack("=i", answer)[0])
