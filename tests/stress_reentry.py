"""Code that runs in the middle of every call, and each thing that it may do there; see `tests.reentering`."""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING

from tests.reentered_calls import CALLED, DRIVES, WITH_BUFFERS
from tests.reentering import ACTIONS, Calls, Drive, Finaliser, Handler, Reentry, nothing, run_stage
from tests.stress_strikes import spread

if TYPE_CHECKING:
    from tests.stress import Trials


def strike_at(
    drive: Drive, kind: type[Reentry], *, warm: bool, at_most: int | None, first: int = 0
) -> tuple[int, list[str]]:
    """Strike at a call, with the actions in turn.

    Args:
      drive: makes the call.
      kind: what strikes.
      warm: whether it is a later start on its socket.
      at_most: how often, at instants that are evenly spread; None stands for every action at every instant.
      first: which action is the first.

    Returns:
      How many strikes there were, and what was wrong, a sentence for each.
    """
    actions = list(ACTIONS.values())
    # Once more than it takes to count them, as for Ctrl-C.
    run_stage(drive, nothing, kind(0), warm=warm)
    undisturbed = kind(0)
    complaint = run_stage(drive, nothing, undisturbed, warm=warm)
    if complaint is not None:
        return 0, [f"undisturbed: {complaint}"]
    if at_most is None:
        trials = [(number, act) for number in spread(undisturbed.seen, None) for act in actions]
    else:
        trials = [
            (1 + turn * undisturbed.seen // at_most, actions[(first + 5 * turn) % len(actions)])
            for turn in range(at_most)
        ]
    struck, complaints = 0, []
    for number, act in trials:
        strike = kind(number)
        complaint = run_stage(drive, act, strike, warm=warm)
        struck += strike.struck
        if complaint is not None:
            complaints.append(f"{act.__name__} at {number}, {strike.where}: {complaint}")
    return struck, complaints


def reentry(trials: Trials) -> None:
    """Strike at every call: so many times, with each action in turn."""
    gc.freeze()  # so that to collect at every instant does not take for ever
    rows = [(name, drive, kind) for name, drive in DRIVES.items() for kind in (Handler, Finaliser)]
    own = {**CALLED, **WITH_BUFFERS} if sys.version_info >= (3, 12) else CALLED
    rows += [(name, drive, Calls) for name, drive in own.items()]
    for number, (name, drive, kind) in enumerate(rows):
        for warm in (False, True):
            at_most = None if kind is Calls else trials.count
            struck, complaints = strike_at(drive, kind, warm=warm, at_most=at_most)
            trials.happened["ways to be struck"] += 1
            trials.happened[f"struck by {kind.__name__}"] += struck
            for complaint in complaints:
                trials.check(number, f"{name}, warm={warm}", complaint)
