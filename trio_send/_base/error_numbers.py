"""The numbers of errors that the library itself gives, as plain numbers.

A result is kept as a plain number, because looking a member of an enum up costs as much as a transition of an
operation.
"""

from __future__ import annotations

from typing import Final

from .codes import SocketError

SUCCESS: Final = int(SocketError.SUCCESS)
SOCKET_ERROR: Final = int(SocketError.SOCKET_ERROR)
OPERATION_ABORTED: Final = int(SocketError.OPERATION_ABORTED)
FAULT: Final = int(SocketError.FAULT)
CONNECTION_ABORTED: Final = int(SocketError.CONNECTION_ABORTED)
NO_BUFFER_SPACE_AVAILABLE: Final = int(SocketError.NO_BUFFER_SPACE_AVAILABLE)
NOT_CONNECTED: Final = int(SocketError.NOT_CONNECTED)
SHUTDOWN: Final = int(SocketError.SHUTDOWN)
TIMED_OUT: Final = int(SocketError.TIMED_OUT)
