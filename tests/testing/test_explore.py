"""`explore`: what is run, what is found, what is counted.

Modules: testing._case, testing._hangs, testing._report, testing._watcher.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import trio

import trio_send
from tests.programs import WorkQueue, line_of
from trio_send.testing import Case, Place, World, _hangs, explore, replay, shrink


async def three_steps(case: Case) -> None:
    """A first step, and one behind each of two checkpoints."""
    await trio.lowlevel.checkpoint()
    await trio.lowlevel.checkpoint()


async def takes_one(case: Case) -> None:
    queue = WorkQueue()
    queue.put("item")
    got: list[str] = []
    case.finally_(lambda: case.check(len(got) + len(queue.items) == 1, f"lost, got {got}"))
    got.append(await queue.get())


# What is run ----------------------------------------------------------------------------------


def test_one_run_is_left_alone_and_one_is_cancelled_at_each_step() -> None:
    report = explore(three_steps)
    assert report.runs == 4
    assert report.exhausted
    assert report.findings == ()
    assert report.lost == ()


def test_two_cancels_of_two_things() -> None:
    async def scenario(case: Case) -> None:
        with case.cancellable(trio.CancelScope()):
            await trio.lowlevel.checkpoint()
        await trio.lowlevel.checkpoint()

    # The whole before each of 3 steps, the scope before the second: it is not there before the first, and over before
    # the third.
    assert explore(scenario).runs == 1 + 3 + 1
    # A cancelled checkpoint takes a step more, in which the scope is still there: the scope at two steps after the
    # whole, the whole at two steps after the scope, and the scope at the same step as the whole or the one behind it.
    assert explore(scenario, cancels=2).runs == 1 + 3 + 1 + 2 + 2 + 2


def test_what_waits_alone_is_cancelled_as_well() -> None:
    times = set()

    async def scenario(case: Case) -> None:
        try:
            await trio.sleep(2)
            await trio.sleep(2)
        except trio.Cancelled:
            times.add(trio.current_time())
            raise

    # Before the first step, in the first pause, before the second step, in the second pause. When the second sleep is
    # over, it is too late; but its own end is not caught any more.
    assert explore(scenario).runs == 1 + 3 + 2
    assert times == {0, 2, 4}


def test_every_choice_is_made() -> None:
    made = []

    async def scenario(case: Case) -> None:
        made.append((case.choose(2, "first"), case.choose(3)))

    report = explore(scenario, cancels=0)
    assert sorted(made) == [(a, b) for a in range(2) for b in range(3)]
    assert report.plans == 6


def test_choices_of_the_kernel_have_a_limit_of_their_own() -> None:
    made = []

    async def scenario(case: Case) -> None:
        made.append(tuple(case.choose(2, kind="kernel") for _ in range(3)))

    explore(scenario, cancels=0, limits={"kernel": 1})
    assert sorted(made) == [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0)]


def test_every_order_of_three_tasks_is_tried() -> None:
    seen = []

    async def scenario(case: Case) -> None:
        order: list[int] = []

        async def step(number: int) -> None:
            order.append(number)

        async with trio.open_nursery() as nursery:
            for number in range(3):
                nursery.start_soon(step, number)
        seen.append(tuple(order))

    explore(scenario, cancels=0)
    assert seen == [(0, 1, 2)]
    seen.clear()
    explore(scenario, cancels=0, orders=1)
    assert sorted(seen) == [(0, 1, 2), (0, 2, 1), (1, 0, 2), (2, 0, 1)]
    seen.clear()
    assert explore(scenario, cancels=0, orders=2).exhausted
    assert len(seen) == len(set(seen)) == 6


def test_time_is_virtual() -> None:
    async def scenario(case: Case) -> None:
        await trio.sleep(1e4)
        case.check(trio.current_time() == 1e4, "time has not passed")

    assert explore(scenario).findings == ()


def test_whoever_waits_for_all_others_is_woken() -> None:
    async def scenario(case: Case) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            await trio.testing.wait_all_tasks_blocked()
            await trio.testing.wait_all_tasks_blocked(0.01)
            nursery.cancel_scope.cancel()

    assert explore(scenario).findings == ()


def test_a_capped_search_says_so() -> None:
    async def scenario(case: Case) -> None:
        for _ in range(case.choose(3) + 1):
            await trio.lowlevel.checkpoint()

    full = explore(scenario)
    assert (full.runs, full.plans, full.exhausted) == (1 + 2 + 1 + 3 + 1 + 4, 3, True)
    capped = explore(scenario, most_runs=5)
    assert (capped.runs, capped.exhausted) == (5, False)
    assert "5 runs of 2 plans, 4 of them different, not exhausted" in str(capped)


# What is found --------------------------------------------------------------------------------


def test_a_finding_names_the_place() -> None:
    report = explore(takes_one)
    (finding,) = report.findings
    place = Place(
        "_write_log", line_of(WorkQueue._write_log, "checkpoint"), "programs.py", "checkpoint"
    )
    assert finding.struck == (place,)
    assert finding.sentence == "lost, got []"
    assert finding.checked is not None
    assert finding.checked.file == "test_explore.py"
    # Before the third step, in which it is about to write, or before the second, after which it comes to that.
    assert finding.asked == ("takes_one before step 3 of takes_one",)
    assert finding.choices == {"cancel takes_one before step 3 of takes_one": 1}
    assert (finding.runs, finding.of_runs) == (2, report.runs)


def test_places_are_counted() -> None:
    async def scenario(case: Case) -> None:
        with trio.CancelScope(shield=True):
            await trio.lowlevel.checkpoint()  # shielded
        await trio.lowlevel.checkpoint()  # open

    report = explore(scenario)
    shielded, opened = report.places
    assert shielded.place.line == line_of(scenario, "# shielded")
    assert opened.place.line == line_of(scenario, "# open")
    assert (shielded.visited, shielded.struck) == (4, 0)
    # A cancel before the first step or in the shield is noticed behind it as well.
    assert (opened.visited, opened.struck, opened.broken) == (4, 3, 0)
    assert report.never_struck == (shielded.place,)


def test_a_deadline_of_the_program_strikes_nothing() -> None:
    async def scenario(case: Case) -> None:
        async def other() -> None:
            with case.cancellable(trio.CancelScope()):
                await trio.sleep(1)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(other)
            for _ in range(3):
                await trio.sleep(1)  # main

    # The sleeps end with a cancel of their own, also after the scope was cancelled.
    report = explore(scenario, only={"cancel scope before step 2 of other": 1})
    struck = {count.place.line: count.struck for count in report.places}
    assert struck[line_of(scenario, "# main")] == 0


def test_what_a_function_cancels_is_struck_as_well() -> None:
    async def scenario(case: Case) -> None:
        with trio.CancelScope() as scope:
            case.cancellable(lambda: scope.cancel(), "the function")
            await trio.sleep(1)  # here

    report = explore(scenario, only={"cancel the function in pause 1, when all tasks wait": 1})
    (count,) = report.places
    assert count.place.line == line_of(scenario, "# here")
    assert count.struck == 1


def test_an_exception_is_a_finding() -> None:
    async def scenario(case: Case) -> None:
        try:
            await trio.lowlevel.checkpoint()
        except trio.Cancelled:
            raise ValueError("not prepared for this") from None  # here

    report = explore(scenario)
    (finding,) = report.findings
    assert finding.sentence == "ValueError: not prepared for this"
    assert finding.checked is not None
    assert finding.checked.line == line_of(scenario, "# here")


def test_each_exception_of_a_group_is_a_finding() -> None:
    async def fail(error: Exception) -> None:
        raise error

    async def scenario(case: Case) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail, KeyError("a"))
            nursery.start_soon(fail, AssertionError("b does not hold"))

    report = explore(scenario, only={})
    # Both leave by the same line; the first stands for it.
    assert [finding.sentence for finding in report.findings] == ["KeyError: 'a'"]
    assert replay(scenario, report.findings[0]).sentences == ("KeyError: 'a'", "b does not hold")


def test_what_the_last_look_raises_is_a_finding() -> None:
    async def scenario(case: Case) -> None:
        looked: list[int] = []
        case.finally_(lambda: looked.append(1))

        @case.finally_
        def look() -> None:
            assert looked == [2], "looked in order"

    (finding,) = explore(scenario, only={}).findings
    assert finding.sentence.startswith("looked in order")


def test_what_is_no_error_leaves() -> None:
    for error in (KeyboardInterrupt, SystemExit):

        async def scenario(case: Case, error: type[BaseException] = error) -> None:
            raise error

        with pytest.raises(error):
            explore(scenario)
    assert explore(three_steps).exhausted


def test_two_mistakes_are_two_findings() -> None:
    async def scenario(case: Case) -> None:
        for name in ("first", "second"):
            try:
                await trio.lowlevel.checkpoint()
            except trio.Cancelled:
                case.check(name != "first", "cancelled in the first")
                case.check(name != "second", "cancelled in the second")
                raise

    report = explore(scenario)
    assert {finding.sentence for finding in report.findings} == {
        "cancelled in the first",
        "cancelled in the second",
    }
    assert report.broken_runs == 3


# What does not end ----------------------------------------------------------------------------


def test_a_program_that_waits_for_ever_is_a_finding() -> None:
    async def scenario(case: Case) -> None:
        await trio.Event().wait()

    report = explore(scenario)
    (finding,) = report.findings
    assert finding.sentence.startswith("the program waits for ever")
    assert f"scenario at scenario:{line_of(scenario, 'Event')}" in finding.details
    assert (finding.runs, report.runs) == (1, 3)


def test_it_is_one_behind_a_shield_as_well() -> None:
    ended: list[int] = []

    async def scenario(case: Case) -> None:
        with trio.CancelScope(shield=True):
            try:
                await trio.sleep_forever()
            finally:
                ended.append(1)

    report = explore(scenario)
    assert report.broken_runs == report.runs == len(ended) == 3
    assert report.exhausted


@pytest.mark.parametrize("shield", [False, True])
@pytest.mark.parametrize("tidies", [False, True])
def test_a_program_that_does_not_end_is_a_finding(shield: bool, tidies: bool) -> None:
    ended: list[int] = []

    async def scenario(case: Case) -> None:
        async def go_on() -> None:
            while True:
                with trio.CancelScope(shield=shield):
                    await trio.lowlevel.checkpoint()

        try:
            try:
                await go_on()
            finally:
                if tidies:
                    await go_on()
        finally:
            ended.append(1)

    report = explore(scenario, most_steps=50)
    assert ended == [1]
    (finding,) = report.findings
    assert finding.sentence == "the program does not end: it takes more than 50 steps"
    assert "scenario at go_on" in finding.details
    # There is no end of what could be decided in it.
    assert (report.runs, report.exhausted) == (1, False)


def test_a_program_that_does_not_end_after_a_cancel_is_a_finding() -> None:
    async def scenario(case: Case) -> None:
        try:
            await trio.lowlevel.checkpoint()
        except trio.Cancelled:
            while True:
                with trio.CancelScope(shield=True):
                    await trio.lowlevel.checkpoint()

    # The second cancel finds no end of steps to come before.
    report = explore(scenario, cancels=2, most_steps=50)
    assert (report.runs, report.broken_runs, report.exhausted) == (3, 2, False)
    assert {finding.sentence for finding in report.findings} == {
        "the program does not end: it takes more than 50 steps"
    }


@pytest.mark.filterwarnings("error")
def test_a_program_that_swallows_every_cancel_is_a_finding() -> None:
    async def scenario(case: Case) -> None:
        while True:
            try:
                await trio.sleep(1)
            except BaseException:
                pass

    report = explore(scenario, most_steps=50)
    (finding,) = report.findings
    assert finding.sentence == "the program does not end: it takes more than 50 steps"
    assert explore(three_steps).exhausted


def test_a_thread_may_still_wake_a_program() -> None:
    async def scenario(case: Case) -> None:
        await trio.to_thread.run_sync(time.sleep, 0.05)

    assert explore(scenario, only={}).findings == ()


# Whether it can be trusted --------------------------------------------------------------------


def test_a_program_that_something_else_decides_is_said_to_be_one() -> None:
    times = 0

    async def scenario(case: Case) -> None:
        nonlocal times
        times += 1
        case.choose(2, f"choice {times}")

    report = explore(scenario, cancels=0)
    assert not report.exhausted
    (sentence,) = report.unrepeatable
    assert sentence == "'plan choice 1' was to be decided, but what came up was 'plan choice 2'"
    assert sentence in str(report)


def test_a_run_that_is_over_too_early_is_said_to_be_one() -> None:
    times = 0

    async def scenario(case: Case) -> None:
        nonlocal times
        times += 1
        if times == 1:
            case.choose(2)

    (sentence,) = explore(scenario, cancels=0).unrepeatable
    assert sentence == "'plan choice' was to be decided, but the run was over"


def test_a_single_run_is_repeated_and_compared() -> None:
    times = 0

    async def scenario(case: Case) -> None:
        nonlocal times
        times += 1
        for _ in range(times):
            await trio.lowlevel.checkpoint()

    assert explore(scenario, only={}).unrepeatable == (
        "two runs with the same decisions were not the same",
    )
    assert explore(three_steps, only={}).unrepeatable == ()


def test_a_single_run_has_no_limits() -> None:
    async def scenario(case: Case) -> None:
        for _ in range(2):
            with case.cancellable(trio.CancelScope()) as scope:
                await trio.lowlevel.checkpoint()
            case.check(not scope.cancel_called, "cancelled")

    two = {
        "cancel scope before step 2 of scenario": 1,
        "cancel scope 2 before step 4 of scenario": 1,
    }
    report = explore(scenario, only=two)
    assert report.findings[0].choices == two
    assert len(report.findings[0].asked) == 2


def test_decisions_that_do_not_come_up_are_refused() -> None:
    with pytest.raises(ValueError, match="only has 'cancel x before step 9 of y', which did not"):
        explore(three_steps, only={"cancel x before step 9 of y": 1})


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: explore(three_steps, cancels=-1), ValueError, "'cancel' is -1"),
        (lambda: explore(three_steps, limits={"order": 1}), ValueError, "limits has 'order'"),
        (lambda: explore(three_steps, seeds=[1], only={}), ValueError, "seeds and only"),
        (lambda: explore(three_steps, executor=ThreadPoolExecutor()), ValueError, "executor runs"),
        (lambda: trio.run(as_async(lambda: explore(three_steps))), RuntimeError, "inside Trio"),
    ],
)
def test_bad_input_is_refused(
    call: Callable[[], object], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        call()


def as_async(function: Callable[[], object]) -> Callable[[], Awaitable[object]]:
    async def call() -> object:
        return function()

    return call


async def asks_badly(case: Case) -> None:
    for call, error in (
        (lambda: case.choose(0), ValueError),
        (lambda: case.choose(1.5), TypeError),
        (lambda: case.choose(2, kind="cancel"), ValueError),
        (lambda: case.finally_(3), TypeError),
        (lambda: case.cancellable(3), TypeError),
    ):
        with pytest.raises(error):
            call()


def test_bad_input_to_a_case_is_refused() -> None:
    report = explore(asks_badly, only={})
    assert report.findings == ()
    assert report.runs == 1


# By chance, again, and smaller ----------------------------------------------------------------


def test_seeds_find_it_too() -> None:
    report = explore(takes_one, seeds=range(50))
    assert report.runs == 50
    assert not report.exhausted
    (finding,) = report.findings
    assert finding.struck[0].function == "_write_log"
    assert 5 < report.broken_runs < 30


SEEDED = """
import trio
from trio_send.testing import explore

