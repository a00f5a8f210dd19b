"""The states of an operation, and which may follow which.

What each means for the queue the operation stands in::

    IDLE       in no queue. Never started, or ended and told; may be started
    TRYING     in no queue: a start is under way, and its first attempt may be made at this moment
    HALTED     the same, and what ran in the middle of it has stopped the operation
    POSTED     in no queue yet: started by another thread, or in the middle of a step of the queue; on its way
    ARRIVED    in no queue yet: started by another thread, and the start is about to be made here
    QUEUED     in one queue, at its head (then some bytes may be accepted already) or behind it (then none)
    DONE       in no queue: all accepted, the owner has yet to be told
    FAILED     in no queue: an error, the owner has yet to be told
    ABORTED    in no queue: stopped, the owner has yet to be told
    CUT        in no queue: told, but its message stands half sent on a torn stream; may only be resumed

"Sending" is not among them. An attempt and its accounting are one synchronous step, protected against
KeyboardInterrupt, and what is asked for in the middle of it (by a finaliser, a signal handler, a buffer's or a port's
own code) is noted and done at its end: that is why completion always wins over a cancel that comes at the same time.
"""

from __future__ import annotations

import enum
from typing import Final


class State(enum.IntEnum):
    """Where an activation stands; the table of the module's docstring."""

    IDLE = 0
    TRYING = 1
    HALTED = 2
    POSTED = 3
    ARRIVED = 4
    QUEUED = 5
    DONE = 6
    FAILED = 7
    ABORTED = 8
    CUT = 9


# Looking a member up costs more than all of a transition, so the code compares plain numbers.
IDLE: Final = int(State.IDLE)
TRYING: Final = int(State.TRYING)
HALTED: Final = int(State.HALTED)
POSTED: Final = int(State.POSTED)
ARRIVED: Final = int(State.ARRIVED)
QUEUED: Final = int(State.QUEUED)
DONE: Final = int(State.DONE)
FAILED: Final = int(State.FAILED)
ABORTED: Final = int(State.ABORTED)
CUT: Final = int(State.CUT)

#: Which states may follow which. DONE and FAILED follow TRYING only for an operation that ended in its first attempt
#: and whose caller is told later all the same: for a callback, or because it has run too long without yielding. CUT
#: follows TRYING when a first attempt of several system calls fails after the first of them, and when a start that was
#: to resume the message is refused. POSTED goes back to what it was when the run of Trio has ended and nobody takes the
#: post in. FAILED follows ARRIVED when the start is refused that another thread believes to be pending. From IDLE and
#: CUT, args whose end is told go back to DONE and FAILED until an asynchronous handler takes its first step.
TRANSITIONS: Final[dict[State, frozenset[State]]] = {
    State.IDLE: frozenset({State.TRYING, State.DONE, State.FAILED}),
    State.TRYING: frozenset(
        {
            State.IDLE,
            State.HALTED,
            State.POSTED,
            State.QUEUED,
            State.DONE,
            State.FAILED,
            State.CUT,
        }
    ),
    State.HALTED: frozenset({State.IDLE, State.QUEUED, State.DONE, State.FAILED, State.CUT}),
    State.POSTED: frozenset(
        {State.QUEUED, State.ARRIVED, State.DONE, State.FAILED, State.IDLE, State.CUT}
    ),
    State.ARRIVED: frozenset({State.TRYING, State.FAILED}),
    State.QUEUED: frozenset({State.DONE, State.FAILED, State.ABORTED}),
    State.DONE: frozenset({State.IDLE}),
    State.FAILED: frozenset({State.IDLE, State.CUT}),
    State.ABORTED: frozenset({State.IDLE, State.CUT}),
    State.CUT: frozenset({State.IDLE, State.TRYING, State.DONE, State.FAILED}),
}

#: The same by plain numbers.
ALLOWED: Final = tuple(frozenset(map(int, TRANSITIONS[state])) for state in State)

#: From which an operation may be started.
FREE: Final = frozenset({IDLE, CUT, ARRIVED})
