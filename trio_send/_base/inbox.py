"""The inbox: how other threads hand something to a run of Trio.

`trio.lowlevel.TrioToken.run_sync_soon` is the only way in, and each call of it wakes the Trio thread through a socket.
So what comes while the run is waking already just joins the others: one call, one trip, one batch. All threads of a run
use the same inbox, and what is in it is taken in the order in which it came, so a thread's posts keep their order
whatever they concern.

A post never waits for the Trio thread. A thread that waited, say for an answer, while it holds a lock that a callback
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


class Inbox:
    """The inbox of one run.

    Args:
      token: the run's.
    """

    __slots__ = ("_is_waking", "_posts", "_token")

    def __init__(self, token: trio.lowlevel.TrioToken) -> None:
        self._token = token
        self._posts: deque[Callable[[], None]] = deque()
        #: Whether the run was asked to take in what is here, and has yet to do so.
        self._is_waking = False

    @property
    def token(self) -> trio.lowlevel.TrioToken:
        """The token of the run."""
        return self._token

    @staticmethod
    def current() -> Inbox:
        """Return the inbox of the current run."""
        try:
            return _inbox.get()
        except LookupError:
            inbox = Inbox(trio.lowlevel.current_trio_token())
            _inbox.set(inbox)
            return inbox

    def put(self, post: Callable[[], None]) -> None:
        """Leave a post, to be taken in after the next `wake`."""
        self._posts.append(post)

    def wake(self) -> bool:
        """Have the Trio side take in what was put; return False if the run is over and it never will."""
        # The flag is cleared before the posts are looked at, and looked at after a post was put: none is overlooked.
        if self._is_waking:
            return True
        try:
            self._is_waking = True
            self._token.run_sync_soon(self._be_woken)
        # A run that crashed closes its socket and says no more, which is an OSError.
        except (trio.RunFinishedError, OSError):
            self._is_waking = False
            return False
        except BaseException:
            self._is_waking = False
            raise
        return True

    @one_step
    def post(self, post: Callable[[], None]) -> bool:
        """Have ``post`` called in the Trio thread, soon; return False if the run is over, and everything has ended."""
        self.put(post)
        if self.wake():
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

    def _be_woken(self) -> None:
        self._is_waking = False
        self.take_in(POSTS_PER_TRIP)
        if self._posts and not self.wake():
            self.take_in()  # this was the last trip of all

    @trio.lowlevel.enable_ki_protection
    def take_in(self, at_most: int = sys.maxsize) -> None:
        """Call what was posted, in order; only in the Trio thread."""
        for _ in range(min(len(self._posts), at_most)):
            self._posts.popleft()()


_inbox: Final[trio.lowlevel.RunVar[Inbox]] = trio.lowlevel.RunVar("trio_send.inbox")
