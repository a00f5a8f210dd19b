"""The trace of a transfer, in a file for trace viewers."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

from ... import ChromeTrace, add_instrument
from ..failures import Failure, describe
from ..output import complain

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import TextIO


class _TraceFile:
    """A file that raises nothing when it cannot be written, and keeps the first error.

    Attributes:
      error: why the file is not whole; None if it is.
    """

    def __init__(self, path: str, source: str) -> None:
        if os.path.exists(path) and os.path.exists(source) and os.path.samefile(path, source):
            raise Failure(f"the trace {path!r} would replace what is to be sent")
        self._file: TextIO = open(path, "w", encoding="ascii")  # noqa: SIM115
        self.error: OSError | None = None

    def write(self, text: str) -> None:
        if self.error is None:
            try:
                self._file.write(text)
            except OSError as error:
                self.error = error

    def close(self) -> None:
        try:
            self._file.close()
        except OSError as error:
            self.error = self.error or error


@asynccontextmanager
async def traced(path: str | None, source: str) -> AsyncIterator[None]:
    """Write what happens inside to a file, unless ``path`` is None.

    A trace that cannot be written to its end stops no transfer.

    Args:
      path: the file, which is replaced.
      source: the file that must not be.

    Raises:
      Failure: there can be no such file.
    """
    if path is None:
        yield
        return
    try:
        file = await trio.to_thread.run_sync(_TraceFile, path, source)
    except OSError as error:
        raise Failure(f"the trace {path!r} cannot be written: {describe(error)}") from None
    try:
        with ChromeTrace(file) as trace, add_instrument(trace):
            yield
    finally:
        file.close()
        if file.error is not None:
            complain(f"the trace {path!r} is not whole: {describe(file.error)}")
