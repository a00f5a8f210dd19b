"""A socket as a Trio stream, for everything that speaks to streams: ``trio.SSLStream``, protocols, file copies.

`trio.SocketStream` sends past the queue and cannot tell what became of a send that was cancelled. This stream sends
through the queue, in order with all other faces, and after a cancelled send the socket knows which bytes are missing.
"""

from __future__ import annotations

import operator
from contextlib import suppress
from typing import TYPE_CHECKING, Final, final
from weakref import WeakKeyDictionary

import trio

from .._base.checks import NotCopied, counted
from .._base.codes import SocketAsyncOperation, SocketError, SocketShutdown
from .._base.errors import SocketClosedError, SocketException, detail_of
from .._messages.buffers import measure, message_of
from .._operations.gate import TORN
from .._operations.operation import CLOSED_DETAIL, Operation, Step
from .._operations.send_queue import TORN_DETAIL
from .._owners.awaiting_task import TurnStep, describe_interruption, perform
from .core import core_of
from .guard import Guard
from .send_report import SendReport
from .starts import make_step

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Buffer

    from .._kernel.port import Port
    from .socket import Socket

#: What a receive asks for when the caller leaves it open; what Trio's own streams ask for.
DEFAULT_RECEIVE_SIZE: Final = 65536


class _WritableStep(Step):
    """Waits until the kernel has room."""

    __slots__ = ("_port", "must_be_awaited")

    def __init__(self, port: Port) -> None:
        self._port = port
        self.must_be_awaited = True

    async def wait_ready(self, operation: Operation) -> None:
        await self._port.wait_writable()
        self.must_be_awaited = False

    def attempt(self, operation: Operation) -> None:
        if self.must_be_awaited:
            raise BlockingIOError


class _NoGuard:
    """Lets everybody in, to wait their turn in the queue."""

    __slots__ = ()

    def __enter__(self) -> None: ...

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


