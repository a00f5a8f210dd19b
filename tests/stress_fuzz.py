"""Trials of sequences of calls, each with random calls on random things; `tests.stress` registers it.

A trial that finds something prints the shortest sequence that finds the like, ready to be run again.
"""

from __future__ import annotations

import logging
import random
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import trio

from tests.fuzz_actions import NAMES, run_sequence
from tests.fuzz_toolbox import FuzzWorld
from tests.fuzz_world import Step

if TYPE_CHECKING:
    from tests.stress import Trials

#: How long a trial may take before it counts as hanging, in seconds.
LONGEST = 20

#: What most of the rest depends on, and how often to do it.
OFTEN = {"send_async": 4, "begin_send": 3, "cut": 3, "resume": 3, "send_rest": 2, "cancel_args": 2}
WEIGHTED = [name for name in NAMES for _ in range(OFTEN.get(name, 1))]


class Hangs(BaseException):
    """A trial takes too long."""


def give_up(*_: object) -> None:
    """Be called for a signal."""
    raise Hangs


def random_sequence(rng: random.Random) -> tuple[bytes, list[Step]]:
    """Draw a sequence; every other one begins inside an initiator."""
    steps = [(rng.choice(WEIGHTED), rng.randbytes(8)) for _ in range(rng.randrange(5, 60))]
    for _ in range(rng.randrange(3)):
        steps.insert(rng.randrange(len(steps)), ("open", rng.randbytes(1)))
    if rng.random() < 0.7:
        steps.insert(0, ("open", rng.randbytes(1)))
    return rng.randbytes(8), steps


def complaint_of(header: bytes, steps: Sequence[Step]) -> tuple[str | None, FuzzWorld | None]:
    """Run a sequence; say what was wrong."""
    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(LONGEST)
    try:
        # Trio shuffles what can run. So that the same sequence does the same again, it has to shuffle alike.
        trio._core._run._r.seed(0)  # type: ignore[attr-defined]
        return None, run_sequence(header, steps)
    except (Exception, Hangs) as error:
        lines = traceback.format_exception(error)
        return "".join([*lines, *(f"  {line}\n" for line in log_of(error))]), None
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def log_of(error: BaseException) -> list[str]:
    log: list[str] = getattr(error, "log", [])
    return log


def reason(complaint: str) -> str:
    """What makes two complaints alike: the kind of the error and the beginning of its sentence."""
    lines = [
        line
        for line in complaint.splitlines()
        if line.lstrip(" |").startswith(("tests.fuzz", "Assert", "Key", "Attr", "Runtime", "trio."))
    ]
    return "".join(character for character in (lines or [""])[-1] if character.isalpha())[:50]


def shortened(header: bytes, steps: list[Step], complaint: str) -> list[Step]:
    """Leave out whatever the complaint does not need."""
    wanted = reason(complaint)
    size = len(steps)
    while size:
        start = 0
        while start < len(steps):
            fewer = steps[:start] + steps[start + size :]
            again, _ = complaint_of(header, fewer)
            if again is not None and reason(again) == wanted:
                steps = fewer
            else:
                start += size
        size //= 2
    return steps


def fuzz(trials: Trials) -> None:
    """Call everything in random order, with right and wrong arguments."""
    with quiet_logs():
        _fuzz(trials)


@contextmanager
def quiet_logs() -> Iterator[None]:
    """Keep what is logged of instruments that raise from being shown."""
    loggers = [logging.getLogger(name) for name in ("trio", "trio_send")]
    levels = [each.level for each in loggers]
    for each in loggers:
        each.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for each, level in zip(loggers, levels, strict=True):
            each.setLevel(level)


def _fuzz(trials: Trials) -> None:
    for number, rng in trials:
        header, steps = random_sequence(rng)
        complaint, world = complaint_of(header, steps)
        trials.happened["steps"] += len(steps)
        if world is not None:
            trials.happened.update(world.happened)
        if complaint is not None:
            if not trials.mismatches:
                short = shortened(header, steps, complaint)
                print(f"run_sequence({header!r}, {short!r})", file=sys.stderr)
                complaint = complaint_of(header, short)[0] or complaint
            trials.check(number, "", complaint)


KINDS = (fuzz,)
