"""The door: how other threads hand something to a run of Trio.

`trio.lowlevel.TrioToken.run_sync_soon` is the only way in, and each call of it wakes the Trio thread through a socket.
So what comes while somebody has knocked already just joins the others: one knock, one trip, one batch. All threads of a
run use the same door, and what comes through it is taken in the order in which it came, so a thread's posts keep their
order whatever they concern.

A post never waits for the Trio thread. A thread that waited, for an answer say, while it holds a lock that a callback
in the Trio thread wants too, would wait for ever, and locks around shared state are what threaded code is made of.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from typing import TYPE_CHECKING, Final

import trio

from .interrupts import one_step

if TYPE_CHECKING:
    from collections.abc import Callable

#: Held by a thread for the instant in which it looks whether a start is possible and posts it, and by the Trio side
#: for the instant in which it makes up its mind to take no more. Nobody waits or calls anybody while holding it.
#: Reentrant, because a finaliser may strike there and post something itself.
LOCK: Final = threading.RLock()

#: Posts taken in before Trio's other tasks have their turn. A start with its send takes about 4 us.
POSTS_PER_TRIP: Final = 64


class Door:
    """The door of one run.

    Args:
      token: the run's.
    """

    __slots__ = ("_knocked", "_posts", "_token")

    def __init__(self, token: trio.lowlevel.TrioToken) -> None:
        self._token = token
        self._posts: deque[Callable[[], None]] = deque()
        #: Whether somebody has knocked who has not been answered yet.
        self._knocked = False

    @property
    def token(self) -> trio.lowlevel.TrioToken:
        """The token of the run behind the door."""
        return self._token

    @staticmethod
    def current() -> Door:
        """Return the door of the current run."""
        try:
            return _door.get()
        except LookupError:
            door = Door(trio.lowlevel.current_trio_token())
            _door.set(door)
            return door

    def put(self, post: Callable[[], None]) -> None:
        """Leave a post, to be taken in after the next `knock`."""
        self._posts.append(post)

    def knock(self) -> bool:
        """Have the Trio side take in what was put; return False if the run is over and it never will."""
        # The flag is cleared before the posts are looked at, and looked at after a post was put: none is overlooked.
        if self._knocked:
            return True
        try:
            self._knocked = True
            self._token.run_sync_soon(self._answer)
        # A run that crashed closes its socket and says no more: hence OSError.
        except (trio.RunFinishedError, OSError):
            self._knocked = False
            return False
        except BaseException:
            self._knocked = False
            raise
        return True

    @one_step
    def post(self, post: Callable[[], None]) -> bool:
        """Have ``post`` called in the Trio thread, soon; return False if the run is over, and everything has ended."""
        self.put(post)
        if self.knock():
            return True
        self.take_back(post)
        return False

    def take_back(self, post: Callable[[], None]) -> bool:
        """Take back a post that nobody may ever take in; return whether it has not been taken in yet."""
        try:
            self._posts.remove(post)
        except ValueError:
            return False
        return True

    def _answer(self) -> None:
        self._knocked = False
        self.take_in(POSTS_PER_TRIP)
        if self._posts and not self.knock():
            self.take_in()  # this was the last trip of all

    @trio.lowlevel.enable_ki_protection
    def take_in(self, at_most: int = sys.maxsize) -> None:
        """Call what was posted, in order; only in the Trio thread."""
        for _ in range(min(len(self._posts), at_most)):
            self._posts.popleft()()


_door: Final[trio.lowlevel.RunVar[Door]] = trio.lowlevel.RunVar("trio_send.door")