@final
class SocketStream(NotCopied, trio.abc.HalfCloseableStream):
    """What `Socket.as_stream` returns.

    Attributes:
      socket: the socket, with the `Socket.getpeername` and `Socket.getsockname` that protocols ask for.
    """

    def __init__(self, socket: Socket, *, shared: bool) -> None:
        self.socket = socket
        self._send_guard: Guard | _NoGuard = (
            _NoGuard()
            if shared
            else Guard(
                "sending on this stream",
                "send from one task, or have sends wait their turn with as_stream(shared=True)",
            )
        )
        self._receive_guard = Guard("receiving from this stream", "receive from one task")
        #: Whether the end was announced, or is about to be.
        self._is_ended = False
        self._reports: WeakKeyDictionary[trio.lowlevel.Task, SendReport] = WeakKeyDictionary()
        self._core = core_of(socket)
        if self._core.sends.failures is None:
            self._core.sends.failures = WeakKeyDictionary()

    def __repr__(self) -> str:
        return f"<stream of {self.socket!r}>"

    # -- sending ------------------------------------------------------------------------------------------------------

    @property
    def last_send(self) -> SendReport | None:
        """What became of the calling task's latest `send_all`, if that failed or was cancelled; else None."""
        return self._reports.get(trio.lowlevel.current_task())

    @trio.lowlevel.enable_ki_protection
    async def send_all(self, data: Buffer) -> None:
        """Send all of ``data``, behind whatever is queued on the socket already."""
        if type(data) is not bytes:
            measure("data", data)  # the socket would take lists and args too
        failures = self._core.sends.failures
        if failures:
            failures.pop(trio.lowlevel.current_task(), None)  # that of another send
        try:
            with self._send_guard:
                self._require_sendable()
                try:
                    await self.socket.send(data)
                except SocketClosedError:
                    raise
                except SocketException as error:
                    raise self._translated(error) from error
        except BaseException as error:
            self._report(data, error)
            raise
        if self._reports:
            self._reports.pop(trio.lowlevel.current_task(), None)

    def _report(self, data: Buffer, error: BaseException) -> None:
        """Note what became of the calling task's message."""
        task = trio.lowlevel.current_task()
        failures = self._core.sends.failures
        assert failures is not None
        operation = failures.pop(task, None)
        if operation is None:  # it had not begun
            operation = Operation()
            operation.is_fresh = False
            with suppress(Exception):  # a buffer that is gone meanwhile, or a program that raises
                operation.message = message_of("data", data, 0, None)
            code, detail = SocketError.OPERATION_ABORTED, describe_interruption(error)
            if isinstance(error, SocketClosedError):
                detail = CLOSED_DETAIL
            elif isinstance(error, trio.ClosedResourceError):
                code, detail = SocketError.SHUTDOWN, str(error)
            elif isinstance(error, trio.BusyResourceError):
                code, detail = SocketError.IN_PROGRESS, str(error)
            operation.set_error(code, 0, detail)
        self._reports[task] = SendReport(operation)

    @trio.lowlevel.enable_ki_protection
    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the queue is empty and the kernel has room."""
        with self._send_guard:
            self._require_sendable()
            await self._wait_for(_WritableStep(self._core.port))

    @trio.lowlevel.enable_ki_protection
    async def send_eof(self) -> None:
        """Tell the peer that nothing more comes, behind whatever is queued on the socket already."""
        with self._send_guard:
            self._core.require_own()
            if self._is_ended or self._core.send_was_shut_down:
                await trio.lowlevel.checkpoint()
                return
            self._is_ended = True
            try:
                await self._wait_for(TurnStep())
                if self._core.sends.gate & TORN:
                    # The peer would take what it has for all there was.
                    raise self._broken()
                try:
                    self.socket.shutdown(SocketShutdown.SEND)
                except SocketClosedError:
                    raise
                except SocketException as error:
                    raise self._translated(error) from error
            except BaseException:
                self._is_ended = False
                raise

    async def _wait_for(self, step: Step) -> None:
        """Wait for the turn, and then for the step."""
        core = self._core
        await trio.lowlevel.checkpoint_if_cancelled()
        operation = make_step(core, self.socket, step, SocketAsyncOperation.NONE)
        try:
            await perform(operation, core.sends)
        except SocketClosedError:
            raise
        except SocketException as error:
            raise self._translated(error) from error

    # -- receiving ----------------------------------------------------------------------------------------------------

    @trio.lowlevel.enable_ki_protection
    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Receive what has arrived, as soon as something has; ``b""`` when the peer has finished."""
        with self._receive_guard:
            self._core.require_own()
            size = DEFAULT_RECEIVE_SIZE if max_bytes is None else operator.index(max_bytes)
            try:
                return await self.socket.receive(size)
            except SocketClosedError:
                raise
            except SocketException as error:
                raise self._translated(error) from error

    # -- the end ------------------------------------------------------------------------------------------------------

    @trio.lowlevel.enable_ki_protection
    async def aclose(self) -> None:
        """Close the socket at once; what waits in its queue ends, and the peer sees a reset then."""
        self.socket.close()
        await trio.lowlevel.checkpoint()

    # -- errors -------------------------------------------------------------------------------------------------------

    def _require_sendable(self) -> None:
        self._core.require_own()
        if self._is_ended or self._core.send_was_shut_down:
            raise trio.ClosedResourceError(
                "the end of this stream was announced, so nothing can be sent any more"
            )

    def _translated(self, error: SocketException) -> Exception:
        """Return what a Trio stream raises instead."""
        if self._core.sends.gate & TORN:
            return self._broken()
        if detail_of(error) is TORN_DETAIL:
            return trio.BrokenResourceError(
                "nothing of this message was sent, because the one before it was cut; that has been settled "
                "meanwhile, so send this one again"
            )
        return trio.BrokenResourceError(f"the connection is of no use any more: {error}")

    def _broken(self) -> trio.BrokenResourceError:
        torn = self.socket.torn
        assert torn is not None
        return trio.BrokenResourceError(
            f"a message on this stream was cut after {torn.bytes_transferred} of {counted(torn.size, 'byte')}; before "
            "anything else can be sent, send the rest with 'await stream.socket.send_rest()', or give it up with "
            "stream.socket.forget_torn()"
        )
