"""The three faces of sending, each as a strategy of a few lines that a transfer can use.

They are also examples: this is how a program sends with event args, with begin and end, and with await.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import outcome
import trio

from ... import AsyncResult, Socket, SocketAsyncEventArgs, SocketException, open_initiator
from .chunks import Chunk, Face

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


def _error_of(args: SocketAsyncEventArgs) -> SocketException | None:
    """Return why the operation of ``args`` failed; None if it did not."""
    ended = args.outcome
    if isinstance(ended, outcome.Error):
        assert isinstance(ended.error, SocketException)
        return ended.error
    return None


class EventFace(Face):
    """``socket.send_async(args)``, with one args object for each chunk, and a handler of ``args.completed``."""

    def __init__(self, socket: Socket, on_end: Callable[[Chunk], None]) -> None:
        super().__init__(socket, on_end)
        self._args: dict[Chunk, SocketAsyncEventArgs] = {}

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[trio.CancelScope]:
        """Open an initiator."""
        async with open_initiator(name="event") as initiator:
            yield initiator.cancel_scope

    def _args_of(self, chunk: Chunk) -> SocketAsyncEventArgs:
        args = self._args.get(chunk)
        if args is None:
            args = self._args[chunk] = SocketAsyncEventArgs(chunk.buffer, user_token=chunk)
            args.completed += self._completed
        return args

    async def start(self, chunk: Chunk) -> None:
        """Start; what has ended on the spot raises no event."""
        args = self._args_of(chunk)
        args.set_range(0, chunk.size)
        chunk.operation = args
        chunk.pending = self._socket.send_async(args)
        if not chunk.pending:
            self._end(chunk, _error_of(args))

    def _completed(self, socket: Socket, args: SocketAsyncEventArgs) -> None:
        chunk: Chunk = args.user_token
        self._end(chunk, _error_of(args))


class BeginFace(Face):
    """``socket.begin_send(...)`` with a callback, which takes the result with ``end_send_nowait``."""

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[trio.CancelScope]:
        """Open an initiator."""
        async with open_initiator(name="begin") as initiator:
            yield initiator.cancel_scope

    async def start(self, chunk: Chunk) -> None:
        """Start; the callback is called for what has ended on the spot too, unless it has failed."""
        try:
            result = self._socket.begin_send(
                chunk.buffer, 0, chunk.size, callback=self._called_back, state=chunk
            )
        except SocketException as error:
            self._end(chunk, error)
        else:
            chunk.operation = result
            chunk.pending = not result.completed_synchronously

    def _called_back(self, result: AsyncResult) -> None:
        chunk: Chunk = result.async_state
        try:
            self._socket.end_send_nowait(result)
        except SocketException as error:
            self._end(chunk, error)
        else:
            self._end(chunk, None)


class AwaitFace(Face):
    """``await socket.send(args)``, with a task for each chunk that is on its way.

    Args would not be needed to send, but they tell the exact count of a send that is still waiting or was cancelled.
    """

    def __init__(self, socket: Socket, on_end: Callable[[Chunk], None]) -> None:
        super().__init__(socket, on_end)
        self._nursery: trio.Nursery | None = None

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[trio.CancelScope]:
        """Open a nursery."""
        async with trio.open_nursery() as self._nursery:
            yield self._nursery.cancel_scope

    async def start(self, chunk: Chunk) -> None:
        """Start a task and wait until its send has its place in the socket's queue."""
        assert self._nursery is not None
        await self._nursery.start(self._send, chunk)

    async def _send(self, chunk: Chunk, *, task_status: trio.TaskStatus[Any]) -> None:
        args = SocketAsyncEventArgs(chunk.buffer, 0, chunk.size)
        chunk.operation = args
        # From here to the queue there is no checkpoint, so the starter cannot run in between. Tasks that were just
        # spawned would run in any order.
        task_status.started()
        error: SocketException | None = None
        try:
            await self._socket.send(args)
        except SocketException as raised:
            error = raised
        finally:
            # Args count how often they had to wait.
            chunk.pending = args.activation > 0
            self._end(chunk, error or _error_of(args))


FACES: dict[str, type[Face]] = {"event": EventFace, "begin": BeginFace, "await": AwaitFace}
