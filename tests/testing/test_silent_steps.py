"""The search that leaves out what silent steps cannot change, held to the full one."""

from __future__ import annotations

from functools import partial

import pytest
import trio

from trio_send import ExitPolicy, SocketAsyncEventArgs
from trio_send.testing import Case, Report, World, explore, small_world
from trio_send.testing._explore import Explorer
from trio_send.testing._runner import run_once
from trio_send.testing._tape import Listed, Tape, alternatives


@pytest.fixture
def outcomes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Has an item for each world: all that its rules look at, but for the numbers of moments."""
    found: list[str] = []
    real = World.__aexit__

    async def leave(self: World, *failure: object) -> None:
        await real(self, *failure)  # type: ignore[arg-type]
        record = self._record
        sends = [
            (
                sent.face,
                sent.initiator,
                sent.pending,
                sent.resumed,
                len(sent.told),
                sent.told_as,
                sent.count,
                sent.error,
                sent.is_over,
                sent.was_free,
                sent.stopped is None,
            )
            for sent in record.sends
        ]
        sockets = [([taken.data for taken in s.taken], s.left) for s in record.sockets]
        initiators = [
            (
                initiator.policy,
                initiator.ended and initiator.ended[1],
                initiator.was_raised,
                initiator.cancelled is None,
                initiator.left and initiator.left[1],
                initiator.pending,
            )
            for initiator in record.initiators
        ]
        found.append(repr((sends, sockets, initiators)))

    monkeypatch.setattr(World, "__aexit__", leave)
    return found


def search(sizes: tuple[int, ...], policy: ExitPolicy, *, orders: int, full: bool) -> Report:
    scenario = partial(small_world, sizes=sizes, policy=policy)
    report = explore(scenario, orders=orders, limits={"kernel": 1}, full=full)
    assert report.exhausted
    return report


@pytest.mark.parametrize(
    ("sizes", "policy", "orders"),
    [
        *(((2,), policy, 0) for policy in ExitPolicy),
        ((1, 1), ExitPolicy.JOIN, 0),
        ((1,), ExitPolicy.ABORT, 1),
        ((1,), ExitPolicy.JOIN, 1),
    ],
    ids=str,
)
def test_everything_that_can_come_of_it_comes_of_it(
    sizes: tuple[int, ...], policy: ExitPolicy, orders: int, outcomes: list[str]
) -> None:
    in_full = search(sizes, policy, orders=orders, full=True)
    expected = set(outcomes)
    outcomes.clear()
    reduced = search(sizes, policy, orders=orders, full=False)
    assert set(outcomes) == expected
    assert reduced.runs < in_full.runs * 0.8
    assert in_full.findings == reduced.findings == ()
    assert reduced.never_struck == in_full.never_struck


def test_what_is_wrong_is_found_in_either_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        SocketAsyncEventArgs, "cancel", lambda self, *args, **kwargs: bool(self.pending)
    )
    found = [
        {f.checked for f in search((2,), ExitPolicy.JOIN, orders=0, full=full).findings}
        for full in (True, False)
    ]
    assert found[0] == found[1] != set()


def test_a_run_of_the_smaller_search_is_one_of_the_full_search() -> None:
    """Decisions have the same names in both, so what is found is found again without the search."""
    scenario = partial(small_world, sizes=(2,), policy=ExitPolicy.JOIN)
    explorer = Explorer(scenario, {"kernel": 1, "cancel": 1}, 10_000)
    seen = 0
    lists = [dict[str, int]()]
    while lists and seen < 40:
        choices = lists.pop()
        run, unmet = explorer.run(choices)
        assert unmet == set()
        tape = Tape(Listed(choices), explorer.limits, skips_silent=True)
        again = run_once(scenario, tape, most_steps=10_000)
        assert again.trace == run.trace
        assert {made[1] for made in again.made} <= {made[1] for made in run.made}
        lists += [more for more, _ in alternatives(again.decisions, again.silent)]
        seen += 1
    assert seen == 40


def test_of_another_program_all_is_tried() -> None:
    async def scenario(case: Case) -> None:
        for _ in range(4):
            await trio.lowlevel.checkpoint()

    assert explore(scenario).runs == explore(scenario, full=True).runs > 4
