"""What is sent: buffers, ranges of buffers and gather lists, and the position in them.

A `Message` never changes. How far it has been sent is one number, the count of accepted bytes, and it lives in the
operation; so the same message can be sent again, by several operations even, and a count can never disagree with a
cursor kept elsewhere.

Two rules keep the application's buffers free. Nothing is copied, except small pieces that are joined because one copy
is cheaper than one more system call. And no view outlives a system call, so a `bytearray` can be resized as soon as no
attempt is running; ranges of immutable `bytes` are the exception, where a view kept for good locks nothing.
"""

from __future__ import annotations

import operator
from bisect import bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final, cast, final

from .._base.checks import counted, require_whole_number

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from typing_extensions import Buffer

#: The kernel refuses more buffers than this in one `sendmsg` (EMSGSIZE for 1,025 on Linux).
MAX_PIECES: Final = 1024

#: Pieces that are on average no longer than this are joined into one buffer instead of gathered by `sendmsg`. On
#: loopback TCP joining 200 pieces of 64 B cost 0.45 of gathering them, 16 of 1 KiB 0.6, 8 of 16 KiB 1.2.
JOIN_PIECE_SIZE: Final = 4096

#: Joining stops paying beyond some 16 to 64 KiB in total, when the copy costs more than it saves.
JOIN_TOTAL: Final = 65536


class BufferShrankError(Exception):
    """A mutable buffer became shorter than the range that is being sent, or cannot be read any more."""


def require_range(size_name: str, length: int, offset: int, size: int | None) -> tuple[int, int]:
    """Check a range of a buffer of ``length`` bytes and return it as ``(offset, size)``.

    Raises:
      TypeError: a part of the range is no whole number.
      ValueError: the range leaves the buffer; the message names ``offset`` or ``size_name`` (F004 to F006, F102).
    """
    offset = require_whole_number("offset", offset, "bytes")
    if not 0 <= offset <= length:
        raise ValueError(
            f"offset is {offset}, but must be from 0 to {length}, the length of the buffer in bytes",
        )
    if size is None:
        return offset, length - offset
    size = require_whole_number(size_name, size, "bytes")
    if not 0 <= size <= length - offset:
        raise ValueError(
            f"{size_name} is {size}, but must be from 0 to {length - offset}, "
            f"the bytes of the buffer from offset {offset} on",
        )
    return offset, size


def measure(name: str, buffer: Buffer, otherwise: str = "") -> int:
    """Return the length of ``buffer`` in bytes.

    Args:
      name: what to call it.
      buffer: what it is.
      otherwise: what else would have been right, to be told where it is none of all that.

    Raises:
      TypeError: it is None, not bytes-like, or not contiguous; the message starts with ``name``.
      ValueError: it is a `memoryview` that was released, or a buffer that was closed.
    """
    if type(buffer) is bytes:
        return len(buffer)
    if buffer is None:
        raise TypeError(
            f"{name} is None, but must be a bytes-like object{otherwise and f', {otherwise}'}"
        )
    try:
        view = memoryview(buffer)
    except ValueError as error:
        raise ValueError(f"{name} cannot be read: {error}") from None
    except TypeError:
        raise TypeError(
            f"{name} must be a bytes-like object such as bytes, bytearray or memoryview, "
            f"{otherwise and f'{otherwise}, '}not {type(buffer).__name__}",
        ) from None
    with view:
        if not view.c_contiguous:
            raise TypeError(
                f"{name} must be contiguous; make a contiguous copy of it first, for example with bytes(...)",
            )
        return view.nbytes


def short_size(buffer: Any) -> int:
    """Return how many bytes a buffer has; -1 if it is not for the short way.

    There go `bytes`, `bytearray` and a flat, contiguous `memoryview` of bytes, none of them of a subclass: no code of
    the program runs where they are looked at or sent.
    """
    kind = type(buffer)
    if kind is bytearray or kind is bytes:
        return len(buffer)
    if kind is not memoryview:
        return -1
    try:
        if buffer.ndim != 1 or buffer.itemsize != 1 or not buffer.c_contiguous:
            return -1
        length: int = buffer.nbytes
        return length
    except ValueError:  # it was released
        return -1


def short_range_size(buffer: Any, offset: object, size: object) -> int:
    """Return how many bytes a range of a buffer has; -1 if it is not for the short way, or not right."""
    length = short_size(buffer)
    if type(offset) is not int or not 0 <= offset <= length:
        return -1
    if size is None:
        return length - offset
    if type(size) is not int or not 0 <= size <= length - offset:
        return -1
    return size


