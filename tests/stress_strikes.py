"""Ctrl-C at the instants of every public call, in turn; see `tests.striking` for what an instant is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.public_calls import CALLS, Call
from tests.striking import Strike, run_scene
from tests.striking_threads import THREAD_CALLS, ThreadCall, run_thread_scene

if TYPE_CHECKING:
    from tests.stress import Trials


def spread(seen: int, at_most: int | None) -> range:
    """The numbers of so many instants, evenly spread."""
    step = 1 if at_most is None else max(1, -(-seen // at_most))
    return range(1, seen + 1, step)


def instants_of(
    call: Call, *, warm: bool, everywhere: bool = False, at_most: int | None = None
) -> tuple[int, list[str]]:
    """Strike at the instants of a call, one after the other.

    Returns:
      How many strikes there were, and what was wrong, a sentence for each.
    """
    # Once more than it takes to count them: 3.13 tells of a function's instructions only when it was asked for them in
    # an earlier call.
    run_scene(call.drive, Strike(0), warm=warm)
    undisturbed = Strike(0, everywhere=everywhere)
    complaint = run_scene(call.drive, undisturbed, warm=warm)
    if complaint is not None:
        return 0, [f"undisturbed: {complaint}"]
    struck, complaints = 0, []
    for number in spread(undisturbed.seen, at_most):
        strike = Strike(number, everywhere=everywhere)
        complaint = run_scene(call.drive, strike, warm=warm)
        struck += strike.struck
        if complaint is not None:
            complaints.append(f"{strike.where or 'too late'}: {complaint}")
    return struck, complaints


def thread_instants_of(
    call: ThreadCall, *, at_most: int | None = None, stop_at: int | None = None
) -> tuple[int, list[str]]:
    """The same for a call from a thread that runs no Trio.

    Args:
      call: the call.
      at_most: at how many instants to strike.
      stop_at: after how many complaints to stop.
    """
    run_thread_scene(call, Strike(0))  # as above
    undisturbed = Strike(0)
    complaint = run_thread_scene(call, undisturbed)
    if complaint is not None:
        return 0, [f"undisturbed: {complaint}"]
    struck, complaints = 0, []
    for number in spread(undisturbed.seen, at_most):
        strike = Strike(number)
        complaint = run_thread_scene(call, strike)
        struck += strike.struck
        if complaint is not None:
            complaints.append(f"{strike.where or 'too late'}: {complaint}")
            if len(complaints) == stop_at:
                break
    return struck, complaints


def strikes(trials: Trials) -> None:
    """Press Ctrl-C at the instants of every public call: so many of each, and evenly spread."""
    for call in CALLS:
        for warm in (False, True):
            struck, complaints = instants_of(call, warm=warm, everywhere=True, at_most=trials.count)
            trials.happened["ways to call"] += 1
            trials.happened["struck"] += struck
            for complaint in complaints:
                trials.check(trials.happened["ways to call"], f"{call}, warm={warm}", complaint)
    for thread_call in THREAD_CALLS:
        struck, complaints = thread_instants_of(thread_call, at_most=trials.count)
        trials.happened["ways to call where no Trio runs"] += 1
        trials.happened["struck where no Trio runs"] += struck
        for complaint in complaints:
            trials.check(0, str(thread_call), complaint)
    trials.happened["public calls"] = len({call.name for call in (*CALLS, *THREAD_CALLS)})
