"""A transfer: from a source to a socket in constant memory, whichever face sends.

A fixed number of chunks goes round. A free one is filled from the source and started; the oldest one under way is
waited for, hashed and free again. As the socket's queue is first in, first out, so is this ring, and that makes the
account simple: what was accepted of the source is all of each chunk that has left the ring, and the first bytes of the
oldest one in it. After a stop this is exact to the byte, and so is the hash, which never runs ahead of the account.
"""

from __future__ import annotations

import hashlib
import math
from collections import deque
from typing import TYPE_CHECKING

import trio

from ... import Socket, SocketError, SocketException
from ..failures import Failure
from ..values import show_seconds
from .chunks import Chunk, Face

if TYPE_CHECKING:
    from collections.abc import Callable

    from .source import Source

#: A stall is looked for so many times within its limit, so it is noticed late by that fraction and never early.
_LOOKS_PER_STALL = 8

_SHORTEST_LOOK = 0.01


class Transfer:
    """Everything of a source, sent through one face.

    Args:
      socket: where to send; connected, and used by nobody else.
      source: what to send.
      face: how.
      chunk_size: the bytes of each operation.
      in_flight: how many operations may be under way at once.

    Attributes:
      on_the_spot: how many operations the kernel finished at once.
      pending: how many had to wait.
      stopped: how many of all ended before all of their bytes were accepted.
      stop_reason: why the transfer stopped by itself before the end; None if it did not.
      error: how the connection broke, if that was why.
    """

    def __init__(
        self,
        socket: Socket,
        source: Source,
        face: Callable[[Socket, Callable[[Chunk], None]], Face],
        *,
        chunk_size: int,
        in_flight: int,
    ) -> None:
        self._socket = socket
        self._source = source
        self._face = face(socket, self._chunk_ended)
        self._chunk_size = chunk_size
        self._in_flight = in_flight
        #: Under way, or ended and not accounted for; the oldest first.
        self._flying: deque[Chunk] = deque()
        self._settled = 0
        self._hash = hashlib.sha256()
        self._scope: trio.CancelScope | None = None
        self._sent_all = False
        self._began = self._ended = math.nan
        self.on_the_spot = 0
        self.pending = 0
        self.stopped = 0
        self.stop_reason: str | None = None
        self.error: SocketException | None = None

    @property
    def accepted(self) -> int:
        """How many bytes of the source the kernel has accepted so far."""
        return self._settled + sum(chunk.accepted for chunk in self._flying)

    @property
    def is_complete(self) -> bool:
        """Whether all of the source was accepted."""
        # A cancellation may come when all was accepted and before the end of the source was seen.
        return self._sent_all or (
            self.stop_reason is None and self.accepted == self._source.remaining
        )

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self._ended - self._began

    def digest(self) -> str:
        """Return the SHA-256 of the bytes that were accepted, once the transfer has ended."""
        return self._hash.hexdigest()

    def stop(self, reason: str) -> None:
        """End the transfer; the first reason counts."""
        if self.stop_reason is None and not self._sent_all:
            self.stop_reason = reason
            if self._scope is not None:
                self._scope.cancel(reason=reason)

    def connection_broke(self, error: SocketException) -> None:
        """End the transfer because nothing more can be sent."""
        if self.stop_reason is None and not self._sent_all:
            self.error = error
            self.stop("the connection broke")

    async def run(self, *, stall_timeout: float = math.inf) -> None:
        """Send until everything was accepted, or the transfer stops.

        If it is cancelled, all operations have ended and are accounted for when it leaves.

        Args:
          stall_timeout: stop if no byte was accepted for so many seconds.
        """
        self._began = trio.current_time()
        try:
            async with trio.open_nursery() as watchers:
                if stall_timeout < math.inf:
                    watchers.start_soon(self._watch_for_stall, stall_timeout)
                async with self._face.opened() as self._scope:
                    if self.stop_reason is not None:
                        self._scope.cancel(reason=self.stop_reason)
                    try:
                        await self._pump()
                    except Failure as failure:  # the source cannot be read any more
                        self.stop(failure.sentence)
                watchers.cancel_scope.cancel()
        finally:
            self._ended = trio.current_time()
            with trio.CancelScope(shield=True):
                while self._flying:
                    await self._settle_oldest()

    async def _pump(self) -> None:
        free: list[Chunk] = []
        made = 0
        while True:
            if free:
                chunk = free.pop()
            elif made < self._in_flight:
                chunk = self._make_chunk()
                made += 1
            else:
                chunk = await self._take_oldest()
            size = await self._source.read_into(chunk.buffer)
            if size == 0:
                break
            chunk.begin(size)
            self._flying.append(chunk)
            await self._face.start(chunk)
        while self._flying:
            await self._take_oldest()
        self._sent_all = True

    def _make_chunk(self) -> Chunk:
        try:
            return Chunk(self._chunk_size)
        except MemoryError:
            raise Failure("there is not enough memory; use a smaller --chunk") from None

    async def _take_oldest(self) -> Chunk:
        chunk = self._flying[0]
        await chunk.ended.wait()
        if not chunk.is_whole:
            # What stopped it is about to stop the transfer, and may come from a task that has yet to run.
            await trio.sleep_forever()
        return await self._settle_oldest()

    async def _settle_oldest(self) -> Chunk:
        """Account for the oldest chunk, which has ended."""
        chunk = self._flying[0]
        if chunk.accepted:
            # In a thread, which is as fast and lets the loop go on. The account must not lose what was hashed, so a
            # cancellation can strike before it, but not between.
            with memoryview(chunk.buffer) as view, view[: chunk.accepted] as accepted:
                await trio.to_thread.run_sync(self._hash.update, accepted)
        self._flying.popleft()
        self._settled += chunk.accepted
        return chunk

    def _chunk_ended(self, chunk: Chunk) -> None:
        if not chunk.is_whole:
            self.stopped += 1
        if chunk.pending:
            self.pending += 1
        elif chunk.is_whole:
            self.on_the_spot += 1
        error = chunk.error
        if error is not None and not self._is_our_doing(error):
            self.connection_broke(error)

    def _is_our_doing(self, error: SocketException) -> bool:
        """Tell whether an operation was stopped by the end of its scope, or because one before it was."""
        return error.socket_error_code is SocketError.OPERATION_ABORTED or (
            error.socket_error_code is SocketError.CONNECTION_ABORTED
            and self._socket.torn is not None
        )

    async def _watch_for_stall(self, limit: float) -> None:
        accepted = self.accepted
        since = trio.current_time()
        while True:
            await trio.sleep(max(limit / _LOOKS_PER_STALL, _SHORTEST_LOOK))
            now = trio.current_time()
            if self.accepted != accepted:
                accepted, since = self.accepted, now
            elif now - since >= limit:
                waiting = any(not chunk.is_whole for chunk in self._flying)
                why = "" if waiting else f", because {self._source.name} had nothing to send"
                self.stop(f"no byte was accepted for {show_seconds(limit)}{why}")
                return
