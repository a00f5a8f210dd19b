"""Blocking a thread that does not run Trio until a send has ended, or a flag is set."""

from __future__ import annotations

import math
from typing import Any, Final

from .._base.checks import require_seconds
from .._base.codes import SocketAsyncOperation
from .._base.wait_handle import WaitHandle
from .._socket.async_result import AsyncResult
from .._socket.results import is_told, kind_of, take_value
from .lifetime import require_plain_thread, wait

_SEND: Final = SocketAsyncOperation.SEND


def end_send(ar: AsyncResult) -> int:
    """Block this thread until a send has ended and take its result; once for each.

    Args:
      ar: what `begin_send` returned, here or in another thread.

    Returns:
      How many bytes the kernel accepted: all of them.

    Raises:
      SocketException: the send failed or was stopped; its ``bytes_transferred`` is exact.
      TypeError: ``ar`` is None.
      ValueError: ``ar`` is no result of a send; it is left as it was.
      InvalidOperationError: the result was taken already (F038), or this thread runs Trio.
      trio.Cancelled: this is a call of `trio.to_thread.run_sync`, and was cancelled; see below.

    **Checkpoints**: none, because this is no task. The thread is blocked.

    **If cancelled**: the call of `trio.to_thread.run_sync`, that is: `trio.Cancelled` within a twentieth of a second,
    as by `trio.from_thread.check_cancelled`. The operation goes on, because it belongs to the thread's initiator, and
    the result can still be taken.

    **Threads**: only those that do not run Trio; in Trio, `Socket.end_send`. It does not have to be the one that
    started the send.

    Source: the `begin_send` page, "will block on EndSend until the Socket sends the number of bytes requested or throws
    an exception" (F040, F047).
    """
    require_plain_thread(
        "end_send", "await socket.end_send(), or in a callback call end_send_nowait()"
    )
    _require_result("ar", ar, "begin_send()")
    is_of = kind_of(ar)
    if is_of != _SEND:
        raise ValueError(f"ar is the result of {is_of.name}, not of SEND")
    _take(ar)
    return ar.bytes_transferred


def end(result: AsyncResult) -> Any:
    """Block this thread until an operation has ended and take its result; once for each.

    Args:
      result: what `start` or `begin_send` returned, here or in another thread.

    Returns:
      What the end method of the socket returns: the count of a send or a receive, the `Socket` of an accept, the count
      and the sender of ``begin_receive_from``, None for a connect.

    Raises:
      SocketException: the operation failed or was stopped.
      TypeError: ``result`` is None.
      ValueError: ``result`` is something else.
      InvalidOperationError: the result was taken already (F038), or this thread runs Trio.
      trio.Cancelled: as by `end_send`.

    **Checkpoints**: none, because this is no task. The thread is blocked.

    **If cancelled**: as `end_send`.

    **Threads**: only those that do not run Trio; in Trio, the end method that fits. It does not have to be the one
    that started the operation.
    """
    require_plain_thread("end", "await the end method, such as socket.end_receive()")
    _require_result("result", result, "start()")
    return _take(result)


def _require_result(name: str, value: object, origin: str) -> None:
    if value is None:
        raise TypeError(f"{name} is None, but must be what {origin} returned")
    if not isinstance(value, AsyncResult):
        raise ValueError(f"{name} must be what {origin} returned, not {type(value).__name__}")


def _take(ar: AsyncResult) -> Any:
    """Wait until an operation has ended and use up the call of its end method; return its value, or raise its error."""
    if not is_told(ar):
        wait(ar.async_wait_handle)
    return take_value(ar)


def wait_one(handle: WaitHandle, timeout: float = math.inf) -> bool:
    """Block this thread until a flag is set.

    Args:
      handle: `AsyncResult.async_wait_handle`, or a `ManualResetEvent`.
      timeout: how many seconds to wait at most.

    Returns:
      True when the flag is set, False when ``timeout`` ran out first.

    Raises:
      TypeError: ``handle`` is something else, or ``timeout`` is no number.
      ValueError: ``timeout`` is negative or NaN.
      InvalidOperationError: this thread runs Trio.
      trio.Cancelled: this is a call of `trio.to_thread.run_sync`, and was cancelled.

    **Checkpoints**: none, because this is no task. The thread is blocked.

    **If cancelled**: as `end_send`; the flag and the operation behind it are untouched.

    **Threads**: only those that do not run Trio; in Trio, `WaitHandle.wait_one`.

    Source: the `begin_send` page, "If you want the original thread to block after you call the BeginSend method, use
    the WaitHandle::WaitOne method".
    """
    require_plain_thread("wait_one", "await handle.wait_one()")
    if not isinstance(handle, WaitHandle):
        raise TypeError(f"handle must be a trio_send.WaitHandle, not {type(handle).__name__}")
    return wait(handle, require_seconds("timeout", timeout))
