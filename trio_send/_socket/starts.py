"""The way in: how an operation of any kind is checked, prepared and begun, whichever face it comes through.

The verbs call these functions in this order: who may start (`SocketCore.require_usable`, `args_to_start`), what and how
(`prepare`), whether the socket takes it (`admit`), the start itself (`begin`), and what is answered for an operation
that has ended on the spot (`settle`). A start that is refused with an exception has changed nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import trio

from .._base.codes import (
    SocketAsyncOperation,
    SocketError,
    SocketFlags,
    native_send_flags,
    require_flags,
)
from .._base.error_numbers import OPERATION_ABORTED
from .._base.errors import ObjectDisposedError, OperationInProgressError
from .._operations.gate import FULL, REFUSING
from .._operations.operation import IN_USE, Operation
from .._operations.send_calls import PLAIN_FLAGS
from .._operations.states import ARRIVED, CUT, IDLE
from .._owners.awaiting_task import describe_interruption, perform, tell_on_the_spot
from .event_args import SocketAsyncEventArgs
from .event_args_operation import EventArgsOperation

if TYPE_CHECKING:
    from .._messages.buffers import Message
    from .._operations.operation import Step
    from .._operations.queue import OperationQueue
    from .core import SocketCore, Verb

#: What a caller that passes no flags passes; the truth of a flag costs more than all the rest of the look at a start.
NO_FLAGS: Final = SocketFlags.NONE

_NOT_BEGUN: Final = "the awaiting task was interrupted before the operation began"
NOTHING_TO_SEND: Final = (
    "args has nothing to send; give it a buffer with set_buffer(), or set its buffer_list"
)


# What is to be started ------------------------------------------------------------------------------------------------


def record_of(args: SocketAsyncEventArgs) -> EventArgsOperation:
    """Return the operation of args."""
    return args._operation


def operation_of(args: SocketAsyncEventArgs) -> EventArgsOperation:
    """Return the operation of args that were not closed."""
    if not isinstance(args, SocketAsyncEventArgs):
        raise TypeError(f"args must be a SocketAsyncEventArgs, not {type(args).__name__}")
    operation = record_of(args)
    if operation.is_closed:
        raise ObjectDisposedError("these args were closed; make others")
    return operation


def require_startable(operation: Operation) -> None:
    """Raise unless the operation is free."""
    if operation.state in (IDLE, ARRIVED):
        return
    if operation.is_pending:
        raise OperationInProgressError(IN_USE)
    operation.require_free()


def args_to_start(core: SocketCore, args: SocketAsyncEventArgs) -> EventArgsOperation:
    """Return the operation of args that can be started on a socket, or raise."""
    core.require_usable()
    operation = operation_of(args)
    require_startable(operation)
    return operation


def args_to_send(core: SocketCore, args: SocketAsyncEventArgs) -> EventArgsOperation | None:
    """Return the operation of args whose message can be sent; None if `refuse_cut` is to answer for them; or raise."""
    core.require_usable()
    operation = operation_of(args)
    if is_refused_as_cut(core, operation):
        return None
    require_startable(operation)
    if operation.message is None:
        raise ValueError(NOTHING_TO_SEND)
    return operation


def claim_message(operation: EventArgsOperation) -> Message:
    """Claim an operation; return its message, which may have become another one in the middle of the checks."""
    operation.claim()
    if operation.message is None:
        operation.rest(None)
        raise ValueError(NOTHING_TO_SEND)
    return operation.message


# What and how ---------------------------------------------------------------------------------------------------------


def prepare(
    core: SocketCore,
    socket: Verb,
    operation: Operation,
    kind: SocketAsyncOperation,
    *,
    face: object = None,
    step: Step | None = None,
    address: Any = None,
) -> None:
    """Write down what an operation is about that was claimed; its message is there already.

    Args:
      core: of the socket.
      socket: what handlers are called with.
      operation: which.
      kind: what it does.
      face: what the program holds of it.
      step: what an attempt does, if it is no send.
      address: where a datagram goes to.
    """
    operation.reset_results()
    operation.socket = socket
    operation.face = face
    operation.kind = kind
    operation.step = step
    operation.address = address
    operation.capture_context()
    if core.sends.instruments.watching:
        core.sends.instruments.started(operation, core.sends)


def make_step(core: SocketCore, socket: Verb, step: Step, kind: SocketAsyncOperation) -> Operation:
    """Return an operation for the calling task that is no send, ready to be performed."""
    operation = Operation()
    operation.claim()
    prepare(core, socket, operation, kind, step=step)
    return operation


def set_send_flags(operation: Operation, flags: SocketFlags) -> bool:
    """Note how to send; return False if that is impossible, with the reason in the results."""
    if flags is NO_FLAGS:
        operation.flags = PLAIN_FLAGS
        return True
    native = native_send_flags(flags)
    if native is None:
        operation.set_error(
            SocketError.OPERATION_NOT_SUPPORTED,
            0,
            f"{SocketFlags(flags)!r} cannot be used to send on this system",
        )
        return False
    operation.flags = native
    return True


def admit(core: SocketCore, operation: Operation, *, waits: bool = False) -> bool:
    """Return False if the socket takes no sends, with the reason in the results.

    Args:
      core: of the socket.
      operation: which.
      waits: whether a task awaits it, so that it has its place in a full queue too.
    """
    refusal = core.sends.refusal(operation, waits)
    if refusal is not None:
        operation.set_error(*refusal)
        return False
    return True


# The start, and what is answered --------------------------------------------------------------------------------------


def begin(core: SocketCore, operation: Operation, queue: OperationQueue) -> bool:
    """Begin an operation for the initiator that was checked; return whether it is pending."""
    owner = core.checked
    if owner is None:  # the socket was closed in the middle of this
        return queue.refuse_closed(operation)
    return not owner.refuses(operation) and queue.start(operation, owner)


def begin_send(core: SocketCore, operation: Operation, flags: SocketFlags) -> bool:
    """Begin a send that was prepared; return whether it is pending."""
    if not set_send_flags(operation, flags):
        return False
    owner = core.checked
    if (
        core.sends.gate & (REFUSING | FULL)
        and owner is not None
        # For a program whose initiator was stopped, that is the reason, whatever else there may be.
        and owner.why_refused() is None
        and not admit(core, operation)
    ):
        return False
    return begin(core, operation, core.sends)


def settle(core: SocketCore, operation: Operation) -> bool:
    """Answer for an operation that ended on the spot; return whether the answer is "pending" all the same."""
    owner = core.checked
    # If there is none, the socket was closed from inside the attempt.
    pending = owner is not None and owner.spend()
    if operation.code:
        core.sends.count_on_the_spot(operation)
        if owner is not None:
            owner.count_failure_on_the_spot(operation)
    if pending and owner is not None:
        operation.queue = core.sends  # knows whether it was the rest of a message, cut again
        owner.pace(operation)
    else:
        operation.socket = None
        operation.rest(core.sends)
    if core.sends.instruments.watching:
        core.sends.instruments.ended_on_the_spot(operation, core.sends)
    return pending


def start_args(
    core: SocketCore,
    socket: Verb,
    args: SocketAsyncEventArgs,
    kind: SocketAsyncOperation,
    message: Message | None = None,
    address: Any = None,
) -> bool:
    """Send the message of args that were checked, or another one; return whether it is pending."""
    operation = record_of(args)
    if message is None:
        claim_message(operation)
    else:
        operation.claim()
        operation.message = message
    prepare(core, socket, operation, kind, face=args, address=address)
    return begin_send(core, operation, operation.socket_flags) or settle(core, operation)


def start_step(
    core: SocketCore,
    socket: Verb,
    args: SocketAsyncEventArgs,
    step: Step,
    queue: OperationQueue,
    kind: SocketAsyncOperation,
) -> bool:
    """Begin what is no send with args that were checked; return whether it is pending."""
    operation = record_of(args)
    operation.claim()
    prepare(core, socket, operation, kind, face=args, step=step)
    return begin(core, operation, queue) or settle(core, operation)


def is_refused_as_cut(core: SocketCore, operation: Operation) -> bool:
    """Tell whether args are started that were cut here, and after the stop."""
    return (
        operation.state == CUT
        and core.sends.is_torn_by(operation)
        and core.require_owner().why_refused() is not None
    )


def refuse_cut(core: SocketCore, socket: Verb, args: SocketAsyncEventArgs) -> bool:
    """Answer for args that were cut and started after the stop: as for any others, but their count and rest stay.

    So a handler that restarts blindly while its initiator is left does no harm.
    """
    operation = record_of(args)
    owner = core.require_owner()
    operation.claim()
    operation.face = args
    if core.sends.instruments.watching:
        core.sends.instruments.started(operation, core.sends)
    owner.refuses(operation)
    operation.socket = socket
    operation.capture_context()
    return settle(core, operation)


@trio.lowlevel.enable_ki_protection
async def send_awaited(
    core: SocketCore,
    socket: Verb,
    operation: Operation,
    message: Message,
    flags: SocketFlags,
    kind: SocketAsyncOperation,
    *,
    face: object = None,
    address: Any = None,
) -> int:
    """Send a message that was checked for the calling task, and wait until all of it was accepted."""
    require_flags(flags)
    # If the task is cancelled, the operation has ended before it began, and must not go on saying how the one
    # before it ended. That is noted first, because a checkpoint lets others run, who may start the same object.
    operation.claim()
    operation.reset_results()
    operation.step = None
    operation.kind = kind
    operation.set_error(OPERATION_ABORTED, 0, _NOT_BEGUN)
    operation.rest(None)
    try:
        await trio.lowlevel.checkpoint_if_cancelled()
    except BaseException as interruption:
        if operation.state == IDLE and operation.code and operation.detail is _NOT_BEGUN:
            operation.detail = describe_interruption(interruption)
        raise
    if isinstance(operation, EventArgsOperation):
        claim_message(operation)
    else:
        operation.claim()
        operation.message = message
    prepare(core, socket, operation, kind, face=face, address=address)
    if set_send_flags(operation, flags) and admit(core, operation, waits=True):
        return await perform(operation, core.sends)
    return await tell_on_the_spot(operation, core.sends)
