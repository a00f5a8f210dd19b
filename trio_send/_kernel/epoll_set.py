"""Many sockets behind one descriptor: a one-shot epoll set that Trio can wait for."""

from __future__ import annotations

import os
import select
import sys
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar

from .forks import when_forked

if TYPE_CHECKING:
    from .port import Port


class Waiter(Protocol):
    """Who waits for a socket, in one direction."""

    @property
    def port(self) -> Port:
        """The socket."""

    @property
    def writes(self) -> bool:
        """Whether it waits until the socket can be written rather than read."""


def _engine_wanted() -> str:
    """Return what the environment says of how engines wait: "task" or nothing."""
    wanted = os.environ.get("TRIO_SEND_ENGINE", "")
    if wanted not in ("", "task"):
        raise ValueError(
            f"the environment variable TRIO_SEND_ENGINE is {wanted!r}, but can only be 'task', which has a task "
            "wait for each blocked socket, as where there is no epoll; unset it for the usual way",
        )
    return wanted


#: Whether many sockets are watched through one descriptor that Trio can wait for: where the system can do it, unless
#: ``TRIO_SEND_ENGINE=task`` is in the environment, for tests of what serves all other systems.
HAVE_EPOLL: Final = sys.platform == "linux" and not _engine_wanted()


# Plain numbers, because they are looked at for every event. Elsewhere than on Linux there are none, and nobody looks.
_IN: Final = getattr(select, "EPOLLIN", 0)


_OUT: Final = getattr(select, "EPOLLOUT", 0)


_ONE_SHOT: Final = getattr(select, "EPOLLONESHOT", 0)


_OVER: Final = getattr(select, "EPOLLERR", 0) | getattr(select, "EPOLLHUP", 0)


_IN_OR_OVER: Final = _IN | _OVER


_OUT_OR_OVER: Final = _OUT | _OVER


#: Events fetched at once: enough to spread the cost of the call, few enough to hold across a yield.
MAX_EVENTS: Final = 256


W = TypeVar("W", bound=Waiter)


class _Unused:
    """Stands in for an epoll set that belongs to another process.

    Args:
      epoll: the set, whose descriptor stays open, so that its number is not given to something else.
    """

    def __init__(self, epoll: object) -> None:
        self._epoll: object = epoll

    def register(self, fd: int, events: int) -> None: ...

    def modify(self, fd: int, events: int) -> None: ...

    def unregister(self, fd: int) -> None: ...

    def poll(self, timeout: float, maxevents: int) -> list[tuple[int, int]]:
        return []

    def close(self) -> None:
        self._epoll = None


