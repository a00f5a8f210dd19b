"""What is private to Trio: that this release still has it, and what is lost without it.

The first test is the one that has to fail when a release of Trio changes something. It is run with every supported one.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator

import pytest
import trio
import trio._core._run as _run

from tests.programs import WorkQueue
from trio_send.testing import Case, _trio_private, explore


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    """Have everything looked for again."""

    def clear() -> None:
        for question in (
            _trio_private.decides_order,
            _trio_private.knows_strikes,
            _trio_private.knows_scopes,
            _trio_private._knows_ends,
            _trio_private._knows_runnable,
            _trio_private.can_host,
        ):
            question.cache_clear()

    clear()
    yield
    clear()


def names_in_order(count: int) -> list[int]:
    order: list[int] = []

    async def step(number: int) -> None:
        order.append(number)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for number in range(count):
                nursery.start_soon(step, number)

    trio.run(main)
    return order


def test_this_release_of_trio_lets_the_explorer_do_everything() -> None:
    assert _trio_private.what_is_lost() == ()
    batches: list[int] = []

    def first_comes_last(batch: list[trio.lowlevel.Task]) -> None:
        batches.append(len(batch))

    with _trio_private.scheduler(first_comes_last):
        assert names_in_order(20) == list(reversed(range(20)))
    assert 20 in batches


def test_what_is_about_to_be_raised_and_which_scope_is_over_can_be_seen() -> None:
    seen: list[tuple[bool, bool]] = []
    scope = trio.CancelScope()
    mine: list[trio.lowlevel.Task] = []

    class Watcher(trio.abc.Instrument):
        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            if task is mine[0]:
                is_told = _trio_private.pending_cancel(task) is not None
                seen.append((is_told, _trio_private.reaches(scope, task)))

    async def main() -> None:
        assert not _trio_private.is_over(scope)
        mine.append(trio.lowlevel.current_task())
        with scope:
            trio.lowlevel.add_instrument(watcher)
            await trio.lowlevel.checkpoint()
            with trio.CancelScope(shield=True):
                await trio.lowlevel.checkpoint()
            scope.cancel()
            assert not _trio_private.is_over(scope)
            await trio.lowlevel.checkpoint()
        assert _trio_private.is_over(scope)
        trio.lowlevel.remove_instrument(watcher)

    watcher = Watcher()
    trio.run(main)
    # An open checkpoint, one behind a shield, and one that yields, then is told.
    assert seen == [(False, True), (False, False), (False, True), (True, True)]


def test_shields_can_be_taken_away() -> None:
    async def main() -> None:
        with trio.CancelScope() as outer:
            with trio.CancelScope(shield=True) as shielded:
                with trio.CancelScope() as inner:
                    outer.cancel()
                    await trio.lowlevel.checkpoint()
                    _trio_private.unshield(trio.lowlevel.current_task())
                    assert not shielded.shield and not inner.shield
                    await trio.lowlevel.checkpoint()
                    raise AssertionError("not cancelled")

    trio.run(main)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_trio_is_as_before_afterwards() -> None:
    kept = _run._r, _run._ALLOW_DETERMINISTIC_SCHEDULING

    class Stop(BaseException): ...

    def stop(batch: list[trio.lowlevel.Task]) -> None:
        raise Stop

    with pytest.raises(trio.TrioInternalError) as caught:
        with _trio_private.scheduler(stop):
            trio.run(trio.sleep, 0)
    assert isinstance(caught.value.__cause__, Stop)
    assert (_run._r, _run._ALLOW_DETERMINISTIC_SCHEDULING) == kept
    # What Trio left behind complains when it is thrown away, so have it do so here.
    del caught
    gc.collect()


def test_a_run_of_trio_in_another_thread_is_left_alone() -> None:
    sizes: list[int] = []
    found: list[list[int]] = []

    def arrange(batch: list[trio.lowlevel.Task]) -> None:
        sizes.append(len(batch))

    with _trio_private.scheduler(arrange):
        thread = threading.Thread(target=lambda: found.append(names_in_order(20)))
        thread.start()
        thread.join()
    assert sizes == []
    assert sorted(found[0]) == list(range(20))


def test_two_threads_explore_in_turn() -> None:
    async def scenario(case: Case) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(trio.sleep, 1)

    expected = explore(scenario, orders=1)
    reports: list[object] = []
    threads = [
        threading.Thread(target=lambda: reports.append(explore(scenario, orders=1)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert reports == [expected, expected]


# Without it -----------------------------------------------------------------------------------


async def takes_one(case: Case) -> None:
    queue = WorkQueue()
    queue.put("item")
    got: list[str] = []
    case.finally_(lambda: case.check(len(got) + len(queue.items) == 1, "an item is lost"))
    got.append(await queue.get())


def test_cancels_need_nothing_private(monkeypatch: pytest.MonkeyPatch) -> None:
    with_all = explore(takes_one)
    monkeypatch.setattr(_trio_private, "_fields", lambda cls: set())
    monkeypatch.delattr(_run, "_r")
    forget_all()
    monkeypatch.undo()
    # What was looked for and not found stays not found.
    report = explore(takes_one)
    assert len(report.lost) == 5
    assert all(sentence in str(report) for sentence in report.lost)
    assert report.exhausted
    assert (report.runs, report.broken_runs) == (with_all.runs, with_all.broken_runs)
    assert {finding.sentence for finding in report.findings} == {"an item is lost"}
    # Where tasks stood is not always where they were struck.
    assert "_write_log" in {finding.struck[0].function for finding in report.findings}


def forget_all() -> None:
    _trio_private.decides_order.cache_clear()
    _trio_private.knows_strikes.cache_clear()
    _trio_private.knows_scopes.cache_clear()
    _trio_private._knows_ends.cache_clear()
    _trio_private._knows_runnable.cache_clear()
    _trio_private.can_host.cache_clear()
    assert not _trio_private.decides_order()
    assert not _trio_private.knows_strikes()
    assert not _trio_private.knows_scopes()
    assert not _trio_private._knows_ends()
    assert not _trio_private._knows_runnable()
    assert not _trio_private.can_host()


def test_a_program_that_waits_for_ever_still_ends() -> None:
    async def scenario(case: Case) -> None:
        await trio.Event().wait()

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(_trio_private, "_fields", lambda cls: set())
        monkeypatch.delattr(_run, "_r")
        forget_all()
    (finding,) = explore(scenario).findings
    assert finding.sentence.startswith("the program waits for ever")
