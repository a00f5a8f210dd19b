"""What is sent: a file or standard input, read piece by piece from the offset that was asked for."""

from __future__ import annotations

import os
import stat
import sys
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import trio

from ..failures import Failure, describe
from ..values import show_bytes

if TYPE_CHECKING:
    import io
    from collections.abc import AsyncIterator

#: The name that stands for standard input.
STANDARD_INPUT = "-"

#: What is read at once of a stream that has to be skipped because it cannot be wound on.
_SKIP_SIZE = 65536


class Source:
    """Something to read from, without a buffer of its own.

    Args:
      raw: the open file.
      name: what to call it in sentences.

    Attributes:
      name: what to call it in sentences.
      is_typed: whether it is a terminal, on which somebody types.
      remaining: how many bytes there seemed to be from the offset on, when it was opened; None if nobody can know.
      ended: whether its end has been reached.
    """

    def __init__(self, raw: io.RawIOBase, name: str) -> None:
        self._raw = raw
        self.name = name
        self.is_typed = raw.isatty()
        self.remaining: int | None = None
        self.ended = False

    async def read_into(self, buffer: bytearray | memoryview) -> int:
        """Read what there is, at least one byte and at most ``buffer`` is long.

        If it is cancelled, leave the buffer alone: a thread may still write into it.

        Returns:
          How many bytes were read; 0 at the end.

        Raises:
          Failure: it cannot be read.
        """
        while True:
            try:
                # In a thread, because a disk may be slow, and a pipe or a terminal may have nothing to say for hours.
                # No thread can be called back from there, so it is left behind if need be.
                count = await trio.to_thread.run_sync(
                    self._raw.readinto,
                    buffer,
                    abandon_on_cancel=True,
                )
            except OSError as error:
                raise Failure(f"{self.name} cannot be read: {describe(error)}") from None
            if count is not None:
                self.ended = count == 0
                return count
            # Whoever opened it made it non-blocking.
            await trio.lowlevel.wait_readable(self._raw.fileno())

    async def skip(self, offset: int) -> None:
        """Go on to ``offset``.

        Raises:
          Failure: it ends before that.
        """
        try:
            position = self._raw.seek(offset, os.SEEK_CUR)
        except OSError:
            await self._read_away(offset)
            return
        information = os.fstat(self._raw.fileno())
        if stat.S_ISREG(information.st_mode):
            self.remaining = information.st_size - position
            if self.remaining < 0:
                raise self._too_short(offset, offset + self.remaining)

    async def _read_away(self, offset: int) -> None:
        left = offset
        while left:
            count = await self.read_into(bytearray(min(left, _SKIP_SIZE)))
            if count == 0:
                raise self._too_short(offset, offset - left)
            left -= count

    def _too_short(self, offset: int, size: int) -> Failure:
        return Failure(
            f"{self.name} ends after {show_bytes(max(size, 0))}, so nothing can be sent from offset {offset}"
        )


def _open(path: str) -> io.RawIOBase:
    if path == STANDARD_INPUT:
        # Python's own buffer is passed by: whoever reads from it in a thread that is left behind keeps its lock.
        return open(sys.stdin.fileno(), "rb", buffering=0, closefd=False)
    return open(path, "rb", buffering=0)


@asynccontextmanager
async def open_source(path: str, offset: int = 0) -> AsyncIterator[Source]:
    """Open a file, or standard input, to be read from an offset on.

    Args:
      path: the file, or ``-``.
      offset: how many bytes of it to leave out.

    Raises:
      Failure: it cannot be opened, or is too short.
    """
    name = "standard input" if path == STANDARD_INPUT else repr(path)
    try:
        raw = await trio.to_thread.run_sync(partial(_open, path), abandon_on_cancel=True)
    except (OSError, ValueError, AttributeError) as error:
        why = (
            describe(error)
            if isinstance(error, OSError)
            else "it is closed"
            if path == STANDARD_INPUT
            else error
        )
        raise Failure(f"{name} cannot be read: {why}") from None
    try:
        source = Source(raw, name)
        await source.skip(offset)
        yield source
    finally:
        raw.close()
