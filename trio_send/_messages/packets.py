"""What `Socket.send_packets_async` and `Socket.send_file` send: buffers and ranges of files, in turn.

On a stream they are one message. Elsewhere each of them is a message of its own; or if the end of a packet is marked
anywhere, each run of them up to a mark, or to the end.

While an operation lasts it has a descriptor of its own for each of its files: of a path it opens, and of an open file a
duplicate. So it never closes a descriptor that it was given, always closes its own, and does not care whether the
application closes, seeks or replaces the file meanwhile. How much of a file is sent is settled when it is opened: what
is appended later is not, and what has gone by the time its turn comes is an error. Only a file that ends before the
length that it claims, and still claims, is taken for as long as it is.
"""

from __future__ import annotations

import errno
import os
from bisect import bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final, final

import attrs

from .._base.errors import InvalidOperationError
from .buffers import BufferShrankError, Message, Piece, release
from .files import FileRange, OpenFile, ReadPiece, is_file, is_path
from .packet_element import element_of, range_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from .._kernel.port import Port
    from .packet_element import SendPacketsElement

#: How many bytes of packets one attempt sends at most. The kernel would take a file for as long as the peer makes room,
#: and read the disk for it, and no other task would run meanwhile. On loopback TCP a file of 128 MiB cost 1.0 of a bare
#: loop of sends with 1 MiB, 0.78 with 2 MiB and 0.75 with 4 MiB.
ATTEMPT_SIZE: Final = 2 * 1024 * 1024


