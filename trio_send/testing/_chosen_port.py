"""A kernel whose every answer is chosen, on a descriptor that an engine can watch."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any, Final, final

import trio

from ..abc import Port
from ._readiness import Readiness
from ._tape import KERNEL

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from typing_extensions import Buffer

    from ._case import Case

#: For how many seconds of virtual time the kernel takes nothing when it has said so.
BLOCKED: Final = 1.0

#: Errors after which a connection is gone.
FATAL: Final = frozenset({"EPIPE", "ECONNRESET", "ETIMEDOUT"})


@final
class ChosenPort(Port):
    """A port whose answers are decisions of the explorer.

    Each attempt accepts all bytes, or some of them on a stream, or none for a second, or fails. On Linux it stands on
    an eventfd, which is writable when the port is, so what waits for it is the engine that is shipped. Elsewhere it has
    no descriptor, and waits are served one by one.

    Args:
      case: chooses.
      name: what its decisions are called.
      note: told of each attempt that accepted something: with the bytes.
      is_stream: whether a message may be accepted in part.
      errors: the names of the errnos that an attempt may fail with.
    """

    def __init__(
        self,
        case: Case,
        name: str,
        note: Callable[[bytes], object],
        *,
        is_stream: bool = True,
        errors: Sequence[str] = (),
    ) -> None:
        self.is_stream: bool = is_stream
        self._case = case
        self._name = name
        self._note = note
        self._errors = tuple(errors)
        self._gone: int | None = None
        self._readiness = Readiness(name, descriptor=True)

    @property
    def is_writable(self) -> bool:
        """Whether somebody who waits would learn that something is taken."""
        return not self._readiness.is_blocked and not self._readiness.is_full

    def _attempt(self, data: bytes) -> int:
        if self._readiness.is_closed:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        self._case._touches += 1
        self._case._inside(f"{self._name} is asked")
        if self._readiness.is_blocked:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        try:
            return self._answer(data)
        finally:
            self._case._inside(f"{self._name} answers")

    def _answer(self, data: bytes) -> int:
        if self._gone is not None:
            raise OSError(self._gone, os.strerror(self._gone))
        parts = max(0, len(data) - 1) if self.is_stream else 0
        options = 2 + parts + len(self._errors)
        choice = self._case.choose(options, f"answer of {self._name}", kind=KERNEL)
        if choice == 1:
            self._readiness.block(BLOCKED)
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        if choice > 1 + parts:
            name = self._errors[choice - 2 - parts]
            number = getattr(errno, name)
            if name in FATAL:
                self._gone = number
            raise OSError(number, os.strerror(number))
        taken = data if choice == 0 else data[: choice - 1]
        self._note(taken)
        return len(taken)

    def send(self, buffer: Buffer, flags: int, /) -> int:
        """Do as is chosen."""
        return self._attempt(bytes(buffer))

    def send_gather(self, views: Sequence[Buffer], flags: int, /) -> int:
        """Do as is chosen, for all the buffers as one message."""
        return self._attempt(b"".join(views))

    def send_to(self, buffer: Buffer, flags: int, address: Any, /) -> int:
        """Do as is chosen."""
        return self._attempt(bytes(buffer))

    def shutdown(self, how: int, /) -> None:
        """Fail from here on, as a stream does whose end was sent."""
        self._gone = errno.EPIPE
        self._readiness.unblock()

    def fileno(self) -> int:
        """Return the eventfd, or -1."""
        return -1 if self._readiness.is_closed else self._readiness.fd

    async def wait_writable(self) -> None:
        """Wait until the kernel takes something again."""
        await self._readiness.wait()

    async def wait_readable(self) -> None:
        """Wait for ever, because nothing is ever received."""
        await trio.sleep_forever()

    def close(self, *, reset: bool) -> None:
        """Refuse all further attempts and wake whoever waits."""
        self._readiness.close()
