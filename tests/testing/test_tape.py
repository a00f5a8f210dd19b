"""The tape: named decisions, limits, and the lists that a search follows."""

from __future__ import annotations

import pytest

from trio_send.testing._tape import (
    Decision,
    Listed,
    Seeded,
    Tape,
    alternatives,
    check_limits,
    choices_of,
)


class always:
    """Decides the same each time."""

    def __init__(self, choice: int) -> None:
        self.choice = choice

    def passes(self, kind: str, count: int) -> int:
        return 0

    def __call__(self, key: str, kind: str, options: int) -> int:
        return self.choice


def test_what_is_asked_twice_gets_two_names() -> None:
    tape = Tape(always(1), {})
    assert [tape.choose("plan", "size", 3) for _ in range(2)] == [1, 1]
    assert tape.choose("kernel", "size", 3) == 1
    assert [decision.key for decision in tape.decisions] == [
        "plan size",
        "plan size (2)",
        "kernel size",
    ]


def test_nothing_is_asked_where_there_is_nothing_to_decide() -> None:
    tape = Tape(always(1), {})
    assert tape.choose("plan", "size", 1) == 0
    assert tape.decisions == ()


def test_a_kind_that_is_spent_is_not_asked_any_more() -> None:
    tape = Tape(always(1), {"cancel": 2})
    assert [tape.choose("cancel", str(i), 2) for i in range(4)] == [1, 1, 0, 0]
    assert len(tape.decisions) == 2
    assert tape.is_spent("cancel")
    assert tape.choose("plan", "size", 2) == 1


def test_only_decisions_other_than_0_are_counted() -> None:
    tape = Tape(Listed({"cancel 2": 1}), {"cancel": 1})
    assert [tape.choose("cancel", str(i), 2) for i in range(4)] == [0, 0, 1, 0]
    assert len(tape.decisions) == 3


def test_a_list_knows_what_has_not_come_up() -> None:
    source = Listed({"plan a": 1, "plan b": 1, "plan c": 5})
    assert source("plan a", "plan", 2) == 1
    assert source("plan c", "plan", 3) == 0
    assert source("plan d", "plan", 3) == 0
    assert source.unmet == {"plan b", "plan c"}


def test_a_search_meets_every_combination_once() -> None:
    sizes = {"a": 2, "b": 3, "c": 2}
    seen = []
    lists = [dict[str, int]()]
    while lists:
        tape = Tape(Listed(lists.pop()), {})
        for name, size in sizes.items():
            tape.choose("plan", name, size)
        seen.append(tuple(decision.choice for decision in tape.decisions))
        for choices, shared in alternatives(tape.decisions):
            assert all(decision.choice == 0 for decision in tape.decisions[shared:])
            lists.append(choices)
    assert len(seen) == len(set(seen)) == 2 * 3 * 2


def test_late_decisions_are_changed_first() -> None:
    decisions = [Decision("plan", name, 0, 2) for name in "abc"]
    assert [list(choices) for choices, _ in alternatives(decisions)] == [
        ["plan c"],
        ["plan b"],
        ["plan a"],
    ]


def test_a_run_is_told_by_what_is_not_0() -> None:
    decisions = [Decision("plan", "a", 0, 2), Decision("kernel", "b", 2, 3)]
    assert choices_of(decisions) == {"kernel b": 2}


def test_a_seed_decides_the_same_each_time() -> None:
    def decide(seed: int) -> list[int]:
        tape = Tape(Seeded(seed, {"cancel": 100}), {})
        return [tape.choose(kind, "x", 5) for kind in ("plan", "cancel") * 20]

    assert decide(1) == decide(1) != decide(2)


def test_the_same_numbers_in_every_version() -> None:
    tape = Tape(Seeded(7, {"cancel": 1}), {})
    assert [tape.choose("plan", "x", 10) for _ in range(10)] == [6, 0, 5, 3, 0, 5, 0, 4, 0, 0]
    tape = Tape(Seeded(7, {"cancel": 1}), {})
    cancels = [tape.choose("cancel", "x", 3) for _ in range(36)]
    assert {i: choice for i, choice in enumerate(cancels) if choice} == {
        1: 1,
        14: 1,
        23: 2,
        24: 1,
        25: 1,
        26: 2,
        33: 1,
        35: 2,
    }


def test_what_passes_need_not_be_asked_for() -> None:
    def decide(at_once: int) -> dict[int, int]:
        tape = Tape(Seeded(7, {"cancel": 3}), {"cancel": 3})
        met = {}
        i = 0
        while i < 100:
            passed = tape.passes("cancel", at_once)
            i += passed
            if passed < at_once:
                met[i] = tape.choose("cancel", str(i), 3)
                i += 1
        assert [made[1] for made in tape.made] == ["1", "14", "23"]
        return met

    assert decide(1) == decide(4) == decide(100) == {1: 1, 14: 1, 23: 2}
    assert Tape(Listed({}), {"cancel": 1}).passes("cancel", 5) == 0
    assert Tape(Listed({}), {"cancel": 0}).passes("cancel", 5) == 5


def test_what_has_no_limit_is_even() -> None:
    tape = Tape(Seeded(3, {"cancel": 1}), {})
    plans = [tape.choose("plan", "x", 4) for _ in range(10_000)]
    assert all(2_200 < plans.count(choice) < 2_800 for choice in range(4))


def test_what_has_a_limit_comes_early_for_some_seeds_and_late_for_others() -> None:
    first = []
    for seed in range(400):
        tape = Tape(Seeded(seed, {"cancel": 1}), {"cancel": 1})
        while not tape.choose("cancel", "x", 2):
            pass
        first.append(len(tape.decisions))
    for least, most in ((1, 3), (4, 15), (16, 60), (61, 240), (241, 10_000)):
        assert sum(least <= number <= most for number in first) > 30


def test_limits_are_checked() -> None:
    assert check_limits({"plan": None, "cancel": 0}) == {"cancel": 0}
    with pytest.raises(TypeError, match="'cancel' must be a whole number or None, not '1'"):
        check_limits({"cancel": "1"})
    with pytest.raises(ValueError, match="'cancel' is -1"):
        check_limits({"cancel": -1})
