"""A small version of the trials in `tests.stress_threads`, so that they are known to work and to find nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests import stress_threads
from tests.stress import Trials


@pytest.mark.parametrize("kind", stress_threads.KINDS)
def test_a_crowd_of_threads(kind: Callable[[Trials], None]) -> None:
    trials = Trials(50 * stress_threads.THREADS)
    kind(trials)
    assert trials.mismatches == []
    assert trials.happened["sends"] == trials.count
    assert trials.happened["threads that left a send pending"] > 0
    assert trials.happened["ended with OPERATION_ABORTED"] > 0
