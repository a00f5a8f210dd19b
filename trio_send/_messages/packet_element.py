"""`SendPacketsElement`: one buffer or range of a file that is sent with others."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any, BinaryIO, final

from .._base.checks import counted
from .buffers import measure, require_range
from .files import check_file, is_file, is_path, require_file_range

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from typing_extensions import Buffer


class TransmitFileOptions(enum.IntFlag):
    """Say what becomes of the connection when packets were sent; combine members with ``|``.

    These are the two of .NET's that are not about Windows' own workings.
    """

    USE_DEFAULT_WORKER_THREAD = 0
    """Nothing: the connection stays as it is."""
    DISCONNECT = 1
    """It is ended, as by `Socket.disconnect`."""
    REUSE_SOCKET = 2
    """It is ended, and the socket can be connected again, as by `Socket.disconnect` with ``reuse_socket``."""


@final
class SendPacketsElement:
    """A buffer or a range of a file, to be sent with others: as one message, or as datagrams.

    It never changes and may be used any number of times, by several operations at once even.

    Args:
      source: a contiguous bytes-like object, the path of a file, or a file that is open for reading in binary mode.
        Bytes are sent, not taken for a path. The position of an open file is neither used nor moved. What the program
        has written to it and not flushed is flushed when it is sent.
      offset: where in the buffer or the file to begin, in bytes.
      count: how many bytes to send; None stands for all from ``offset`` on. For a file so does 0, as in .NET; of a
        buffer 0 sends nothing.
      end_of_packet: whether a datagram ends with it. If no element of a list is marked, each is a datagram. On a
        stream, which has no packets, it means nothing.
      copy: whether a file is read and sent. If not, the kernel sends it by itself where it can, which is faster; but
        what is written to the file before the peer has read may then reach the peer, even after the send has ended.
        Buffers are copied by the kernel in any case.

    Raises:
      TypeError: ``source`` is None or nothing of the kind, for example a file in text mode.
      ValueError: the range leaves the buffer or is negative, the path is empty, or the file is not open for reading.
        Whether a range lies in its file is looked at when it is sent.

    Source: .NET's ``SendPacketsElement``; facts F203 and F204.
    """

    __slots__ = ("_copy", "_count", "_end_of_packet", "_offset", "_source")

    def __init__(
        self,
        source: Buffer | str | os.PathLike[str] | BinaryIO,
        offset: int = 0,
        count: int | None = None,
        end_of_packet: bool = False,
        *,
        copy: bool = False,
    ) -> None:
        self._source: Any = source
        self._end_of_packet = bool(end_of_packet)
        self._copy = bool(copy)
        self._count: int | None
        if is_file(source):
            check_file("source", source)
            self._offset, self._count = require_file_range(offset, count)
            self._count = self._count or None
        else:
            length = measure("source", source, "a path, or a file open for reading in binary mode")  # type: ignore[arg-type]
            self._offset, self._count = require_range("count", length, offset, count)

    def __repr__(self) -> str:
        what = repr(self._source) if self.buffer is None else type(self._source).__name__
        count = "the rest" if self._count is None else counted(self._count, "byte")
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
        """Whether a datagram ends with it; without effect on a stream."""
        return self._end_of_packet

    @property
    def copy(self) -> bool:
        """Whether a file is read and sent, so that nobody can change what the kernel has accepted of it."""
        return self._copy

    def _part(
        self, offset: int, count: int | None, *, end_of_packet: bool | None = None
    ) -> SendPacketsElement:
        """Return an element for another range of the same source, which need not be checked."""
        part = SendPacketsElement.__new__(SendPacketsElement)
        part._source = self._source
        part._offset = offset
        part._count = count
        part._end_of_packet = self._end_of_packet if end_of_packet is None else end_of_packet
        part._copy = self._copy
        return part


def file_element(
    file: str | os.PathLike[str] | BinaryIO, offset: int, count: int | None, copy: bool
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
    element._copy = bool(copy)
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


def require_options(options: object) -> TransmitFileOptions:
    """Return what is to become of a connection, if it is that."""
    if not isinstance(options, int) or not 0 <= options < 4:
        raise ValueError(
            f"send_packets_flags is {options!r}, but must be TransmitFileOptions: DISCONNECT, REUSE_SOCKET or both"
        )
    return TransmitFileOptions(options)
