"""Whether a kernel that is played takes something, and a descriptor that an engine can watch for it."""

from __future__ import annotations

import math
import os
import sys
from typing import Final, final

import trio

#: Whether there are descriptors that can be made writable, and not writable, at will.
HAVE_DESCRIPTORS: Final = sys.platform == "linux"

#: What an eventfd can hold at most. Then nothing more can be written, so it is not writable.
_FULL: Final = 2**64 - 2


@final
class Readiness:
    """Time during which nothing is taken, by Trio's clock.

    Args:
      name: whose it is.
      descriptor: whether to stand on an eventfd, which is writable when something is taken, so that what waits for it
        is the engine that is shipped. Only Linux has them; elsewhere each wait is served by itself.

    Attributes:
      fd: the descriptor, or -1.
      is_full: whether the descriptor says that nothing is taken.
      is_closed: whether it was closed.
    """

    def __init__(self, name: str, *, descriptor: bool) -> None:
        self.fd = -1
        self.is_closed = False
        self._name = name
        self._until = -math.inf
        self.is_full = False
        self._lot = trio.lowlevel.ParkingLot()
        self._has_task = False
        if sys.platform == "linux" and descriptor:
            self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    @property
    def is_blocked(self) -> bool:
        """Whether nothing is taken."""
        return self._until > -math.inf and self._until > trio.current_time()

    def block(self, seconds: float) -> None:
        """Take nothing for so long."""
        self._until = trio.current_time() + seconds
        if sys.platform == "linux" and self.fd >= 0:
            if not self.is_full:
                os.eventfd_write(self.fd, _FULL)
                self.is_full = True
            if not self._has_task:
                # A kernel's time is nobody's: no cancel of the program may stop it.
                trio.lowlevel.spawn_system_task(self._pass_time, name=f"kernel of {self._name}")
                self._has_task = True
        self._lot.unpark_all()

    def unblock(self) -> None:
        """Take something from here on."""
        self._until = -math.inf
        self._empty()
        self._lot.unpark_all()

    def _empty(self) -> None:
        if sys.platform == "linux" and self.is_full and not self.is_closed:
            os.eventfd_read(self.fd)
            self.is_full = False

    async def _pass_time(self) -> None:
        """Make the descriptor writable when the time has come, until it is closed."""
        while not self.is_closed:
            if not self.is_full:
                await self._lot.park()
            elif self.is_blocked:
                with trio.CancelScope(deadline=self._until):
                    await self._lot.park()
            else:
                self._empty()

    async def wait(self) -> None:
        """Wait until something is taken.

        Raises:
          trio.ClosedResourceError: it was closed.
        """
        if self.fd >= 0 and not self.is_closed:
            await trio.lowlevel.wait_writable(self.fd)
            return
        await trio.lowlevel.checkpoint()
        while not self.is_closed and self.is_blocked:
            with trio.CancelScope(deadline=self._until):
                await self._lot.park()
        if self.is_closed:
            raise trio.ClosedResourceError("the port was closed")

    def close(self) -> None:
        """Wake whoever waits, and give the descriptor back."""
        if self.fd >= 0 and not self.is_closed:
            trio.lowlevel.notify_closing(self.fd)
            os.close(self.fd)
        self.is_closed = True
        self._lot.unpark_all()