class EpollSet(Generic[W]):
    """The blocked queues of one engine as a one-shot epoll set; a socket's two directions share a descriptor.

    It takes a descriptor, and in the kernel some memory for each socket, of which a user may have so much. Where these
    are lacking nothing may be lost: whoever cannot be watched here is given back, and waited for in another way.

    Raises:
      OSError: the system has no descriptor, or no memory, for a set.
    """

    __slots__ = ("__weakref__", "_epoll", "_readers", "_writers", "armed", "fd")

    def __init__(self) -> None:
        self._epoll: Any = select.epoll()  # type: ignore[attr-defined,unused-ignore]
        self.fd: int = self._epoll.fileno()
        when_forked(self, EpollSet._leave_alone)
        # By descriptor, with None for one that is silent. A descriptor that is in either of them is known to the epoll
        # set; one that was closed may linger, because the kernel has forgotten it and says so if its number is to be
        # armed again.
        self._readers: dict[int, W | None] = {}
        self._writers: dict[int, W | None] = {}
        #: How many queues wait.
        self.armed = 0

    def _leave_alone(self) -> None:
        """Make no call on the set any more, because it is the other process that waits for its events."""
        self._epoll = _Unused(self._epoll)

    def _update(self, fd: int) -> None:
        """Arm a known ``fd`` for the directions that are waited for."""
        events = -1
        # Again if that has changed in the middle.
        while events != self._events(fd):
            events = self._events(fd)
            try:
                self._epoll.modify(fd, events)
            except FileNotFoundError:
                self._epoll.register(fd, events)

    def _events(self, fd: int) -> int:
        """Return what is to be waited for."""
        events = _ONE_SHOT
        if self._writers.get(fd) is not None:
            events |= _OUT
        if self._readers.get(fd) is not None:
            events |= _IN
        return events

    def arm(self, fd: int, queue: W) -> None:
        """Have ``queue`` fetched when its socket is ready.

        Raises:
          OSError: the system cannot watch it. The set is as it was.
        """
        known = fd in self._writers or fd in self._readers
        queues = self._writers if queue.writes else self._readers
        if queues.get(fd) is None:
            self.armed += 1
        queues[fd] = queue
        try:
            if known:
                others = self._readers if queue.writes else self._writers
                if others.get(fd) is None:
                    # Most of the time, and the same in fewer calls.
                    with_one = (_OUT if queue.writes else _IN) | _ONE_SHOT
                    try:
                        self._epoll.modify(fd, with_one)
                    except FileNotFoundError:
                        self._epoll.register(fd, with_one)
                    if queues.get(fd) is queue and others.get(fd) is None:
                        return
                self._update(fd)
            else:
                try:
                    self._epoll.register(fd, (_OUT if queue.writes else _IN) | _ONE_SHOT)
                except FileExistsError:
                    self._update(fd)
        except OSError:
            queues[fd] = None
            self.armed -= 1
            if not known:
                del queues[fd]
            raise

    def disarm(self, queue: W) -> W | None:
        """Forget ``queue``.

        Returns:
          Who waits for the same socket in the other direction, if the system cannot watch it any more.
        """
        fd = queue.port.fileno()
        queues, others = (
            (self._writers, self._readers) if queue.writes else (self._readers, self._writers)
        )
        # Closed behind the library's back: the kernel has forgotten it, the number is lost.
        if fd < 0:
            fd = next((number for number, other in queues.items() if other is queue), -1)
            if queues.pop(fd, None) is not None:
                self.armed -= 1
            return None
        if queues.get(fd) is None:
            return None
        self.armed -= 1
        queues[fd] = None
        if others.get(fd) is None:
            queues.pop(fd)
            others.pop(fd, None)
            try:
                self._epoll.unregister(fd)
            except OSError:
                pass  # the descriptor was closed behind the library's back
        other = others.get(fd)
        if other is not None:  # perhaps since a moment
            try:
                self._update(fd)
            except OSError:
                others[fd] = None
                self.armed -= 1
                return other
        return None

    def silence(self, fd: int, queue: W) -> bool:
        """Have ``queue`` not fetched, which is soon to be armed again; so the kernel goes on knowing its socket.

        Returns:
          Whether that is done. If not, all is as it was.
        """
        queues, others = (
            (self._writers, self._readers) if queue.writes else (self._readers, self._writers)
        )
        if queues.get(fd) is not queue:
            return False
        queues[fd] = None
        self.armed -= 1
        try:
            if others.get(fd) is None:
                self._epoll.modify(fd, _ONE_SHOT)
                if queues.get(fd) is None and others.get(fd) is None:
                    return True
            self._update(fd)
        except OSError:
            queues[fd] = queue
            self.armed += 1
            return False
        return True

    def fetch(self) -> list[W]:
        """Return the queues that are worth a drain; they are not armed any more."""
        ready: list[W] = []
        for fd, happened in self._epoll.poll(0, MAX_EVENTS):
            # Errors and hang-ups concern both directions; the attempt tells what is wrong.
            if happened & _OUT_OR_OVER:
                self._take(self._writers, fd, ready)
            if happened & _IN_OR_OVER:
                self._take(self._readers, fd, ready)
            if self._writers.get(fd) is not None or self._readers.get(fd) is not None:
                self._arm_again(fd, ready)
        return ready

    def _arm_again(self, fd: int, ready: list[W]) -> None:
        """Go on waiting in the direction in which nothing has happened."""
        try:
            self._update(fd)
        except OSError:
            # It cannot be watched any more, so the attempt has to tell whether it is ready.
            self._take(self._writers, fd, ready)
            self._take(self._readers, fd, ready)

    def _take(self, queues: dict[int, W | None], fd: int, ready: list[W]) -> None:
        """Have who waits in one direction be ready, and wait no more."""
        if queues.get(fd) is None:
            return
        # Whoever takes it out counts it, because it may be disarmed in the middle of this.
        queue = queues.pop(fd, None)
        queues.setdefault(fd, None)
        if queue is not None:
            self.armed -= 1
            ready.append(queue)

    def close(self) -> None:
        self._epoll.close()
