"""Small versions of the trials in `tests.stress_scale`, so that they are known to work and to find nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from tests import stress_scale
from tests.stress import Trials

#: How many trials there are of each kind here, and what must have happened in them, or nothing was tried.
SMALL: dict[Callable[[Trials], None], tuple[int, tuple[str, ...]]] = {
    stress_scale.audit: (300, ("cut", "resumed")),
    stress_scale.sigkill: (60, ("some bytes",)),
    stress_scale.many: (200, ("connections", "bytes counted")),
    stress_scale.leaks: (200, ()),
    stress_scale.single_cancels: (800, ()),
    stress_scale.chain: (20_000, ()),
}


def test_all_kinds_are_tried() -> None:
    assert set(SMALL) == set(stress_scale.KINDS)


@pytest.mark.skipif(
    sys.platform != "linux", reason="the referee, and some of the signals, are Linux's"
)
@pytest.mark.parametrize("kind", stress_scale.KINDS, ids=lambda kind: kind.__name__)
def test_nothing_is_found(kind: Callable[[Trials], None]) -> None:
    count, must_have_happened = SMALL[kind]
    trials = Trials(count)
    kind(trials)
    assert trials.mismatches == []
    for what in must_have_happened:
        assert trials.happened[what] > 0
