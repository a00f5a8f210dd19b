"""The files that are sent: what counts as one, and one that is open, with a descriptor of its own.

A file is read where it stands, by offset, so nobody's position in it is used or moved.
"""

from __future__ import annotations

import errno
import io
import os
import stat
import sys
from typing import TYPE_CHECKING, Any, Final, final

from .._base.checks import counted, require_whole_number
from .buffers import BufferShrankError

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._kernel.port import Port

#: How much is read at once from files that the kernel cannot send by itself.
CHUNK_SIZE: Final = 65536

#: What the kernel says if it can send by itself not from this file, not to this socket, or not at all.
_REFUSALS: Final = frozenset(
    getattr(errno, name)
    for name in ("EINVAL", "ENOSYS", "ENOTSUP", "EOPNOTSUPP", "ENOTSOCK")
    if hasattr(errno, name)
)

#: The largest offset that the kernel knows.
_MAX_OFFSET: Final = 2**63 - 1

# Opening a named pipe would wait for somebody who writes to it, and opening a terminal could make it the process's own.
_OPEN_FLAGS: Final = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)


def is_path(source: object) -> bool:
    return isinstance(source, (str, os.PathLike))


def is_file(source: object) -> bool:
    """Tell what means a file, also one that cannot be sent, from a buffer."""
    return is_path(source) or isinstance(source, io.IOBase) or hasattr(source, "fileno")


def check_file(name: str, source: Any) -> None:
    """Raise unless ``source`` is a path, or a file whose descriptor leads to its very bytes.

    A file that decompresses what it reads has a descriptor too, and it leads to other bytes.
    """
    if is_path(source):
        if not os.fspath(source):
            raise ValueError(f"{name} is an empty path")
        return
    if isinstance(source, io.TextIOBase):
        raise TypeError(f"{name} is a file in text mode; open it with mode 'rb'")
    if not isinstance(_raw(source), io.FileIO):
        raise TypeError(
            f"{name} must be bytes-like, a path or an open binary file, not {type(source).__name__}, whose bytes are "
            "not those of a file; read() it and send what it gives"
        )
    if source.closed:
        raise ValueError(f"{name} is a file that is closed")
    if not source.readable():
        raise ValueError(f"{name} is a file that is not open for reading")


def _raw(file: Any) -> Any:
    return getattr(file, "raw", file)


def require_file_range(offset: int, count: int | None) -> tuple[int, int | None]:
    """Check a range of a file whose length is not known yet."""
    offset = require_whole_number("offset", offset, "bytes")
    if not 0 <= offset <= _MAX_OFFSET:
        raise ValueError(f"offset is {offset}, but must be from 0 to {_MAX_OFFSET} in a file")
    if count is None:
        return offset, None
    count = require_whole_number("count", count, "bytes")
    if not 0 <= count <= _MAX_OFFSET - offset:
        raise ValueError(
            f"count is {count}, but must be from 0 to {_MAX_OFFSET - offset} behind offset {offset} in a file"
        )
    return offset, count


def read_at(descriptor: int, offset: int, count: int) -> bytes:
    """Read at an offset, and leave alone the position, which a duplicate shares with its original."""
    if sys.platform == "win32":
        position = os.lseek(descriptor, 0, os.SEEK_CUR)
        os.lseek(descriptor, offset, os.SEEK_SET)
        try:
            return os.read(descriptor, count)
        finally:
            os.lseek(descriptor, position, os.SEEK_SET)
    else:
        return os.pread(descriptor, count, offset)


@final
class OpenFile:
    """A descriptor of our own, to read one file by."""

    __slots__ = ("_raw", "must_be_read", "name")

    def __init__(self, source: Any) -> None:
        if is_path(source):
            self.name = os.fspath(source)
            self._raw = io.FileIO(
                self.name, opener=lambda path, flags: os.open(path, flags | _OPEN_FLAGS)
            )
        else:
            self.name = getattr(source, "name", "")
            source.flush()  # what the program has written may still stand in the object, and not in the file
            self._raw = io.FileIO(os.dup(source.fileno()))
        #: Whether the kernel cannot send it by itself.
        self.must_be_read = False

    def close(self) -> None:
        """Close the descriptor; repeated calls are harmless."""
        try:
            self._raw.close()
        except OSError:
            pass  # the descriptor is gone all the same, and nothing was written that could be lost

    def read(self, offset: int, count: int) -> bytes:
        return read_at(self._raw.fileno(), offset, count)

    def length(self) -> int:
        """Return how long the file says it is; 0 if it is of a kind that does not say."""
        status = os.fstat(self._raw.fileno())
        return status.st_size if stat.S_ISREG(status.st_mode) else 0

    def range(self, offset: int, count: int | None, *, copies: bool) -> FileRange:
        """Return a range of the file as it is now.

        Raises:
          ValueError: the file has no such range, does not say how long it is, or cannot be read by offset.
        """
        length = self.length()
        try:
            os.lseek(self._raw.fileno(), 0, os.SEEK_CUR)
        except OSError as error:
            raise ValueError(
                f"{self.name!r} is a pipe or the like and cannot be read by offset; read() it and send what it gives"
            ) from error
        if length == 0 and self.read(offset, 1):  # a device, or one of the kernel's own files
            if count is None:
                raise ValueError(f"{self.name!r} does not say how long it is; give a count")
            return FileRange(self, offset, count, length, ends_with_file=False, copies=copies)
        if offset > length:
            raise ValueError(f"offset is {offset}, but {self.name!r} has {counted(length, 'byte')}")
        ends_with_file = count is None
        if count is None:
            count = length - offset
        if count > length - offset:
            raise ValueError(
                f"count is {count}, but {self.name!r} has {counted(length - offset, 'byte')} from offset {offset} on"
            )
        return FileRange(self, offset, count, length, ends_with_file=ends_with_file, copies=copies)

    def send(self, port: Port, offset: int, count: int) -> int | None:
        """Have the kernel send a range in one attempt, or the first part of it.

        Returns:
          How many bytes were accepted, 0 if the file has ended; None if the file has to be read and sent instead.

        Raises:
          OSError: as `Port.send`.
        """
        if port.send_file is None or self.must_be_read:
            return None
        try:
            return port.send_file(self._raw.fileno(), offset, count)
        except OSError as error:
            if error.errno not in _REFUSALS:
                raise
        self.must_be_read = True
        return None


