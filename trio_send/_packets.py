"""What `Socket.send_packets_async` and `Socket.send_file` send: buffers and ranges of files, in turn, as one message.

While an operation lasts it has a descriptor of its own for each of its files: of a path it opens, and of an open file a
duplicate. So it never closes a descriptor that it was given, always closes its own, and does not care whether the
application closes, seeks or replaces the file meanwhile. How much of a file is sent is settled when it is opened: what
is appended later is not, and what has gone by the time its turn comes is an error.

A file is read where it stands, by offset, so nobody's position in it is used or moved.
"""

from __future__ import annotations

import errno
import io
import os
import stat
import sys
from bisect import bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING, Any, BinaryIO, Final, final

from ._buffers import BufferShrankError, Message, Piece, measure, release, require_range
from ._exceptions import InvalidOperationError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from typing_extensions import Buffer

    from ._port import Port

#: How many bytes of packets one attempt sends at most. The kernel would take a file for as long as the peer makes room,
#: and read the disk for it, and no other task would run meanwhile. On loopback TCP a file of 128 MiB cost 1.0 of a bare
#: loop of sends with 1 MiB, 0.78 with 2 MiB and 0.75 with 4 MiB.
ATTEMPT_SIZE: Final = 2 * 1024 * 1024

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


@final
class SendPacketsElement:
    """A buffer or a range of a file, to be sent with others as one message.

    It never changes and may be used any number of times, by several operations at once even.

    Args:
      source: a contiguous bytes-like object, the path of a file, or a file that is open for reading in binary mode.
        Bytes are sent, not taken for a path. The position of an open file is neither used nor moved. What a program has
        written to an open file and not flushed is not sent.
      offset: where in the buffer or the file to begin, in bytes.
      count: how many bytes to send; None stands for all from ``offset`` on. For a file so does 0, as in .NET; of a
        buffer 0 sends nothing.
      end_of_packet: kept for whoever reads it. On a stream, which has no packets, it means nothing.

    Raises:
      TypeError: ``source`` is None or nothing of the kind, for example a file in text mode.
      ValueError: the range leaves the buffer or is negative, the path is empty, or the file is not open for reading.
        Whether a range lies in its file is looked at when it is sent.

    Source: .NET's ``SendPacketsElement``; facts F203 and F204.
    """

    __slots__ = ("_count", "_end_of_packet", "_offset", "_source")

    def __init__(
        self,
        source: Buffer | str | os.PathLike[str] | BinaryIO,
        offset: int = 0,
        count: int | None = None,
        end_of_packet: bool = False,
    ) -> None:
        self._source: Any = source
        self._end_of_packet = bool(end_of_packet)
        self._count: int | None
        if is_file(source):
            check_file("source", source)
            self._offset, self._count = require_file_range(offset, count)
            self._count = self._count or None
        else:
            length = measure("source", source)  # type: ignore[arg-type]
            self._offset, self._count = require_range("count", length, offset, count)

    def __repr__(self) -> str:
        what = repr(self._source) if self.buffer is None else type(self._source).__name__
        count = "the rest" if self._count is None else f"{self._count} bytes"
        return f"<SendPacketsElement: {count} of {what} from {self._offset}>"

    @property
    def buffer(self) -> Buffer | None:
        """The buffer, the very object; None if it is a file."""
        return None if is_file(self._source) else self._source

    @property
    def file_path(self) -> str | os.PathLike[str] | None:
        """The path, as it was given; None if there is none."""
        return self._source if is_path(self._source) else None

    @property
    def file_stream(self) -> BinaryIO | None:
        """The open file, the very object; None if there is none."""
        return self._source if is_file(self._source) and not is_path(self._source) else None

    @property
    def offset(self) -> int:
        """Where in the buffer or the file to begin, in bytes."""
        return self._offset

    @property
    def count(self) -> int:
        """How many bytes to send; of a file, 0 stands for all from `offset` on."""
        return self._count or 0

    @property
    def end_of_packet(self) -> bool:
        """What was said when the element was made; without effect on a stream."""
        return self._end_of_packet

    def _part(self, offset: int, count: int) -> SendPacketsElement:
        """Return an element for another range of the same source, which need not be checked."""
        part = SendPacketsElement.__new__(SendPacketsElement)
        part._source = self._source
        part._offset = offset
        part._count = count
        part._end_of_packet = self._end_of_packet
        return part


def file_element(
    file: str | os.PathLike[str] | BinaryIO, offset: int, count: int | None
) -> SendPacketsElement:
    """Return an element for a range of a file, where a count of 0 stands for nothing."""
    if not is_file(file):
        raise TypeError(
            f"file must be a path or a file open for reading in binary mode, not {type(file).__name__}"
        )
    check_file("file", file)
    element = SendPacketsElement.__new__(SendPacketsElement)
    element._source = file
    element._offset, element._count = require_file_range(offset, count)
    element._end_of_packet = False
    return element


