"""`SendPacketsElement`: one buffer or range of a file that is sent with others."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any, BinaryIO, final

import attrs

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


@attrs.frozen
class SourceRange:
    """A range of a buffer or a file.

    Attributes:
      source: the buffer, the path or the open file.
      offset: where it begins, in bytes.
      size: how many bytes it has; None stands for all of a file from there on.
      ends_packet: whether a datagram ends with it.
      copies: whether a file is read and sent.
    """

    source: Any
    offset: int
    size: int | None
    ends_packet: bool
    copies: bool


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

    __slots__ = ("_range",)

    def __init__(
        self,
        source: Buffer | str | os.PathLike[str] | BinaryIO,
        offset: int = 0,
        count: int | None = None,
        end_of_packet: bool = False,
        *,
        copy: bool = False,
    ) -> None:
        size: int | None
        if is_file(source):
            check_file("source", source)
            offset, size = require_file_range(offset, count)
            size = size or None
        else:
            length = measure("source", source, "a path, or a file open for reading in binary mode")  # type: ignore[arg-type]
            offset, size = require_range("count", length, offset, count)
        self._range = SourceRange(source, offset, size, bool(end_of_packet), bool(copy))

    def __repr__(self) -> str:
        source, size = self._range.source, self._range.size
        what = repr(source) if self.buffer is None else type(source).__name__
        count = "the rest" if size is None else counted(size, "byte")
        return f"<SendPacketsElement: {count} of {what} from {self._range.offset}>"

    @property
    def buffer(self) -> Buffer | None:
        """The buffer, the very object; None if it is a file."""
        return None if is_file(self._range.source) else self._range.source

    @property
    def file_path(self) -> str | os.PathLike[str] | None:
        """The path, as it was given; None if there is none."""
        return self._range.source if is_path(self._range.source) else None

    @property
    def file_stream(self) -> BinaryIO | None:
        """The open file, the very object; None if there is none."""
        return (
            self._range.source
            if is_file(self._range.source) and not is_path(self._range.source)
            else None
        )

    @property
    def offset(self) -> int:
        """Where in the buffer or the file to begin, in bytes."""
        return self._range.offset

    @property
    def count(self) -> int:
        """How many bytes to send; of a file, 0 stands for all from `offset` on."""
        return self._range.size or 0

    @property
    def end_of_packet(self) -> bool:
        """Whether a datagram ends with it; without effect on a stream."""
        return self._range.ends_packet

    @property
    def copy(self) -> bool:
        """Whether a file is read and sent, so that nobody can change what the kernel has accepted of it."""
        return self._range.copies


def range_of(element: SendPacketsElement) -> SourceRange:
    """Return what an element stands for."""
    return element._range


def element_of(range_: SourceRange) -> SendPacketsElement:
    """Return an element for a range that need not be checked."""
    element = SendPacketsElement.__new__(SendPacketsElement)
    element._range = range_
    return element


def file_element(
    file: str | os.PathLike[str] | BinaryIO, offset: int, count: int | None, copy: bool
) -> SendPacketsElement:
    """Return an element for a range of a file, where a count of 0 stands for nothing."""
    if not is_file(file):
        raise TypeError(
            f"file must be a path or a file open for reading in binary mode, not {type(file).__name__}"
        )
    check_file("file", file)
    offset, size = require_file_range(offset, count)
    return element_of(SourceRange(file, offset, size, False, bool(copy)))


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
