"""Hold tries in vain to becoming seldom, and one that is of use to beginning anew."""

from __future__ import annotations

from trio_send._base.tries import MAX_SKIPS, Tries


def test_nothing_is_left_out_at_first() -> None:
    assert Tries().skips == 0


def test_each_try_in_vain_has_more_left_out_up_to_the_most() -> None:
    tries = Tries()
    skips = []
    for _ in range(6):
        tries.learn(in_vain=True)
        skips.append(tries.skips)
    assert skips == [1, 3, 7, 15, 15, 15]
    assert MAX_SKIPS == 15


def test_a_try_that_is_of_use_forgets_those_in_vain() -> None:
    tries = Tries()
    for _ in range(3):
        tries.learn(in_vain=True)
    tries.learn(in_vain=False)
    assert tries.skips == 0
    tries.learn(in_vain=True)
    assert tries.skips == 1


def test_what_was_left_out_since_changes_nothing_about_what_was_learnt() -> None:
    tries = Tries()
    tries.learn(in_vain=True)
    tries.learn(in_vain=True)
    tries.skips -= 2
    tries.learn(in_vain=True)
    assert tries.skips == 7
