"""What the begin and end methods of all kinds of operations share: how a result is made, waited for and taken."""

from __future__ import annotations

from threading import get_ident
from typing import TYPE_CHECKING, Any

import trio

from .._base.codes import SocketAsyncOperation, SocketError, SocketFlags, require_flags
from .._owners.lent_watch import wait_until_told
from .async_result import AsyncResult, EndedResult, HandedOut
from .starts import NO_FLAGS, begin, begin_send, prepare, record_of as operation_of_args

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from .._messages.buffers import Message
    from .._operations.operation import Operation, Step
    from .._operations.queue import OperationQueue
    from .._owners.exiting_owner import ExitingOwner
    from .async_result import ResultOperation
    from .core import SocketCore, Verb
    from .event_args import SocketAsyncEventArgs


def record_of(result: AsyncResult) -> ResultOperation:
    """Return the operation of a result that is no `EndedResult`."""
    return result._operation


def make_result(
    core: SocketCore,
    socket: Verb,
    callback: Callable[[AsyncResult], object] | HandedOut | None,
    state: Any,
) -> AsyncResult:
    """Return the result of a start that is about to be made."""
    if isinstance(callback, HandedOut):
        return callback.result
    return AsyncResult(socket, core.token, callback, state)


def result_and_operation(
    socket: object,
    token: trio.lowlevel.TrioToken | None,
    callback: Callable[[AsyncResult], object] | None,
    state: Any,
) -> tuple[AsyncResult, ResultOperation]:
    """Return a result for a start that another thread makes, and its operation."""
    result = AsyncResult(socket, token, callback, state)
    return result, record_of(result)


# Begin ----------------------------------------------------------------------------------------------------------------


def begin_message(
    core: SocketCore,
    socket: Verb,
    message: Message,
    socket_flags: SocketFlags,
    callback: Callable[[AsyncResult], object] | None,
    state: Any,
    kind: SocketAsyncOperation,
    address: Any = None,
) -> AsyncResult:
    """Begin a send of a message, and to an address, that were checked."""
    if socket_flags is not NO_FLAGS:
        require_flags(socket_flags)
    result = make_result(core, socket, callback, state)
    owner = core.require_owner()
    operation = record_of(result)
    operation.claim()
    operation.message = message
    prepare(core, socket, operation, kind, face=result, address=address)
    return conclude(core, result, owner, begin_send(core, operation, socket_flags))


def begin_step(
    core: SocketCore,
    socket: Verb,
    step: Step,
    queue: OperationQueue,
    callback: Callable[[AsyncResult], object] | None,
    state: Any,
    kind: SocketAsyncOperation,
) -> AsyncResult:
    """Begin an operation that is no send; raise if it has failed on the spot."""
    result = make_result(core, socket, callback, state)
    owner = core.require_owner()
    operation = record_of(result)
    operation.claim()
    prepare(core, socket, operation, kind, face=result, step=step)
    return succeeded(conclude(core, result, owner, begin(core, operation, queue)))


def conclude(
    core: SocketCore, result: AsyncResult, owner: ExitingOwner, pending: bool
) -> AsyncResult:
    """Settle what is left to do for a result that was begun."""
    if pending:
        return result
    operation = record_of(result)
    if operation.code:
        core.sends.count_on_the_spot(operation)
        owner.count_failure_on_the_spot(operation)
    if owner.spend():
        operation.queue = core.sends  # knows whether its message was cut
        owner.pace(operation)
    else:
        operation.completed_synchronously = True
        if not operation.code and operation.callback is not None:
            operation.end_later(owner)
            operation.can_be_taken = True
            owner.ended(operation, None)
        else:
            operation.rest(core.sends)
    if core.sends.instruments.watching:
        core.sends.instruments.ended_on_the_spot(operation, core.sends)
    return result


def succeeded(result: AsyncResult) -> AsyncResult:
    """Return a result that is no `EndedResult`, or raise what it has failed with on the spot."""
    operation = record_of(result)
    if operation.failed_on_the_spot:
        raise operation.make_error()
    return result


def result_and_error(result: AsyncResult) -> tuple[AsyncResult | None, SocketError]:
    """Return a result and SUCCESS; or None and what it has failed with on the spot."""
    if type(result) is not EndedResult:
        operation = record_of(result)
        if operation.failed_on_the_spot:
            return None, SocketError(operation.code)
    return result, SocketError.SUCCESS


