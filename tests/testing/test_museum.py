"""The explorer finds every bug of the museum, and every rule of the worlds is the only one that finds some of them."""

from __future__ import annotations

import csv
from collections.abc import Iterator

import pytest

from tests.museum import MUSEUM, STRATEGIES, TABLE, Exhibit, search
from tests.planting import Change, Stale, planted
from trio_send._kernel import forks
from trio_send.testing._rules import RULES


@pytest.fixture(autouse=True)
def ledger() -> Iterator[None]:
    """What a bug has left behind does not add up, so nobody looks at it."""
    before = set(forks._told)
    yield
    for thing in set(forks._told) - before:
        forks._told.pop(thing, None)


#: Explorations of an exhibit's own are small enough to be tried in full.
MOST_RUNS = 1500


@pytest.mark.parametrize("exhibit", MUSEUM, ids=lambda exhibit: exhibit.name)
def test_every_bug_is_found(exhibit: Exhibit) -> None:
    with planted(exhibit.changes):
        found = search(exhibit.own, MOST_RUNS, to_the_end=exhibit.broken is not None)
    assert found.broken
    if exhibit.broken is not None:
        assert found.exhausted
        assert found.broken == {exhibit.broken}


@pytest.mark.parametrize(
    "exhibit",
    {str((each.scenario, each.options)): each for each in MUSEUM}.values(),
    ids=lambda exhibit: exhibit.name,
)
def test_nothing_is_found_without_the_bug(exhibit: Exhibit) -> None:
    found = search(exhibit.own, MOST_RUNS, to_the_end=True)
    assert found.broken == set()
    assert found.exhausted


def test_every_rule_alone_finds_some_bug() -> None:
    needed = {exhibit.broken for exhibit in MUSEUM}
    assert {rule.__name__ for rule in RULES} <= needed


# The table ------------------------------------------------------------------------------------


@pytest.mark.skipif(not TABLE.exists(), reason="the documentation is not here")
def test_the_table_has_every_bug_and_each_is_found_by_chance() -> None:
    with TABLE.open(encoding="utf-8", newline="") as file:
        head, *rows = csv.reader(file)
    assert head == ["bug", "once in", *(each.name for each in STRATEGIES), "its own"], "run it anew"
    assert [row[:2] for row in rows] == [[each.name, each.source] for each in MUSEUM], (
        "the museum has changed: python -m tests.museum makes the table anew"
    )
    assert all(row[-1].isdecimal() for row in rows)


#: As loosely as an edit elsewhere may move the run in which something is found.
SOME_TIMES = 5


@pytest.mark.skipif(not TABLE.exists(), reason="the documentation is not here")
@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda strategy: strategy.name)
def test_what_the_table_says_is_about_right(strategy: object) -> None:
    """Of each strategy the bug that it finds in the fewest runs, but not in the first."""
    with TABLE.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    (chosen,) = [each for each in STRATEGIES if each is strategy]
    told = {
        exhibit.name: int(row[chosen.name])
        for exhibit, row in zip(MUSEUM, rows, strict=True)
        if row[chosen.name].isdecimal() and row[chosen.name] != "1"
    }
    name = min(told, key=lambda name: told[name])
    (exhibit,) = [each for each in MUSEUM if each.name == name]
    with planted(exhibit.changes):
        found = search(chosen, SOME_TIMES * told[name] + 50)
    assert found.broken, "python -m tests.museum makes the table anew"


# How bugs are planted -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (Change("_operations.nothing:Queue.stop", "a", "b"), "Queue.stop is not there; so the bug"),
        (Change("_operations.queue:OperationQueue.gone", "a", "b"), "gone is not there"),
        (Change("_operations.queue:BUSY", "a", "b"), "BUSY is no function"),
        (
            Change("_operations.queue:OperationQueue._stop", "no such text", "x"),
            "has 'no such text' 0 times, and not once; .* tests/museum.py",
        ),
        (
            Change("_operations.queue:OperationQueue._stop", "operation", "x"),
            "'operation' .* times",
        ),
    ],
)
def test_code_that_was_changed_is_told_of(change: Change, words: str) -> None:
    with pytest.raises(Stale, match=words), planted([change]):
        pass


def test_the_code_is_as_before_afterwards() -> None:
    from trio_send._operations.queue import OperationQueue

    before = OperationQueue._stop.__code__
    with (
        planted(MUSEUM[0].changes),
        planted([Change("_operations.queue:OperationQueue._stop", "return True", "return 5")]),
    ):
        assert OperationQueue._stop.__code__ is not before
        assert 5 in OperationQueue._stop.__code__.co_consts
    assert OperationQueue._stop.__code__ is before