def shrunk(length: int, end: int) -> BufferShrankError:
    """Return the error of a buffer that has become shorter than the range that ends at ``end``."""
    return BufferShrankError(
        f"the buffer has {counted(length, 'byte')}, but the range ends at {end}"
    )


def unreadable(error: Exception) -> BufferShrankError:
    """Return the error of a buffer that was closed or released."""
    return BufferShrankError(f"the buffer cannot be read any more: {error}")


class Piece:
    """One range of one buffer.

    ``direct`` is what may be handed to the kernel as it stands, for as long as one likes: the `bytes` object itself, or
    a view into one. It is None for buffers that can change, which are viewed for each attempt.
    """

    __slots__ = ("buffer", "direct", "offset", "size")

    def __init__(self, buffer: Buffer, offset: int, size: int) -> None:
        self.buffer = buffer
        self.offset = offset
        self.size = size
        self.direct: bytes | memoryview | None = None
        if type(buffer) is bytes:
            whole = size == len(buffer)
            self.direct = buffer if whole else memoryview(buffer)[offset : offset + size]

    def open(self, start: int, opened: list[memoryview]) -> memoryview:
        """Return a view of the bytes from ``start`` on; add all that must be released to ``opened``."""
        try:
            view = memoryview(self.buffer)
        except (
            Exception
        ) as error:  # a memoryview that its owner released, or whatever a __buffer__ method raises
            raise unreadable(error) from None
        opened.append(view)
        end = self.offset + self.size
        if view.nbytes < end:
            raise shrunk(view.nbytes, end)
        if view.nbytes == 0:
            return view  # an empty view can have a shape that cannot be cast
        if view.format != "B" or view.ndim != 1:
            view = view.cast("B")
            opened.append(view)
        begin = self.offset + start
        if begin != 0 or end != view.nbytes:
            view = view[begin:end]
            opened.append(view)
        return view


class Message:
    """What one operation sends: one piece, or a list of pieces gathered into one message.

    Attributes:
      size: the bytes of all pieces together.
      direct: what to hand to the kernel when the message starts at byte 0; None where a view has to be made.
    """

    __slots__ = ("_ends", "direct", "is_known_writable", "pieces", "size")

    def __init__(self, pieces: tuple[Piece, ...]) -> None:
        self.pieces: tuple[Piece, ...] = pieces
        #: Whether the buffers were found to be writable, so that nobody need look again.
        self.is_known_writable: bool = False
        if len(pieces) == 1:
            self.size: int = pieces[0].size
            self.direct = pieces[0].direct
            self._ends: list[int] | None = None
        else:
            self._ends = list(accumulate(piece.size for piece in pieces))
            self.size = self._ends[-1] if pieces else 0
            self.direct = None

    @property
    def fits_one_call(self) -> bool:
        """Whether the kernel takes all the pieces in one system call (F171)."""
        return len(self.pieces) <= MAX_PIECES

    def open(
        self,
        start: int,
        views: list[Any],
        opened: list[memoryview],
        max_pieces: int,
    ) -> int:
        """Append views of what lies behind byte ``start``, at most ``max_pieces`` of them; return their bytes."""
        if self._ends is None:
            view = self.pieces[0].open(start, opened)
            views.append(view)
            return view.nbytes
        total = 0
        index = bisect_right(self._ends, start)  # skips pieces that are done, empty ones among them
        for piece in self.pieces[index : index + max_pieces]:
            skipped = max(0, start - (self._ends[index] - piece.size))
            index += 1
            if piece.size == 0:
                continue
            view = piece.open(skipped, opened)
            views.append(view)
            total += view.nbytes
        return total

    def tail(self, start: int) -> Message:
        """Return what lies behind byte ``start`` as a message of its own, which holds no view of a mutable buffer."""
        pieces: list[Piece] = []
        begin = 0
        for piece in self.pieces:
            skipped = max(0, start - begin)
            begin += piece.size
            if skipped < piece.size:
                pieces.append(Piece(piece.buffer, piece.offset + skipped, piece.size - skipped))
        return Message(tuple(pieces))

    def peek(self, start: int, count: int) -> bytes:
        """Return a copy of at most ``count`` bytes from ``start`` on; fewer if a buffer does not have them any more."""
        found = bytearray()
        begin = 0
        for piece in self.pieces:
            skipped = max(0, start - begin)
            begin += piece.size
            if skipped >= piece.size:
                continue
            if len(found) >= count:
                break
            opened: list[memoryview] = []
            try:
                found += piece.open(skipped, opened)[: count - len(found)]
            except BufferShrankError:
                break
            finally:
                release(opened)
        return bytes(found)

    def remaining(self, start: int) -> list[memoryview]:
        """Return views of everything behind byte ``start``, fit for a ``buffer_list``.

        Whoever reads them holds exports of the buffers until the views are released or dropped.
        """
        views: list[memoryview] = []
        if start < self.size:
            try:
                self.open(start, views, [], len(self.pieces) or 1)
            except BufferShrankError as error:
                raise ValueError(
                    f"the rest of the message is gone: {error}; leave a buffer alone until its send has ended",
                ) from None
        return views


