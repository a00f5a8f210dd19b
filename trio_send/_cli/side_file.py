"""Files that a command writes beside what it was asked for: they must never stop it, nor cost the user a file."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

from .failures import Failure, describe
from .output import complain

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import TextIO


class SideFile:
    """A file that raises nothing when it cannot be written, and keeps the first error.

    Attributes:
      error: why the file is not whole; None if it is.
    """

    def __init__(self, what: str, path: str, source: str | None) -> None:
        both_exist = source is not None and os.path.exists(path) and os.path.exists(source)
        if both_exist and os.path.samefile(path, str(source)):
            raise Failure(f"{what} {path!r} would replace what is to be sent")
        self._file: TextIO = open(path, "w", encoding="utf-8")  # noqa: SIM115
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
async def side_file(what: str, path: str, source: str | None) -> AsyncIterator[SideFile]:
    """Open a file to write to inside of the block, and complain at its end if it is not whole.

    Args:
      what: what it is, such as ``"the trace"``.
      path: the file, which is replaced.
      source: the file that must not be, if there is one.

    Raises:
      Failure: there can be no such file.
    """
    try:
        file = await trio.to_thread.run_sync(SideFile, what, path, source)
    except OSError as error:
        raise Failure(f"{what} {path!r} cannot be written: {describe(error)}") from None
    try:
        yield file
    finally:
        file.close()
        if file.error is not None:
            complain(f"{what} {path!r} is not whole: {describe(file.error)}")