@final
class Packets(Message):
    """The message of a list of elements, whose files it holds open until it is closed.

    Of datagrams it knows itself how many were sent, as `Datagrams` does, because empty ones have no bytes to count them
    by.

    Attributes:
      afterwards: what to do when all of it was accepted, as a part of the operation; None if there is nothing.
      datagrams: how many datagrams it makes; None if it is one message on a stream.
      sent: how many of them the kernel has accepted.
    """

    __slots__ = (
        "_elements",
        "_files",
        "_parts",
        "_piece",
        "_stops",
        "afterwards",
        "datagrams",
        "sent",
    )

    def __init__(
        self,
        elements: Iterable[SendPacketsElement],
        *,
        apart: bool = False,
        afterwards: Callable[[], object] | None = None,
    ) -> None:
        """Open the files.

        Args:
          elements: what is sent.
          apart: whether it makes datagrams.
          afterwards: what to do when all of it was accepted.

        Raises:
          OSError: a file could not be opened.
          ValueError: a file has no such range.
        """
        super().__init__(())
        self._elements: list[SendPacketsElement] = []
        self._parts: list[Piece | FileRange] = []
        self._files: dict[object, OpenFile] = {}
        self._piece = ReadPiece()
        self.afterwards = afterwards
        self.sent = 0
        try:
            for element in elements:
                part = self._open(element)
                if part.size or apart:  # on a stream, empty ones are passed over
                    self._elements.append(element)
                    self._parts.append(part)
        except BaseException:
            self.close()
            raise
        self._ends = list(accumulate(part.size for part in self._parts))
        self.size = self._ends[-1] if self._ends else 0
        #: Behind which part each datagram ends.
        self._stops = _stops_of(self._elements) if apart else []
        self.datagrams = len(self._stops) if apart else None

    def _open(self, element: SendPacketsElement) -> Piece | FileRange:
        wanted = range_of(element)
        source = wanted.source
        if not is_file(source):
            assert wanted.size is not None
            return Piece(source, wanted.offset, wanted.size)
        # A file that is named several times is opened once, so that all its parts are of the same file.
        key = os.fspath(source) if is_path(source) else id(source)
        if key not in self._files:
            self._files[key] = OpenFile(source)
        return self._files[key].range(wanted.offset, wanted.size, copies=wanted.copies)

    def close(self) -> None:
        """Close the files; repeated calls are harmless."""
        for file in self._files.values():
            file.close()
        self._piece.drop()
        self.afterwards = None

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

    def is_in_file(self, start: int) -> bool:
        """Tell whether byte ``start`` is one of a file's."""
        assert self._ends is not None
        return isinstance(self._parts[bisect_right(self._ends, start)], FileRange)

    def _place(self, start: int) -> tuple[FileRange, int, int]:
        """Return the range that byte ``start`` is in, its offset in the file, and the bytes of the range from it on."""
        assert self._ends is not None
        index = bisect_right(self._ends, start)
        part = self._parts[index]
        assert isinstance(part, FileRange)
        left = self._ends[index] - start
        return part, part.offset + part.size - left, left

    def send_file(
        self, ask: Callable[..., Any], port: Port, flags: int, start: int, count: int
    ) -> tuple[int, int]:
        """Send what lies behind byte ``start``, which is in a file, up to the end of its range, in one attempt.

        Args:
          ask: makes a system call, unless there is something against it by then.
          port: where to.
          flags: the native flags.
          start: where to begin.
          count: how many bytes at most.

        Returns:
          How many bytes were accepted and tried; 0 and 0 if the file has ended.

        Raises:
          OSError: the file cannot be read, or as `Port.send`.
        """
        part, offset, left = self._place(start)
        return part.send(ask, port, flags, offset, min(left, count), self._piece)

    def open_datagram(self, opened: list[memoryview]) -> Sequence[bytes | memoryview]:
        """Return what the next datagram is made of.

        Raises:
          OSError: a file cannot be read, or the files are longer than any datagram.
          BufferShrankError: a buffer or a file has become shorter.
        """
        start, stop = self._first_unsent, self._stops[self.sent]
        files = [part for part in self._parts[start:stop] if isinstance(part, FileRange)]
        if sum(file.size for file in files) > ATTEMPT_SIZE:
            raise OSError(errno.EMSGSIZE, "the files are longer than any datagram")
        views: list[bytes | memoryview] = []
        for index, part in enumerate(self._parts[start:stop], start):
            if isinstance(part, FileRange):
                views.append(self._read(index, part))
            else:
                views.append(part.open(0, opened))
        return views

    @property
    def _first_unsent(self) -> int:
        """Which part the next datagram begins with."""
        return self._stops[self.sent - 1] if self.sent else 0

    def _read(self, index: int, part: FileRange) -> bytes:
        """Return all of a range of a file."""
        found = bytearray()
        while len(found) < part.size:
            read = part.file.read(part.offset + len(found), part.size - len(found))
            if not read:
                self._end_part(index, part.offset + len(found))
            found += read
        return bytes(found)

    def end_file(self, start: int) -> int:
        """Be shorter, because the file that byte ``start`` is in ends there; return by how many bytes.

        Raises:
          BufferShrankError: the file has become shorter, or has not as much as was asked for.
        """
        assert self._ends is not None
        _, offset, missing = self._place(start)
        self._end_part(bisect_right(self._ends, start), offset)
        return missing

    def _end_part(self, index: int, offset: int) -> None:
        """Be shorter, because the file of a part ends at an offset."""
        part = self._parts[index]
        assert isinstance(part, FileRange)
        assert self._ends is not None
        missing = part.offset + part.size - offset
        part.end_at(offset)
        self._ends[index:] = [end - missing for end in self._ends[index:]]
        self.size -= missing

    def peek(self, start: int, count: int) -> bytes:
        """Return a copy of at most ``count`` bytes from ``start`` on; fewer if they cannot be read any more."""
        found = bytearray()
        end = min(start + count, self.size)
        while start + len(found) < end:
            missing = end - start - len(found)
            opened: list[memoryview] = []
            try:
                if self.is_in_file(end - missing):
                    part, offset, left = self._place(end - missing)
                    piece = self._piece.look(part, offset, min(left, missing))
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
        """Return everything behind byte ``start`` as elements; of datagrams, those that were not accepted."""
        assert self._ends is not None
        rest: list[SendPacketsElement] = []
        if self.datagrams is not None:
            rest = self._elements[self._first_unsent :]
            if rest and any(element.end_of_packet for element in self._elements):
                # Without a mark each element would be a datagram.
                rest[-1] = element_of(attrs.evolve(range_of(rest[-1]), ends_packet=True))
            return rest
        for element, part, end in zip(self._elements, self._parts, self._ends, strict=True):
            left = min(part.size, end - start)
            if left > 0:
                offset = part.offset + part.size - left
                rest.append(element_of(attrs.evolve(range_of(element), offset=offset, size=left)))
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


def _stops_of(elements: Sequence[SendPacketsElement]) -> list[int]:
    """Return behind which elements datagrams end."""
    stops = [index for index, element in enumerate(elements, 1) if element.end_of_packet]
    if not stops:
        return list(range(1, len(elements) + 1))
    return stops if stops[-1] == len(elements) else [*stops, len(elements)]