def require_elements(elements: Iterable[SendPacketsElement]) -> tuple[SendPacketsElement, ...]:
    """Return the members of a list of elements, which is not looked at again."""
    try:
        members = tuple(elements)
    except TypeError:
        raise TypeError(
            f"send_packets_elements must be a list of SendPacketsElement, not {type(elements).__name__}"
        ) from None
    for index, member in enumerate(members):
        if not isinstance(member, SendPacketsElement):
            raise TypeError(
                f"send_packets_elements[{index}] must be a SendPacketsElement, not {type(member).__name__}"
            )
    return members


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
    offset, rest = require_range("count", _MAX_OFFSET, offset, count)
    return offset, None if count is None else rest


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


@final
class Packets(Message):
    """The message of a list of elements, whose files it holds open until it is closed."""

    __slots__ = ("_elements", "_files", "_parts")

    def __init__(self, elements: Iterable[SendPacketsElement]) -> None:
        """Open the files.

        Raises:
          OSError: a file could not be opened.
          ValueError: a file has no such range.
        """
        super().__init__(())
        self._elements: list[SendPacketsElement] = []
        self._parts: list[Piece | FileRange] = []
        self._files: dict[object, OpenFile] = {}
        try:
            for element in elements:
                part = self._open(element)
                if part.size:  # empty ones are passed over
                    self._elements.append(element)
                    self._parts.append(part)
        except BaseException:
            self.close()
            raise
        self._ends = list(accumulate(part.size for part in self._parts))
        self.size = self._ends[-1] if self._ends else 0

    def _open(self, element: SendPacketsElement) -> Piece | FileRange:
        source = element._source
        if not is_file(source):
            assert element._count is not None
            return Piece(source, element._offset, element._count)
        # A file that is named several times is opened once, so that all its parts are of the same file.
        key = os.fspath(source) if is_path(source) else id(source)
        if key not in self._files:
            self._files[key] = OpenFile(source)
        return self._files[key].range(element._offset, element._count)

    def close(self) -> None:
        """Close the files; repeated calls are harmless."""
        for file in self._files.values():
            file.close()

    def open(
        self,
        start: int,
        views: list[memoryview],
        opened: list[memoryview],
        max_pieces: int,
    ) -> int:
        """Append views of the buffers from byte ``start`` on, up to the next file; return their bytes."""
        assert self._ends is not None
        total = 0
        for index in range(bisect_right(self._ends, start), len(self._parts)):
            part = self._parts[index]
            if isinstance(part, FileRange) or len(views) == max_pieces:
                break
            view = part.open(max(0, start - (self._ends[index] - part.size)), opened)
            views.append(view)
            total += view.nbytes
        return total

    def file_at(self, start: int) -> tuple[OpenFile, int, int] | None:
        """Return the file that byte ``start`` is in, its offset there, and the bytes of the range from it on."""
        assert self._ends is not None
        index = bisect_right(self._ends, start)
        part = self._parts[index]
        if not isinstance(part, FileRange):
            return None
        left = self._ends[index] - start
        return part.file, part.offset + part.size - left, left

    def peek(self, start: int, count: int) -> bytes:
        """Return a copy of at most ``count`` bytes from ``start`` on; fewer if they cannot be read any more."""
        found = bytearray()
        end = min(start + count, self.size)
        while start + len(found) < end:
            missing = end - start - len(found)
            opened: list[memoryview] = []
            try:
                place = self.file_at(end - missing)
                if place is not None:
                    file, offset, left = place
                    piece: bytes | memoryview = file.read(offset, min(left, missing))
                else:
                    views: list[memoryview] = []
                    self.open(end - missing, views, opened, 1)
                    piece = views[0]
                found += piece[:missing]
                if not piece:
                    break
            except (OSError, ValueError, BufferShrankError):
                break
            finally:
                release(opened)
        return bytes(found)

    def rest(self, start: int) -> list[SendPacketsElement]:
        """Return everything behind byte ``start`` as elements."""
        assert self._ends is not None
        rest: list[SendPacketsElement] = []
        for element, part, end in zip(self._elements, self._parts, self._ends, strict=True):
            left = min(part.size, end - start)
            if left > 0:
                rest.append(element._part(part.offset + part.size - left, left))
        return rest

    def remaining(self, start: int) -> list[memoryview]:
        """Return views of everything behind byte ``start``, if it lies in buffers."""
        assert self._ends is not None
        if any(
            isinstance(part, FileRange) for part in self._parts[bisect_right(self._ends, start) :]
        ):
            raise InvalidOperationError(
                "the rest of this message lies in files; send it with socket.send_rest() or, from event args, with "
                "socket.resume(args), or read remaining_elements of the event args",
            )
        views: list[memoryview] = []
        self.open(start, views, [], len(self._parts))
        return views
