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

from .._base.checks import require_whole_number
from .buffers import BufferShrankError

if TYPE_CHECKING:
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
    """Tell what means a file, be it none that can be sent, from a buffer."""
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

    def range(self, offset: int, count: int | None) -> FileRange:
        """Return a range of the file as it is now.

        Raises:
          ValueError: the file has no such range, does not say how long it is, or cannot be read by offset.
        """
        status = os.fstat(self._raw.fileno())
        try:
            os.lseek(self._raw.fileno(), 0, os.SEEK_CUR)
        except OSError as error:
            raise ValueError(
                f"{self.name!r} is a pipe or the like and cannot be read by offset; read() it and send what it gives"
            ) from error
        length = status.st_size if stat.S_ISREG(status.st_mode) else 0
        if length == 0 and self.read(offset, 1):  # a device, or one of the kernel's own files
            if count is None:
                raise ValueError(f"{self.name!r} does not say how long it is; give a count")
            return FileRange(self, offset, count)
        if offset > length:
            raise ValueError(f"offset is {offset}, but {self.name!r} has {length} bytes")
        if count is None:
            count = length - offset
        if count > length - offset:
            raise ValueError(
                f"count is {count}, but {self.name!r} has {length - offset} bytes from offset {offset} on"
            )
        return FileRange(self, offset, count)

    def send(self, port: Port, flags: int, offset: int, count: int) -> tuple[int, int]:
        """Send a range in one attempt, or the first part of it; return how many bytes were accepted and tried.

        Raises:
          BufferShrankError: the file has become shorter.
          OSError: the file cannot be read, or as `Port.send`.
        """
        if port.send_file is not None and not self.must_be_read:
            try:
                sent = port.send_file(self._raw.fileno(), offset, count)
            except OSError as error:
                if error.errno not in _REFUSALS:
                    raise
                self.must_be_read = True
            else:
                if sent == 0:
                    raise self._ended(offset)
                return sent, count
        data = self.read(offset, min(count, CHUNK_SIZE))
        if not data:
            raise self._ended(offset)
        return port.send(data, flags), len(data)

    def _ended(self, offset: int) -> BufferShrankError:
        return BufferShrankError(
            f"{self.name!r} has become shorter while it was sent: it has no byte at offset {offset} any more"
        )


@final
class FileRange:
    """One range of one file, the counterpart of a `Piece`."""

    __slots__ = ("file", "offset", "size")

    def __init__(self, file: OpenFile, offset: int, size: int) -> None:
        self.file = file
        self.offset = offset
        self.size = size
