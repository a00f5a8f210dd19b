"""The engine: one task that waits for all the blocked sockets of an initiator, and drains the queues of the ready ones.

A task per blocked socket would be simple and, at 10,000 of them, about three times as expensive. So the engine keeps an
epoll set of its own and lets Trio wait for that set's descriptor: an epoll set is readable when one of its members is
ready. (Where there is no epoll, and for ports without a descriptor, each blocked queue does get a waiting task.)

The set is made when something first blocks, and so perhaps when no descriptor is left for it, nor memory. To wait must
be possible all the same: then too each blocked queue has a waiting task, and the next one that blocks tries to get a
set again. Where Trio in its turn cannot watch one more descriptor, the queue is attempted now and then.

Registrations are one-shot: a socket that became ready is silent until it is armed again, which happens only if its
queue is still blocked after the drain. From this follows the engine's one trap. What epoll has reported once it does
not report again, so nothing may be lost between fetching events and draining their queues: in the step that fetches
them all of them get their turn, in a list that outlives a cancellation of the wait.

The engine also is the detector of an outside cancel. It waits unshielded, alone of all that serves the initiator, so a
cancelled scope wakes it at once, even while the body sits in a shielded cleanup. It tells the initiator, which applies
its policy, and then goes on behind a shield of its own, because there may be operations to finish, until it is told to
quit.

When nothing is armed the engine dozes, and a queue that blocks wakes it. It then tries such a queue once more before
it arms: a peer that reads has often made room by the time of the next scheduler trip, and one more send costs less than
arming, waiting and fetching. With a peer that reads slowly the try is in vain, and so is waking the engine for it. So
after one in vain a few queues are armed without a try, and the engine waits for their events instead of dozing. (Pieces
of 16 KiB for a slow reader on TCP cost 1.74 of Trio's ``send_all`` with a try each time, and 1.47 like this.)

A task that waits for the operation at the head of a queue is lent the watch over it, for it has nothing else to do.

A queue whose drain ended because an allowance was used up has another turn instead of being armed, because its socket
may be as ready as before.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import trio

from .._base.run_state import FALLS_ASLEEP
from .._base.tries import Tries
from .._base.waiting_tasks import WaitingTasks
from .._kernel.epoll_set import HAVE_EPOLL, EpollSet

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._operations.operation import Queue


#: Bytes one socket may send before the next one has its turn, and all sockets before the other tasks have theirs. With
#: 200 busy sockets and no limit another task was up to 473 ms late; with these, 10 ms.
SOCKET_ALLOWANCE: Final = 256 * 1024
TRIP_ALLOWANCE: Final = 512 * 1024


#: How many queues that have just blocked are tried again before they are armed. A crowd that blocks all at once will
#: not be read empty within one scheduler trip, so the attempts would be lost.
RETRIES: Final = 16


#: How many seconds pass between attempts where the system cannot watch one more descriptor.
SHORTAGE_PAUSE: Final = 0.05


class Borrower:
    """A task that watches a queue in the place of its engine.

    Attributes:
      descriptor: what it waits for.
    """

    __slots__ = ()

    descriptor: int

    def give_back(self) -> None:
        """Watch it no more, from this moment on."""
        raise NotImplementedError


class Engine:
    """Watches queues for one initiator.

    Args:
      on_cancelled: called once, with a sentence, when the engine is cancelled from outside.
      spawn: starts a task in the initiator's nursery.
    """

    __slots__ = (
        "_bed",
        "_dozes",
        "_draining",
        "_on_cancelled",
        "_pollset",
        "_quitting",
        "_scope",
        "_shield",
        "_spawn",
        "_tried",
        "_tries",
        "_turns",
    )

    def __init__(self, on_cancelled: Callable[[str], None], spawn: Callable[..., None]) -> None:
        self._on_cancelled = on_cancelled
        self._spawn = spawn
        self._quitting = False
        self._scope = trio.CancelScope()
        self._shield: trio.CancelScope | None = None
        #: Whether it dozes, or has been woken and has yet to run again.
        self._dozes = False
        self._bed: WaitingTasks[None] = WaitingTasks(None)
        #: Queues that blocked while the engine dozed, and ready ones whose turn has yet to come.
        self._turns: deque[Queue] = deque()
        #: What marks a queue whose turn is a try, because it has just blocked.
        self._tried: object = object()
        #: The tries of queues that have just blocked; while some are left out, queues are armed without one.
        self._tries = Tries()
        #: Whether the engine is draining the queue whose turn it is.
        self._draining = False
        self._pollset: EpollSet[Queue] | None = None

    # -- watching -----------------------------------------------------------------------------------------------------

    def watch(self, queue: Queue) -> None:
        """Drain ``queue`` when its socket is ready. Harmless when that is arranged already."""
        if queue.watched is not None:
            return
        descriptor = queue.descriptor() if HAVE_EPOLL else -1
        if descriptor < 0:
            self._wait_in_task(queue)
        elif self._dozes and len(self._turns) < RETRIES:
            queue.watched = self._tried
            self._turns.append(queue)
            self._bed.wake(None)
        elif self._draining and queue.hopeful and len(self._turns) < RETRIES:
            queue.watched = self._turns
            self._turns.append(queue)
        elif not self._arm(descriptor, queue):
            self._wait_in_task(queue)

    def _arm(self, descriptor: int, queue: Queue) -> bool:
        """Have the set watch ``queue``; return False if the system lacks what that takes."""
        try:
            if self._pollset is None:
                self._add_pollset(EpollSet())
            assert self._pollset is not None
            self._pollset.arm(descriptor, queue)
        except OSError:
            return False
        if self._tries.skips:
            self._tries.skips -= 1
        queue.watched = self._pollset
        return True

    def _add_pollset(self, pollset: EpollSet[Queue]) -> None:
        if self._pollset is None:
            self._pollset = pollset
        else:
            pollset.close()  # another queue that has blocked in the middle of this has made one

    def _wait_in_task(self, queue: Queue) -> None:
        scope = trio.CancelScope(shield=True)
        queue.watched = scope
        self._spawn(self._wait_for, queue, scope)

    def unwatch(self, queue: Queue) -> None:
        """Stop watching ``queue``; no event of its socket reaches it any more."""
        watched, queue.watched = queue.watched, None
        if isinstance(watched, Borrower):
            watched.give_back()
        elif isinstance(watched, trio.CancelScope):
            watched.cancel()
        elif self._pollset is not None and watched is self._pollset:
            other = self._pollset.disarm(queue)
            if other is not None:
                other.watched = None
                self.watch(other)
        # One whose turn has yet to come is passed over then.

    def lend(self, queue: Queue, borrower: Borrower) -> bool:
        """Let a task watch ``queue`` instead, unless its turn comes anyhow; return whether it does."""
        if self._pollset is not None and queue.watched is self._pollset:
            if not self._pollset.silence(borrower.descriptor, queue):
                return False
        elif queue.watched is self._tried:
            # The engine was woken in vain, and is not to doze when the next one blocks.
            self._tries.learn(in_vain=True)
            if self._pollset is None:
                with suppress(OSError):
                    self._add_pollset(EpollSet())
        else:
            return False
        queue.watched = borrower
        return True

    @trio.lowlevel.enable_ki_protection
    async def _wait_for(self, queue: Queue, scope: trio.CancelScope) -> None:
        """Wait for one queue in a task of its own."""
        with scope:
            # If the watch was given up before the task ran, the next watcher may be waiting for the socket already,
            # and only one task may.
            await trio.lowlevel.checkpoint_if_cancelled()
            task = trio.lowlevel.current_task()
            if queue.port.fileno() >= 0:
                task.custom_sleep_data = FALLS_ASLEEP
            try:
                await queue.wait_ready()
            except trio.ClosedResourceError:
                pass  # the attempt will tell
            except OSError:
                await trio.sleep(SHORTAGE_PAUSE)
            finally:
                task.custom_sleep_data = None
        if queue.watched is scope:
            queue.watched = None
            queue.drain(SOCKET_ALLOWANCE)

    # -- the task -----------------------------------------------------------------------------------------------------

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        """Serve until told to quit."""
        try:
            with self._scope:
                try:
                    await self._serve()
                except trio.Cancelled as cancelled:
                    if not self._quitting:
                        self._on_cancelled(str(cancelled))
                        with trio.CancelScope(shield=True) as self._shield:
                            await self._serve()
                    raise
        finally:
            if self._pollset is not None:
                self._pollset.close()

    def quit(self) -> None:
        """End the task. Nothing may be watched any more."""
        self._quitting = True
        self._scope.cancel()
        if self._shield is not None:
            self._shield.cancel()

    async def _serve(self) -> None:
        # Three states: somebody has a turn; something is armed, so that the set is waited for; there is nothing to do.
        used = 0
        while True:
            if self._turns:
                # Those that come up meanwhile have theirs in the next round.
                for _ in range(len(self._turns)):
                    if used >= TRIP_ALLOWANCE:
                        await trio.lowlevel.checkpoint()
                        used = 0
                    queue = self._turns.popleft()
                    # What marks the queue says why it is here: it is ready, or it has just blocked and is tried once.
                    watched = queue.watched
                    if watched is self._turns or watched is self._tried:  # or it was stopped
                        queue.watched = None
                        # A drain that leaves the queue blocked calls `watch`, which sets the mark anew.
                        self._draining = True
                        used += queue.drain(SOCKET_ALLOWANCE)
                        self._draining = False
                        if watched is self._tried:
                            self._tries.learn(in_vain=queue.watched is not None)
                if self._turns:
                    # Of queues that are tried again. Whoever is ready has a turn as well, and so have all other tasks.
                    if self._pollset is not None and self._pollset.armed:
                        self._fetch()
                    await trio.lowlevel.checkpoint()
                used = 0
            elif self._pollset is not None and (self._pollset.armed or self._tries.skips):
                try:
                    await trio.lowlevel.wait_readable(self._pollset.fd)
                except OSError:
                    await trio.sleep(SHORTAGE_PAUSE)
                # In the step in which the wait ends, or a cancel that comes now would lose what is reported once.
                self._fetch()
            else:
                await self._doze()

    async def _doze(self) -> None:
        self._dozes = True
        try:
            await self._bed.wait(self._has_work)
        finally:
            self._dozes = False

    def _has_work(self) -> bool:
        return bool(self._turns) or (self._pollset is not None and self._pollset.armed > 0)

    def _fetch(self) -> None:
        assert self._pollset is not None
        for queue in self._pollset.fetch():
            if queue.watched is self._pollset:  # or it was stopped
                queue.watched = self._turns
                self._turns.append(queue)
