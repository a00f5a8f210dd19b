"""How a receive of any kind is checked and begun, whichever face it comes through."""

from __future__ import annotations

import errno as errno_module
import sys
from typing import TYPE_CHECKING, Any, Final

import trio

from .._base.checks import require_whole_number
from .._base.codes import SocketAsyncOperation, SocketError, SocketFlags, native_receive_flags
from .._base.error_numbers import NOT_CONNECTED
from .._messages.buffers import Message, require_writable
from .._operations.gate import UNCONNECTED
from .._operations.operation import Operation, Step
from .._owners.awaiting_task import perform, tell_on_the_spot
from .receive_steps import ReceiveBytesStep, is_end
from .results import conclude, make_result, record_of
from .starts import args_to_start, begin, make_step, prepare, settle

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from .async_result import AsyncResult
    from .core import SocketCore, Verb
    from .event_args import SocketAsyncEventArgs


#: No receive asks for more at once. Python makes a buffer of that size first, which is cheap until it is filled, and
#: where there is no memory for it the error would strike whoever makes the attempt. No datagram is so long.
MOST_BYTES: Final = 64 * 1024 * 1024


def receive_args(
    core: SocketCore,
    socket: Verb,
    args: SocketAsyncEventArgs,
    step: Step,
    kind: SocketAsyncOperation,
) -> bool:
    """Check args and begin to receive into their message; return what is to be answered."""
    operation = args_to_start(core, args)
    message = operation.message
    if message is None:
        raise ValueError(
            "args has nothing to receive into; give it a buffer with set_buffer(), or set its buffer_list"
        )
    is_list = operation.buffer_list is not None
    require_writable("buffer_list" if is_list else "buffer", message, is_list=is_list)
    core.require_owner()
    operation.claim()
    operation.message = message
    prepare(core, socket, operation, kind, face=args, step=step)
    return _begin(core, operation, operation.socket_flags) or settle(core, operation)


def begin_receive(
    core: SocketCore,
    socket: Verb,
    message: Message,
    socket_flags: SocketFlags,
    callback: Callable[[AsyncResult], object] | None,
    state: Any,
    step: Step,
    kind: SocketAsyncOperation,
) -> AsyncResult:
    """Begin to receive into a message that was checked."""
    owner = core.require_owner()
    result = make_result(core, socket, callback, state)
    operation = record_of(result)
    operation.claim()
    operation.message = message
    prepare(core, socket, operation, kind, face=result, step=step)
    return conclude(core, result, owner, _begin(core, operation, socket_flags))


async def receive_awaited(
    core: SocketCore,
    socket: Verb,
    step: Step,
    message: Message | None,
    kind: SocketAsyncOperation,
) -> int:
    """Receive for the calling task, and wait until something has arrived."""
    await trio.lowlevel.checkpoint_if_cancelled()
    operation = Operation()
    operation.claim()
    operation.message = message
    prepare(core, socket, operation, kind, step=step)
    if _admit(core, operation):
        operation.flags = 0
        return await perform(operation, core.reading_queue())
    return await tell_on_the_spot(operation, core.sends)


@trio.lowlevel.enable_ki_protection
def go_on_receiving(
    core: SocketCore,
    socket: Verb,
    step: ReceiveBytesStep,
    kind: SocketAsyncOperation,
    error: OSError,
) -> Coroutine[Any, Any, int]:
    """Go on with the step of the queue in which a first attempt has raised ``error``; return what to await."""
    queue = core.reading_queue()
    operation = make_step(core, socket, step, kind)
    if is_end(core, error):
        queue.end_attempt()
        return tell_on_the_spot(operation, queue)
    return perform(operation, queue, queue.go_on, error)


def _begin(core: SocketCore, operation: Operation, flags: SocketFlags) -> bool:
    """Begin a receive for the initiator that was checked; return whether it is pending."""
    native = native_receive_flags(flags)
    if native is None:
        operation.set_error(
            SocketError.OPERATION_NOT_SUPPORTED,
            0,
            f"{SocketFlags(flags)!r} cannot be used to receive on this system",
        )
        return False
    operation.flags = native
    owner = core.checked
    # For a program whose initiator was stopped, that is the reason, whatever else there may be.
    if owner is not None and owner.why_refused() is None and not _admit(core, operation):
        return False
    return begin(core, operation, core.reading_queue())


def _admit(core: SocketCore, operation: Operation) -> bool:
    """Return False if there is nobody to receive from, with the reason in the results."""
    if core.sends.gate & UNCONNECTED and core.port.is_stream:
        # Also while it is being connected: the kernel would tell the receive, and it alone, why that has failed.
        operation.set_error(NOT_CONNECTED, errno_module.ENOTCONN)
        return False
    return True


def require_max_bytes(max_bytes: int) -> int:
    """Return how many bytes to ask for, if ``max_bytes`` is a number of bytes."""
    max_bytes = require_whole_number("max_bytes", max_bytes, "bytes")
    if not 1 <= max_bytes <= sys.maxsize:
        raise ValueError(
            f"max_bytes is {max_bytes}, but must be at least 1, and at most {sys.maxsize}"
        )
    return min(max_bytes, MOST_BYTES)
