"""The limits of one operation, where it ends at the very moment at which they strike.

How long they are, and what becomes of an operation then, is held to in `tests/owners/test_timers.py`.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio

from tests.scripted import RecordingOwner, SpyPort, start
from trio_send._base.error_numbers import OPERATION_ABORTED, TIMED_OUT
from trio_send._messages.buffers import WholeBytes
from trio_send._operations.operation import Operation
from trio_send._operations.send_calls import PLAIN_FLAGS
from trio_send._operations.send_queue import SendQueue
from trio_send._operations.states import QUEUED
from trio_send.testing import Blocked


class StrikingClock(trio.abc.Clock):
    """A clock that stands still, and does something once when it is asked for the time.

    Attributes:
      action: what to do.
    """

    def __init__(self) -> None:
        self.action: Callable[[], object] | None = None

    def start_clock(self) -> None: ...

    def current_time(self) -> float:
        action, self.action = self.action, None
        if action is not None:
            action()
        return 0.0

    def deadline_to_sleep_time(self, deadline: float) -> float:
        return deadline


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize(("timeout", "stall_timeout"), [(0, 5), (5, 0)])
def test_what_ends_at_the_moment_at_which_its_limit_strikes_keeps_its_end(
    timeout: float, stall_timeout: float, restarts: bool
) -> None:
    """And if it has begun anew by then, the limit of the old activation does not stop the new one."""
    clock, owner = StrikingClock(), RecordingOwner()
    queue = SendQueue(SpyPort([Blocked()]), refuse_torn=True)
    operation = Operation()
    operation.message = WholeBytes(b"message")
    operation.flags = PLAIN_FLAGS
    operation.limits = timeout, stall_timeout

    def strike() -> None:
        assert queue.request_stop(operation, OPERATION_ABORTED, "struck")
        if restarts:
            owner.tell()
            assert start(queue, operation, owner)

    async def main() -> None:
        assert start(queue, operation, owner)
        limit = operation.limit
        assert limit is not None
        assert limit.due() == 0
        clock.action = strike
        limit.fire()
        assert not limit.is_live()
        if restarts:
            assert (operation.state, operation.activation) == (QUEUED, 2)
            assert owner.endings == []
        else:
            assert owner.endings == [operation]
            assert (operation.code, operation.detail) == (OPERATION_ABORTED, "struck")
        # Where nothing strikes, it stops what it is about.
        if restarts:
            assert operation.limit is not None
            operation.limit.fire()
            assert owner.endings == [operation]
            assert operation.code == TIMED_OUT

    trio.run(main, clock=clock)
