"""Have the short ways of sending gone in C, where that was built.

`send_async`, `begin_send` and `end_send_nowait` in Python are complete, and say what is right. The compiled module has
the same short ways once more, and hands whatever is not ordinary over to Python. So all that is decided here is whether
it is there and fits; if not, nothing is missing but some speed.
"""

from __future__ import annotations

import os
import socket as stdlib_socket
from binascii import crc32
from pathlib import Path
from typing import Final

from .._base.codes import SocketAsyncOperation, SocketFlags
from .._base.error_numbers import SUCCESS
from .._messages.buffers import Piece
from .._operations.gate import STEP
from .._operations.send_calls import PLAIN_FLAGS
from .._operations.send_queue import SendQueue
from .._operations.states import IDLE, TRYING
from .._owners.current import current_owner
from .._owners.exiting_owner import ExitingOwner
from .async_result import EndedResult
from .core import SocketCore
from .event_args import SocketAsyncEventArgs
from .event_args_operation import EventArgsOperation
from .socket import Socket

#: 0 leaves it out. What else it can be is for the build.
SWITCH: Final = "TRIO_SEND_ACCELERATOR"

_SOURCE: Final = Path(__file__).parents[1] / "_accelerator.c"


def accelerate() -> bool:
    """Have the short ways gone in C if they can be; return whether they are."""
    if os.environ.get(SWITCH) == "0":
        return False
    try:
        from .. import _accelerator
    except ImportError:  # it was not built, or for another Python
        return False
    if not _is_of(_accelerator.SOURCE, _SOURCE):
        return False
    try:
        _accelerator.install(
            socket=Socket,
            core=SocketCore,
            args=SocketAsyncEventArgs,
            operation=EventArgsOperation,
            result=EndedResult,
            owner=ExitingOwner,
            queue=SendQueue,
            piece=Piece,
            socket_class=stdlib_socket.SocketType,
            current_owner=current_owner,
            no_flags=SocketFlags.NONE,
            send=SocketAsyncOperation.SEND,
            idle=IDLE,
            trying=TRYING,
            step=STEP,
            success=SUCCESS,
            plain_flags=PLAIN_FLAGS,
        )
    except (AttributeError, TypeError, RuntimeError):
        return False
    return True


def _is_of(digest: str, source: Path) -> bool:
    """Tell whether the module is one of this source; one of the same package always is."""
    try:
        text = source.read_bytes()
    except OSError:
        return True  # an installed package has no source of it, and so only this one
    return f"{crc32(text):08x}" == digest