@final
class ReadPiece:
    """The piece of a range of a file that was read last.

    It is kept until the next one is read. So when the kernel accepts it in parts, all of them are of what was read
    once, and never of what somebody has written to the file in between.
    """

    __slots__ = ("_data", "_offset", "_range")

    def __init__(self) -> None:
        self.drop()

    def drop(self) -> None:
        """Let go of the bytes."""
        self._range: FileRange | None = None
        self._offset = 0
        self._data = b""

    def _find(self, part: FileRange, offset: int, count: int) -> memoryview:
        """Return what there is of a range from an offset in the file on; nothing if the first byte is missing."""
        start = offset - self._offset
        if part is not self._range or not 0 <= start < len(self._data):
            return memoryview(b"")
        return memoryview(self._data)[start : start + count]

    def take(self, part: FileRange, offset: int, count: int) -> memoryview:
        """Return what follows in a range, or the first part of it, which is read if it is not here.

        Args:
          part: the range.
          offset: where in the file to begin.
          count: how many bytes at most.

        Returns:
          At least one byte; nothing if the file has ended.

        Raises:
          OSError: the file cannot be read.
        """
        found = self._find(part, offset, count)
        if not found:
            self._data = part.file.read(offset, min(count, CHUNK_SIZE))
            self._range = part
            self._offset = offset
            found = memoryview(self._data)
        return found

    def look(self, part: FileRange, offset: int, count: int) -> memoryview:
        """Return the same, and keep what is here."""
        return self._find(part, offset, count) or memoryview(part.file.read(offset, count))


@final
class FileRange:
    """One range of one file, the counterpart of a `Piece`.

    Attributes:
      copies: whether it is read and sent, so that nobody can change afterwards what the kernel has accepted.
    """

    __slots__ = ("_ends_with_file", "_length", "copies", "file", "offset", "size")

    def __init__(
        self,
        file: OpenFile,
        offset: int,
        size: int,
        length: int,
        *,
        ends_with_file: bool,
        copies: bool,
    ) -> None:
        self.file = file
        self.offset = offset
        self.size = size
        self.copies = copies
        #: How long the file said it was.
        self._length = length
        self._ends_with_file = ends_with_file

    def send(
        self,
        ask: Callable[..., Any],
        port: Port,
        flags: int,
        offset: int,
        count: int,
        piece: ReadPiece,
    ) -> tuple[int, int]:
        """Send what lies behind an offset in the file, or the first part of it, in one attempt.

        Args:
          ask: makes a system call, unless there is something against it by then.
          port: where to.
          flags: the native flags.
          offset: where to begin.
          count: how many bytes at most.
          piece: what was read last.

        Returns:
          How many bytes were accepted and tried; 0 and 0 if the file has ended.

        Raises:
          OSError: the file cannot be read, or as `Port.send`.
        """
        sent: int | None = None if self.copies else ask(self.file.send, port, offset, count)
        if sent is not None:
            return sent, count if sent else 0
        data = piece.take(self, offset, count)
        if not data:
            return 0, 0
        accepted: int = ask(port.send, data, flags)
        return accepted, len(data)

    def end_at(self, offset: int) -> None:
        """Be shorter, because the file has no byte at ``offset``, if that is how long the file has been all the time.

        There are files of the kernel's, in ``/sys`` for example, that say they are longer than they are. Whether a file
        is one of those or was cut meanwhile, only its length can tell, and it has to be asked anew.

        Raises:
          BufferShrankError: the file has become shorter, or has not as much as was asked for.
        """
        if self.file.length() < self._length or self.file.read(offset, 1):
            raise BufferShrankError(
                f"{self.file.name!r} has become shorter while it was sent: it has no byte at offset {offset} any more"
            )
        if not self._ends_with_file:
            raise BufferShrankError(
                f"{self.file.name!r} ends at offset {offset}, before the {counted(self.size, 'byte')} from offset "
                f"{self.offset} on that had to be sent; its length could not be known before it was read"
            )
        self.size = offset - self.offset
