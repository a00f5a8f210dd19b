"""`ExitPolicy`: what becomes of pending operations when their owner leaves."""

from __future__ import annotations

import enum
import math
from typing import Final

from .._base.checks import require_number


class ExitPolicy(enum.Enum):
    """What happens to pending operations when their initiator is left.

    Whatever the policy, nothing of an initiator is alive after its exit: every operation has ended exactly once, with
    its exact count, or under ADOPT is another initiator's.
    """

    #: Stop them at once: the page's rule.
    ABORT = "abort"
    #: Wait for all of them, as a nursery waits for its tasks. A cancelled scope, and a body that raises, abort them.
    JOIN = "join"
    #: Wait for all of them, at most ``grace`` seconds, behind a shield and however the scope is left; abort the rest.
    DRAIN = "drain"
    #: Stop those of which no byte was accepted. Wait for the others, at most ``grace`` seconds, as DRAIN does.
    FINISH_STARTED = "finish started"
    #: Hand them over to the enclosing initiator, however the scope is left; its policy applies to them from then on.
    ADOPT = "adopt"


#: The policies that give a time of grace.
WITH_GRACE: Final = frozenset({ExitPolicy.DRAIN, ExitPolicy.FINISH_STARTED})


def require_policy(on_exit: ExitPolicy, grace: float | None) -> None:
    """Raise unless ``on_exit`` is a policy, and ``grace`` fits it."""
    if not isinstance(on_exit, ExitPolicy):
        raise TypeError(f"on_exit must be an ExitPolicy, such as ExitPolicy.JOIN, not {on_exit!r}")
    if on_exit in WITH_GRACE:
        if grace is not None:
            require_number("grace", grace)
        if grace is None or not 0 <= grace < math.inf:
            raise ValueError(
                f"grace is {grace}, but {on_exit.name} needs a finite number of seconds from 0 on"
            )
    elif grace is not None:
        raise ValueError(
            f"grace is {grace}, but only DRAIN and FINISH_STARTED have one, not {on_exit.name}"
        )
