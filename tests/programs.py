"""Three programs as their users would write them, each with a mistake, and each without.

None of them knows this library. What is wrong in them is wrong only if a cancel comes at one moment.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio

# A queue --------------------------------------------------------------------------------------


class WorkQueue:
    """A queue that keeps a log of what it hands out: an item is taken, then there is a trip through the scheduler."""

    def __init__(self) -> None:
        self.items: deque[str] = deque()
        self.log: list[str] = []
        self._count = trio.Semaphore(0)

    def put(self, item: str) -> None:
        self.items.append(item)
        self._count.release()

    async def _write_log(self, item: str) -> None:
        await trio.lowlevel.checkpoint()
        self.log.append(item)

    async def get(self) -> str:
        await self._count.acquire()
        item = self.items.popleft()
        await self._write_log(item)
        return item


class CorrectedWorkQueue(WorkQueue):
    """Whoever is stopped between taking and handing out puts the item back."""

    async def get(self) -> str:
        await self._count.acquire()
        item = self.items.popleft()
        try:
            await self._write_log(item)
        except BaseException:
            self.items.appendleft(item)
            self._count.release()
            raise
        return item


# A lock ---------------------------------------------------------------------------------------


class HandoverLock:
    """A lock that hands itself to whoever has waited longest, whether or not anybody waits there any more."""

    def __init__(self) -> None:
        self.locked = False
        self._waiting: deque[trio.Event] = deque()

    async def acquire(self) -> None:
        if not self.locked:
            self.locked = True
            return
        turn = trio.Event()
        self._waiting.append(turn)
        await turn.wait()

    def release(self) -> None:
        if self._waiting:
            self._waiting.popleft().set()
        else:
            self.locked = False

    async def __aenter__(self) -> None:
        await self.acquire()

    async def __aexit__(self, *_: object) -> None:
        self.release()


class CorrectedHandoverLock(HandoverLock):
    """Whoever is stopped leaves the line."""

    async def acquire(self) -> None:
        if not self.locked:
            self.locked = True
            return
        turn = trio.Event()
        self._waiting.append(turn)
        try:
            await turn.wait()
        except BaseException:
            if turn.is_set():
                self.release()
            else:
                self._waiting.remove(turn)
            raise


# A pool of connections ------------------------------------------------------------------------


class Connection:
    """Stands for a connection to a server that takes its time."""

    def __init__(self) -> None:
        self.is_closed = False

    @classmethod
    async def open(cls) -> Connection:
        await trio.sleep(0.2)
        return cls()

    async def query(self) -> None:
        await trio.sleep(0.1)

    async def reset(self) -> None:
        await trio.sleep(0.1)

    def close(self) -> None:
        self.is_closed = True


class ConnectionPool:
    """At most ``size`` connections; those that nobody uses are kept."""

    def __init__(self, size: int, connect: Callable[[], Awaitable[Connection]]) -> None:
        self.idle: list[Connection] = []
        self.slots = trio.Semaphore(size)
        self._connect = connect

    async def acquire(self) -> Connection:
        await self.slots.acquire()
        if self.idle:
            return self.idle.pop()
        return await self._connect()

    async def release(self, connection: Connection) -> None:
        await connection.reset()
        self.idle.append(connection)
        self.slots.release()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        connection = await self.acquire()
        try:
            yield connection
        finally:
            await self.release(connection)


class CorrectedConnectionPool(ConnectionPool):
    """A slot is given back whatever happens, and a connection that cannot be reset is closed."""

    async def acquire(self) -> Connection:
        await self.slots.acquire()
        if self.idle:
            return self.idle.pop()
        try:
            return await self._connect()
        except BaseException:
            self.slots.release()
            raise

    async def release(self, connection: Connection) -> None:
        try:
            await connection.reset()
        except BaseException:
            connection.close()
            raise
        else:
            self.idle.append(connection)
        finally:
            self.slots.release()


def line_of(function: Any, text: str) -> int:
    """The number of the one line of a function that has ``text`` in it."""
    import inspect

    lines, first = inspect.getsourcelines(function)
    (found,) = (number for number, line in enumerate(lines, first) if text in line)
    return found