async def scenario(case):
    done = set()
    async def work(name):
        for _ in range(case.choose(4, name)):
            await trio.sleep(1)
        done.add(name)
        case.check(len(done) < 3, " ".join(sorted(done)))
    async with trio.open_nursery() as nursery:
        for name in ("a", "b", "c"):
            nursery.start_soon(work, name)

for seed in range(100):
    report = explore(scenario, orders=2, seeds=[seed])
    for finding in report.findings:
        print(seed, finding.trace, finding.choices)
"""


def test_a_seed_gives_the_same_under_every_hash_seed() -> None:
    outputs = set()
    for hash_seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", SEEDED],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            cwd=Path(trio_send.__file__).parents[1],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.count("\n") > 10
        outputs.add(done.stdout)
    assert len(outputs) == 1


async def many_decisions(case: Case) -> None:
    sizes = [case.choose(5, f"size {i}") for i in range(6)]
    case.check(sizes[2] < 2 or sizes[4] < 1, f"sizes {sizes}")


def test_an_executor_gives_the_same_report() -> None:
    runs = []
    with ThreadPoolExecutor(2) as executor:
        report = explore(many_decisions, seeds=range(130), executor=executor, progress=runs.append)
    assert report == explore(many_decisions, seeds=range(130))
    assert runs == [50, 100, 130]
    assert report.findings


def test_progress_can_stop() -> None:
    def enough(runs: int) -> bool:
        return runs >= 3

    assert explore(many_decisions, seeds=range(100), progress=enough).runs == 3
    assert explore(many_decisions, progress=enough).runs == 3
    with ThreadPoolExecutor(2) as executor:
        report = explore(
            three_steps, seeds=range(10_000), executor=executor, progress=lambda runs: runs >= 100
        )
    assert report.runs == 100


def test_at_most_so_many_seeds_are_run() -> None:
    assert explore(three_steps, seeds=itertools.count(), most_runs=7).runs == 7


def test_a_finding_is_found_again() -> None:
    report = explore(many_decisions, seeds=range(10))
    for finding in report.findings:
        again = replay(many_decisions, finding)
        assert again.is_found_again and again.is_same and again.is_repeatable
        assert again.unmet == ()
        assert again.sentences == (finding.sentence,)


def test_a_program_that_was_mended_does_not_show_the_finding() -> None:
    (finding,) = explore(takes_one).findings
    again = replay(three_steps, finding)
    assert not again.is_found_again
    assert not again.is_same
    assert again.unmet == ("cancel takes_one before step 3 of takes_one",)


def test_a_finding_is_made_small_by_name() -> None:
    report = explore(many_decisions, seeds=range(10))
    (finding,) = report.findings
    assert len(finding.decisions) > 2
    small = shrink(many_decisions, finding)
    assert small.choices == {"plan size 2": 2, "plan size 4": 1}
    assert small.sentence == "sizes [0, 0, 2, 0, 1, 0]"
    assert replay(many_decisions, small).is_same
    cut = shrink(many_decisions, finding, most_runs=2)
    assert len(cut.decisions) <= len(finding.decisions)


def test_what_is_not_found_again_cannot_be_made_small() -> None:
    (finding,) = explore(takes_one).findings
    with pytest.raises(ValueError, match="'lost, got \\[\\]' is not found again"):
        shrink(three_steps, finding)


# Real sockets ---------------------------------------------------------------------------------


async def counts_are_exact(case: Case) -> None:
    here, there = trio_send.socketpair()
    async with here, there:
        message = bytes(range(256)) * 2000
        args = trio_send.SocketAsyncEventArgs(message)
        received = bytearray()

        async def read() -> None:
            while chunk := await there.receive(200_000):
                received.extend(chunk)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            with case.cancellable(trio.CancelScope()):
                await here.send(args)
            here.forget_torn()
            here.shutdown(trio_send.SocketShutdown.SEND)
        case.check(received == message[: args.bytes_transferred], "the count is not exact")


def test_sends_of_this_library_over_real_sockets() -> None:
    report = explore(counts_are_exact)
    assert report.findings == ()
    assert report.runs > 10
    assert any(count.struck and count.place.file != "test_explore.py" for count in report.places)


def test_a_cancel_that_raises_is_a_finding() -> None:
    async def scenario(case: Case) -> None:
        def cancel() -> None:
            raise ValueError("cannot be cancelled")

        case.cancellable(cancel, "it")
        await trio.lowlevel.checkpoint()

    report = explore(scenario)
    (finding,) = report.findings
    assert finding.sentence == "ValueError: cannot be cancelled"
    assert "it before step 2 of scenario" in finding.asked
    assert report.exhausted


def test_a_program_that_makes_trio_fail_is_a_finding() -> None:
    async def scenario(case: Case) -> None:
        def fail() -> None:
            raise ValueError("in a callback")

        trio.lowlevel.current_trio_token().run_sync_soon(fail)
        await trio.sleep(1)

    (finding,) = explore(scenario, only={}).findings
    assert finding.sentence == "ValueError: in a callback"
    assert explore(three_steps).exhausted


needs_cpython = pytest.mark.skipif(
    sys.implementation.name != "cpython", reason="nothing else can end a step"
)


@needs_cpython
@pytest.mark.parametrize("how", ["alone", "in a task", "in a world", "swallowing"])
def test_a_step_that_does_not_end_is_a_finding(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_hangs, "PATIENCE", 0.2)
    monkeypatch.setattr(_hangs, "INTERVAL", 0.05)

    async def loop() -> None:
        await trio.lowlevel.checkpoint()
        if how == "swallowing":
            try:
                while True:
                    pass
            except BaseException:
                await trio.sleep(1)
        while True:
            pass  # here

    async def scenario(case: Case) -> None:
        await trio.lowlevel.checkpoint()
        if how == "alone":
            await loop()
        elif how == "in a world":
            async with World(case) as world, world.initiator():
                world.send_async(world.socket(), 3)
                await loop()
        else:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(loop)
                await trio.sleep(1)

    report = explore(scenario, only={})
    (finding,) = report.findings
    assert finding.sentence == "a step of the program does not end: it has no checkpoint"
    assert finding.details.startswith("it is at loop:")
    assert report.unrepeatable == ()
    report = explore(scenario, cancels=0, seeds=range(2))
    assert (report.runs, report.broken_runs) == (2, 2)
    # What is explored next is as it always was.
    assert explore(three_steps).exhausted


@needs_cpython
def test_other_runs_go_on_where_one_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_hangs, "PATIENCE", 0.2)
    monkeypatch.setattr(_hangs, "INTERVAL", 0.05)

    async def scenario(case: Case) -> None:
        try:
            await trio.sleep(1)
        except trio.Cancelled:
            while True:
                pass

    report = explore(scenario)
    assert report.runs > 2
    assert report.broken_runs == report.runs - 1
    assert not report.exhausted


PROFILED = """
import sys, trio
from trio_send.testing import _hangs, explore

_hangs.PATIENCE, _hangs.INTERVAL = 0.2, 0.05

async def scenario(case):
    await trio.lowlevel.checkpoint()
    while {hangs}:
        pass

assert explore(scenario, only={{}}).broken_runs == {hangs}
sys.setprofile(lambda frame, event, what: None)
(lambda: None)()
"""


@needs_cpython
@pytest.mark.parametrize("hangs", [False, True])
def test_a_profiler_works_behind_it(hangs: bool) -> None:
    # A note of an exception that never comes has CPython 3.11 spin at the first call under a profiler.
    subprocess.run([sys.executable, "-c", PROFILED.format(hangs=hangs)], check=True, timeout=60)