@final
class WholeBytes(Message):
    """A `bytes` object as it stands, which is what most messages are, and programs make one for each.

    So what is the same for all of them is said here once, and what is seldom asked for is made when it is.
    """

    __slots__ = ()

    _ends = None
    is_known_writable = False
    fits_one_call = True

    direct: bytes

    def __init__(self, data: bytes) -> None:
        self.direct = data
        self.size = len(data)

    @property
    def pieces(self) -> tuple[Piece, ...]:  # type: ignore[override]
        """The one piece."""
        return (Piece(self.direct, 0, self.size),)


def require_writable(name: str, message: Message, *, is_list: bool) -> None:
    """Check that bytes can be received into every piece of ``message``; where there is no room, none will be.

    Raises:
      ValueError: a piece is read-only.
    """
    if message.is_known_writable or message.size == 0:
        return
    for index, piece in enumerate(message.pieces):
        opened: list[memoryview] = []
        try:
            readonly = piece.open(0, opened).readonly
        except BufferShrankError:
            continue  # the attempt will tell
        finally:
            release(opened)
        if readonly:
            raise ValueError(
                f"{name}{f'[{index}]' * is_list} must be writable to be received into, but this "
                f"{type(piece.buffer).__name__} is read-only"
            )
    message.is_known_writable = True


def message_from_buffer(
    name: str,
    buffer: Buffer,
    offset: int,
    size: int | None,
    size_name: str = "size",
    otherwise: str = "",
) -> Message:
    """Check one buffer and its range and return the message."""
    if type(buffer) is bytes and size is None and offset == 0:
        return WholeBytes(buffer)  # there is nothing to check
    length = measure(name, buffer, otherwise)
    if size is None and type(offset) is int and offset == 0:
        return Message((Piece(buffer, 0, length),))
    offset, size = require_range(size_name, length, offset, size)
    return Message((Piece(buffer, offset, size),))


def range_message(buffer: Buffer, offset: int, size: int) -> Message:
    """Return the message of a range that `short_range_size` has found right."""
    return Message((Piece(buffer, offset, size),))


def message_from_list(name: str, buffers: Iterable[Buffer]) -> Message:
    """Check a gather list and return the message; the list itself is not looked at again (F112)."""
    try:
        members = list(buffers)
    except TypeError:
        raise TypeError(
            f"{name} must be a list of bytes-like objects, not {type(buffers).__name__}"
        ) from None
    if (
        0 < len(members) <= MAX_PIECES
        and operator.countOf(map(type, members), bytes) == len(members)
        and sum(map(len, cast("list[bytes]", members))) <= JOIN_TOTAL
    ):
        # They would be joined to be sent, and since they cannot change, that may as well be done here and once.
        return WholeBytes(b"".join(members))
    return Message(
        tuple(
            Piece(buffer, 0, measure(f"{name}[{index}]", buffer))
            for index, buffer in enumerate(members)
        ),
    )


def message_of(
    name: str, data: Buffer | Sequence[Buffer], offset: int, size: int | None
) -> Message:
    """Check what is to be sent, one buffer or a list of them."""
    if isinstance(data, (list, tuple)):
        if offset != 0 or size is not None:
            raise ValueError(
                "offset and size are for a single buffer; slice the members of a list instead"
            )
        if not data:
            raise ValueError(f"{name} is an empty list, but must hold at least one buffer")  # F017
        return message_from_list(name, data)
    return message_from_buffer(
        name,
        data,  # type: ignore[arg-type]
        offset,
        size,
        otherwise="or a list or tuple of them",
    )


def release(opened: list[memoryview]) -> None:
    """Release views in the reverse order of their making."""
    while opened:
        opened.pop().release()
