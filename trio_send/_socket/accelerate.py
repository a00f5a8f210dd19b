"""Have the short ways of sending gone in C, where that was built.

The methods in Python are complete, and say what is right. The compiled module has some of their short ways once more,
and hands whatever is not ordinary over to Python. So all that is decided here is whether it is there and fits; if not,
nothing is missing but some speed.
"""

from __future__ import annotations

import os
import select
import socket as stdlib_socket
from binascii import crc32
from pathlib import Path
from typing import Final

import trio

from .._base.codes import SocketAsyncOperation, SocketFlags
from .._base.error_numbers import SUCCESS
from .._base.inbox import Inbox
from .._base.tries import Tries
from .._base.waiting_tasks import WaitingTasks
from .._kernel.epoll_set import EpollSet
from .._kernel.port import KernelPort
from .._messages.buffers import (
    JOIN_PIECE_SIZE,
    JOIN_TOTAL,
    MAX_PIECES,
    Message,
    Piece,
    WholeBytes,
)
from .._operations.bulk_ends import ENDING_OWNERS
from .._operations.gate import BUSY, NOTED, STEP
from .._operations.operation import Operation
from .._operations.queue import OPERATION_COST
from .._operations.send_calls import PLAIN_FLAGS
from .._operations.send_queue import SendQueue
from .._operations.states import ABORTED, DONE, IDLE, QUEUED, TRYING
from .._operations.watermarks import OPERATION_WEIGHT, Watermarks
from .._owners import exiting_owner
from .._owners.current import current_owner
from .._owners.dispatcher import Dispatcher, call_unprotected
from .._owners.engine import RETRIES, Engine
from .._owners.scope_owner import ScopeOwner
from .._tracing.instruments import Instruments
from .async_result import AsyncResult, EndedResult, ResultOperation
from .completed_event import CompletedEvent
from .core import SocketCore
from .event_args import SocketAsyncEventArgs
from .event_args_operation import EventArgsOperation
from .event_args_settings import EventArgsSettings
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
            settings=EventArgsSettings,
            event=CompletedEvent,
            record=Operation,
            operation=EventArgsOperation,
            result_operation=ResultOperation,
            result=EndedResult,
            pending_result=AsyncResult,
            owner=exiting_owner.ExitingOwner,
            scope_owner=ScopeOwner,
            queue=SendQueue,
            port=KernelPort,
            marks=Watermarks,
            tries=Tries,
            engine=Engine,
            pollset=EpollSet,
            dispatcher=Dispatcher,
            waiting=WaitingTasks,
            inbox=Inbox,
            instruments=Instruments,
            message=Message,
            whole_bytes=WholeBytes,
            piece=Piece,
            socket_class=stdlib_socket.SocketType,
            current_owner=current_owner,
            pace_of_starts=vars(exiting_owner),
            ending_owners=ENDING_OWNERS,
            call_unprotected=call_unprotected,
            current_trio_token=trio.lowlevel.current_trio_token,
            epoll_class=getattr(select, "epoll", None),
            no_flags=SocketFlags.NONE,
            send=SocketAsyncOperation.SEND,
            idle=IDLE,
            trying=TRYING,
            queued=QUEUED,
            done=DONE,
            aborted=ABORTED,
            step=STEP,
            noted=NOTED,
            busy=BUSY,
            success=SUCCESS,
            plain_flags=PLAIN_FLAGS,
            operation_weight=OPERATION_WEIGHT,
            operation_cost=OPERATION_COST,
            max_pieces=MAX_PIECES,
            join_piece_size=JOIN_PIECE_SIZE,
            join_total=JOIN_TOTAL,
            retries=RETRIES,
            starts_per_look=exiting_owner.STARTS_PER_LOOK,
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
