"""Worlds that are hosted one after the other in one call of `trio.run`: each is what it would be by itself.

Modules: testing._runner.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import trio

from trio_send import ExitPolicy
from trio_send.testing import Case, World, _trio_private, explore, random_world
from trio_send.testing._runner import run_each, run_once
from trio_send.testing._tape import Seeded, Tape
from trio_send.testing._watcher import Run, Scenario

LIMITS = {"cancel": 2, "order": 3, "inside": 1}


def draw(seed: int) -> Tape:
    return Tape(Seeded(seed, LIMITS), LIMITS)


def run_hosted(scenario: Scenario, count: int) -> list[Run]:
    runs: list[Run] = []
    run_each(scenario, map(draw, range(count)), runs.append, most_steps=10_000)
    return runs


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Has an item for each call of `trio.run`."""
    real = trio.run
    calls: list[str] = []

    def run(*args: object, **kwargs: object) -> object:
        calls.append("call")
        return real(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(trio, "run", run)
    return calls


async def one_send(case: Case) -> None:
    async with World(case) as world, world.initiator(ExitPolicy.JOIN):
        world.send_async(world.socket(), 2)


def test_hosted_worlds_are_those_of_a_run_of_their_own(calls: list[str]) -> None:
    hosted = run_hosted(random_world, 300)
    assert len(calls) == 1
    alone = [run_once(random_world, draw(seed), most_steps=10_000) for seed in range(300)]
    assert len(calls) == 301
    assert hosted == alone
    assert len({run.trace for run in hosted}) > 200


PROGRAM = """
import hashlib
from tests.testing.test_hosting import run_hosted
from trio_send.testing import random_world

runs = run_hosted(random_world, 300)
print(hashlib.sha256("".join(run.trace for run in runs).encode()).hexdigest())
"""


def test_the_same_worlds_under_any_hash_seed() -> None:
    told = set()
    for seed in ("0", "1", "4294967295"):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        told.add(done.stdout)
    assert len(told) == 1


def test_a_world_begins_as_the_first_one_did(calls: list[str]) -> None:
    variable = trio.lowlevel.RunVar[int]("variable")
    seen: list[tuple[float, int]] = []

    async def scenario(case: Case) -> None:
        seen.append((trio.current_time(), variable.get(0)))
        variable.set(1)
        await one_send(case)

    run_hosted(scenario, 5)
    assert seen == [(0.0, 0)] * 5
    assert len(calls) == 1


def test_other_programs_have_a_call_each(calls: list[str]) -> None:
    async def scenario(case: Case) -> None:
        await trio.sleep(1)

    run_hosted(scenario, 3)
    assert len(calls) == 3


async def leaves_a_task(case: Case) -> None:
    trio.lowlevel.spawn_system_task(trio.sleep, 1000)


async def leaves_a_generator(case: Case) -> None:
    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            case.check(False, "the generator is closed")

    generator = numbers()
    await anext(generator)
    KEPT.append(generator)


async def leaves_an_instrument(case: Case) -> None:
    class Watches(trio.abc.Instrument): ...

    trio.lowlevel.add_instrument(Watches())


async def leaves_a_function_to_call(case: Case) -> None:
    case.finally_(
        lambda: case.check(not trio.lowlevel.in_trio_run(), "it is called inside of Trio")
    )


KEPT: list[object] = []


@pytest.mark.parametrize(
    "leave", [leaves_a_task, leaves_a_generator, leaves_an_instrument, leaves_a_function_to_call]
)
def test_a_world_that_leaves_something_behind_is_the_last(
    leave: Callable[[Case], Awaitable[None]], calls: list[str]
) -> None:
    async def scenario(case: Case) -> None:
        await one_send(case)
        if case.choose(2, "leave something"):
            await leave(case)

    hosted = run_hosted(scenario, 20)
    left = sum(bool(run.plan()) for run in hosted)
    assert 0 < left < 20
    assert left <= len(calls) <= left + 1
    assert hosted == [run_once(scenario, draw(seed), most_steps=10_000) for seed in range(20)]
    expected = {"the generator is closed"} if leave is leaves_a_generator else set()
    assert {broken.sentence for run in hosted for broken in run.broken} == expected
    KEPT.clear()


def test_a_world_that_does_not_end_is_the_last(calls: list[str]) -> None:
    async def scenario(case: Case) -> None:
        await one_send(case)
        while case.choose(2, "go on"):
            try:
                with trio.CancelScope(shield=True):
                    while True:
                        await trio.lowlevel.checkpoint()
            except BaseException:
                pass

    runs: list[Run] = []
    run_each(scenario, map(draw, range(20)), runs.append, most_steps=200)
    endless = [run.is_endless for run in runs]
    assert set(endless) == {True, False}
    assert len(runs) == 20


def test_whoever_is_told_of_runs_is_outside_of_trio() -> None:
    told: list[int] = []

    def tell(runs: int) -> None:
        assert not trio.lowlevel.in_trio_run()
        told.append(runs)

    report = explore(one_send, seeds=range(200), progress=tell)
    assert report.runs == told[-1] == 200
    assert told[:3] == [1, 3, 7]
    assert explore(one_send, limits={"kernel": 1}, progress=tell).exhausted


@pytest.mark.parametrize("protect", [trio.lowlevel.enable_ki_protection, lambda f: f])
def test_an_interrupt_ends_all(protect: Callable[[Callable[[], None]], Callable[[], None]]) -> None:
    runs: list[int] = []

    def interrupt() -> None:
        signal.raise_signal(signal.SIGINT)

    async def scenario(case: Case) -> None:
        runs.append(1)
        await one_send(case)
        if len(runs) == 3:
            protect(interrupt)()
            await trio.sleep(1)

    with pytest.raises(KeyboardInterrupt):
        run_hosted(scenario, 10)
    assert len(runs) == 3


def test_without_what_is_private_each_world_has_a_call(
    calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = run_hosted(random_world, 20)
    monkeypatch.setattr(_trio_private, "can_host", lambda: False)
    calls.clear()
    assert run_hosted(random_world, 20) == expected
    assert len(calls) == 20
