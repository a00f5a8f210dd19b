"""Several datagrams as what one operation sends, and how many of them one system call takes.

Linux cuts one long buffer into UDP datagrams of equal length, only the last of which may be shorter (``UDP_SEGMENT``),
and all of them share what the call costs. Lists of `bytes` of 64 to 4,000 B that were awaited over loopback, with a
receiver that read them all, took 0.6 to 0.7 of the time of one call for each datagram when they had 8 of them, 0.35 to
0.5 when they had 32, 0.27 to 0.37 when they had 64 (medians of 400 interleaved runs, under several loads). Of awaiting
each datagram as a plain send it was 0.40 to 0.46, 0.16 to 0.23, 0.11 to 0.13; a list of one or two is dearer than that.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from .buffers import BufferShrankError, Message, Piece, measure

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from typing_extensions import Buffer

#: The longest payload of an IPv4 packet, which all datagrams of one call share. IPv6 has room for 20 bytes more.
MAX_RUN_SIZE: Final = 65507

#: Datagrams no longer than this are joined for a call, longer ones gathered. At 1,200 B joining 32 of them cost 0.9 of
#: gathering, at 4,000 B it cost 1.06.
JOIN_DATAGRAM_SIZE: Final = 2048

#: The kernel, or the device the packets leave by, cannot do it this way, or not with so many or so long ones. One by
#: one they may pass, or tell what is really the matter. Other errors are about the peer and the socket, and final.
CANNOT_SEGMENT_ERRNOS: Final = frozenset(
    (
        errno.EINVAL,
        errno.EIO,
        errno.EMSGSIZE,
        errno.ENOBUFS,
        errno.ENOMEM,
        errno.ENOPROTOOPT,
        errno.ENOTSUP,
        errno.EOPNOTSUPP,
    )
)


class Datagrams(Message):
    """Datagrams that are sent one after the other.

    Unlike other messages it knows how far it has been sent, because empty datagrams have no bytes to count them by.
    So it is for one activation of one operation.

    Attributes:
      count: how many datagrams there are.
      sent: how many of them the kernel has accepted.
    """

    __slots__ = ("_datagrams", "_longest", "_pieces", "_sizes", "count", "sent")

    def __init__(
        self, datagrams: list[Buffer], sizes: list[int], pieces: list[Piece] | None
    ) -> None:
        super().__init__(())
        self._datagrams = datagrams
        self._sizes = sizes
        #: What to make views of; None if all of them are `bytes`, which go to the kernel as they are.
        self._pieces = pieces
        self.size = sum(sizes)
        self.count = len(datagrams)
        self.sent = 0
        #: Datagrams that are longer do not share a call.
        self._longest = MAX_RUN_SIZE

    def rest(self) -> Datagrams:
        """Return those that were not accepted as a message of its own."""
        pieces = None if self._pieces is None else self._pieces[self.sent :]
        return Datagrams(self.unsent, self._sizes[self.sent :], pieces)

    @property
    def bytes_sent(self) -> int:
        """How many bytes the datagrams have that were accepted."""
        return sum(self._sizes[: self.sent])

    def peek(self, start: int, count: int) -> bytes:
        """Return a copy of at most ``count`` bytes from ``start`` on, the datagrams taken as one."""
        return Message(
            tuple(
                Piece(each, 0, size)
                for each, size in zip(self._datagrams, self._sizes, strict=True)
            )
        ).peek(start, count)

    @property
    def unsent(self) -> list[Buffer]:
        """The datagrams that were not accepted."""
        return self._datagrams[self.sent :]

    def open_run(
        self, most: int, opened: list[memoryview]
    ) -> tuple[Sequence[bytes | memoryview], int]:
        """Return what one system call takes of the datagrams that are due, ``most`` at most, and the length of each.

        All have that length but the last one, which may be shorter.
        """
        sizes, start = self._sizes, self.sent
        size = sizes[start]
        stop = start + 1
        if 0 < size <= self._longest:
            end = min(self.count, start + most, start + MAX_RUN_SIZE // size)
            while stop < end and sizes[stop] == size:
                stop += 1
            if stop < end and 0 < sizes[stop] < size:
                stop += 1
        if self._pieces is None:
            return self._datagrams[start:stop], size  # type: ignore[return-value]
        views: list[bytes | memoryview] = []
        for piece in self._pieces[start:stop]:
            direct = piece.direct
            if direct is None:
                try:
                    direct = piece.open(0, opened)
                except BufferShrankError:
                    if not views:
                        raise
                    break  # it fails when its turn comes
            views.append(direct)
        return views, size

    def cannot_share(self, size: int, number: int) -> None:
        """Take note that a call for several datagrams of ``size`` bytes failed with this errno."""
        # A segment must fit the path, while a single datagram is cut in pieces where it is too long for that.
        self._longest = size - 1 if number == errno.EINVAL else 0


def datagrams_from_list(name: str, datagrams: Iterable[Buffer]) -> Datagrams:
    """Check a list of datagrams; the list itself is not looked at again.

    Raises:
      TypeError: it is no list, or a member is not bytes-like or not contiguous; the message starts with ``name``.
    """
    try:
        members = list(datagrams)
    except TypeError:
        raise TypeError(
            f"{name} must be a list of bytes-like objects, not {type(datagrams).__name__}"
        ) from None
    if all(type(member) is bytes for member in members):
        # To make a piece of each would cost more than the kernel's share of the work.
        return Datagrams(members, list(map(len, members)), None)  # type: ignore[arg-type]
    pieces = [
        Piece(member, 0, measure(f"{name}[{index}]", member))
        for index, member in enumerate(members)
    ]
    return Datagrams(members, [piece.size for piece in pieces], pieces)