# End ------------------------------------------------------------------------------------------------------------------


def require_result(
    core: SocketCore, socket: Verb, ar: AsyncResult, kind: SocketAsyncOperation
) -> None:
    """Raise unless a result is of an operation of this kind on this socket."""
    if get_ident() != core.thread:
        core.require_usable()
    if ar is None:
        raise TypeError("ar is None, but must be what the begin method returned")
    if not isinstance(ar, AsyncResult):
        raise ValueError(f"ar must be what the begin method returned, not {type(ar).__name__}")
    if origin_of(ar) is not socket:
        raise ValueError("ar is the result of an operation on another socket")
    is_of = kind_of(ar)
    if is_of != kind:
        raise ValueError(f"ar is the result of {is_of.name}, not of {kind.name}")


def origin_of(ar: AsyncResult) -> object:
    """Return whose end method may take a result."""
    return ar.origin if isinstance(ar, EndedResult) else record_of(ar).origin


def kind_of(ar: AsyncResult) -> SocketAsyncOperation:
    """Return what a result is the result of."""
    return SocketAsyncOperation.SEND if type(ar) is EndedResult else record_of(ar).kind


def wait_for_end(
    core: SocketCore, socket: Verb, ar: AsyncResult, kind: SocketAsyncOperation
) -> Coroutine[Any, Any, object]:
    """Return what to await, with at least one checkpoint, until ``ar`` has been told.

    Not an async function, for every frame on the way down is passed twice for each wait.
    """
    require_result(core, socket, ar, kind)
    if type(ar) is not EndedResult:
        operation = record_of(ar)
        if operation.in_flight and not operation.is_taken and not operation.can_be_taken:
            return wait_until_told(operation)
    return trio.lowlevel.checkpoint()  # noqa: ASYNC105


def is_told(ar: AsyncResult) -> bool:
    """Tell whether a result can be taken, or was; if not, see to it that its end is told."""
    if isinstance(ar, EndedResult):
        return True
    operation = record_of(ar)
    if operation.is_completed or operation.is_taken:
        return True
    operation.tell_if_held()
    return False


def take_value(ar: AsyncResult) -> Any:
    """Take a result that has been told; return what the end method returns, or raise what it has failed with."""
    if isinstance(ar, EndedResult):
        ar.take()
        return ar.transferred
    operation = record_of(ar)
    operation.take()
    try:
        if operation.code:
            raise operation.make_error()
        return operation.value
    finally:
        del ar, operation  # a frame that holds what it raised is a cycle


def try_take(
    core: SocketCore, socket: Verb, ar: AsyncResult, kind: SocketAsyncOperation
) -> tuple[int, SocketError]:
    """Take a result; return the count and the error, or SUCCESS."""
    require_result(core, socket, ar, kind)
    if not ar.is_completed:
        raise trio.WouldBlock
    if isinstance(ar, EndedResult):
        ar.take()
        return ar.transferred, SocketError.SUCCESS
    operation = record_of(ar)
    operation.take()
    return operation.transferred, SocketError(operation.code)


def end_value(core: SocketCore, socket: Verb, ar: AsyncResult, kind: SocketAsyncOperation) -> Any:
    """Take a result; return what the end method returns, or raise what it has failed with."""
    require_result(core, socket, ar, kind)
    if not ar.is_completed:
        raise trio.WouldBlock
    return take_value(ar)


def end_nowait(core: SocketCore, socket: Verb, ar: AsyncResult, kind: SocketAsyncOperation) -> int:
    """Take a result; return its count, or raise what it has failed with."""
    end_value(core, socket, ar, kind)
    return ar.bytes_transferred


@trio.lowlevel.enable_ki_protection
async def end(core: SocketCore, socket: Verb, ar: AsyncResult, kind: SocketAsyncOperation) -> int:
    """Wait for the end of an operation and take its result."""
    await wait_for_end(core, socket, ar, kind)
    return end_nowait(core, socket, ar, kind)


def operation_behind(face: AsyncResult | SocketAsyncEventArgs) -> Operation | None:
    """Return the operation of args or of a result; None for a result that never needed one."""
    if isinstance(face, EndedResult):
        return None
    return record_of(face) if isinstance(face, AsyncResult) else operation_of_args(face)
