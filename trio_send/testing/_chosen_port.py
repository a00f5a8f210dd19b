"""A kernel whose every answer is chosen, on a descriptor that an engine can watch."""

from __future__ import annotations

import errno
import math
import os
import sys
from typing import TYPE_CHECKING, Any, Final, final

import trio

from ..abc import Port
from ._tape import KERNEL

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from typing_extensions import Buffer

    from ._case import Case

#: What an eventfd can hold at most. Then nothing more can be written, so it is not writable.
_FULL: Final = 2**64 - 2

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
        self._blocked_until = -math.inf
        self._is_closed = False
        self._gone: int | None = None
        self._lot = trio.lowlevel.ParkingLot()
        #: Where the task waits in which time passes for the kernel, once there is one.
        self._kernel: trio.lowlevel.ParkingLot | None = None
        self._fd = -1
        if sys.platform == "linux":
            self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def _attempt(self, data: bytes) -> int:
        if self._is_closed:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        self._case._inside(f"{self._name} is asked")
        if self._is_blocked:
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
            self._block()
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

    def _block(self) -> None:
        self._blocked_until = trio.current_time() + BLOCKED
        if sys.platform == "linux":
            os.eventfd_write(self._fd, _FULL)
        if self._kernel is None:
            # The kernel's time is nobody's: no cancel of the program may stop it.
            self._kernel = trio.lowlevel.ParkingLot()
            trio.lowlevel.spawn_system_task(self._pass_time, name=f"kernel of {self._name}")
        else:
            self._kernel.unpark_all()

    async def _pass_time(self) -> None:
        """Take something again when the time has come, until the port is closed."""
        assert self._kernel is not None
        while not self._is_closed:
            if self._is_blocked:
                with trio.CancelScope(deadline=self._blocked_until):
                    await self._kernel.park()  # until then, or until the port is closed
                self._unblock()
            else:
                await self._kernel.park()

    def _unblock(self) -> None:
        self._blocked_until = -math.inf
        if sys.platform == "linux" and not self._is_closed:
            os.eventfd_read(self._fd)
        self._lot.unpark_all()

    @property
    def _is_blocked(self) -> bool:
        return self._blocked_until > -math.inf

    def send(self, buffer: Buffer, flags: int, /) -> int:
        """Do as is chosen."""
        return self._attempt(bytes(buffer))

    def send_gather(self, views: Sequence[Buffer], flags: int, /) -> int:
        """Do as is chosen, for all the buffers as one message."""
        return self._attempt(b"".join(views))

    def send_to(self, buffer: Buffer, flags: int, address: Any, /) -> int:
        """Do as is chosen."""
        return self._attempt(bytes(buffer))

    def fileno(self) -> int:
        """Return the eventfd, or -1."""
        return -1 if self._is_closed else self._fd

    async def wait_writable(self) -> None:
        """Wait until the kernel takes something again."""
        if self._fd >= 0:
            await trio.lowlevel.wait_writable(self._fd)
            return
        await trio.lowlevel.checkpoint()
        while self._is_blocked and not self._is_closed:
            await self._lot.park()
        if self._is_closed:
            raise trio.ClosedResourceError("the port was closed")

    async def wait_readable(self) -> None:
        """Wait for ever, because nothing is ever received."""
        await trio.sleep_forever()

    def close(self, *, reset: bool) -> None:
        """Refuse all further attempts and wake whoever waits."""
        if not self._is_closed and self._fd >= 0:
            trio.lowlevel.notify_closing(self._fd)
            os.close(self._fd)
        self._is_closed = True
        self._lot.unpark_all()
        if self._kernel is not None:
            self._kernel.unpark_all()
