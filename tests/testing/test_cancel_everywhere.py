"""`cancel_everywhere` as a user meets it: decorated tests, with fixtures, parameters and classes, and no plugin."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import trio

import trio_send
from trio_send.testing import Case, ExplorationError, cancel_everywhere

seen: list[object] = []


@pytest.fixture
def number() -> int:
    return 3


@cancel_everywhere(orders=1)
async def test_a_lock_of_trio(case: Case, number: int) -> None:
    lock = trio.Lock()
    inside: list[int] = []
    case.finally_(lambda: case.check(not lock.locked() and not inside, "the lock is not free"))

    async def use(name: int) -> None:
        async with lock:
            inside.append(name)
            case.check(len(inside) == 1, "two are inside")
            try:
                await trio.sleep(1)
            finally:
                inside.remove(name)

    async with trio.open_nursery() as nursery:
        for name in range(number):
            nursery.start_soon(use, name)


@pytest.mark.parametrize("size", [0, 2])
@cancel_everywhere()
async def test_a_channel_of_trio(size: int, case: Case) -> None:
    send_channel, receive_channel = trio.open_memory_channel[int](size)
    sent: list[int] = []
    received: list[int] = []
    case.finally_(lambda: case.check(received == sent[: len(received)], "out of order"))

    async def receive() -> None:
        async for value in receive_channel:
            received.append(value)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        async with send_channel:
            for value in range(3):
                sent.append(value)
                await send_channel.send(value)


class TestInAClass:
    @cancel_everywhere(cancels=0)
    async def test_it(self, case: Case, number: int) -> None:
        assert isinstance(self, TestInAClass)
        case.check(number == 3, "the fixture is another one")
        seen.append(self)


def test_the_decorated_tests_were_run() -> None:
    assert seen


@cancel_everywhere()
async def always_wrong(case: Case, word: str = "wrong") -> None:
    """Be wrong, whatever happens."""
    case.check(False, word)


def test_a_decorated_test_keeps_its_name_and_words() -> None:
    assert always_wrong.__name__ == "always_wrong"
    assert always_wrong.__doc__ == "Be wrong, whatever happens."


@pytest.mark.parametrize(("args", "word"), [((), "wrong"), (("bad",), "bad")])
def test_it_fails_with_the_report(args: tuple[str, ...], word: str) -> None:
    with pytest.raises(ExplorationError) as caught:
        always_wrong(*args)
    assert isinstance(caught.value, AssertionError)
    (finding,) = caught.value.report.findings
    assert finding.sentence == word
    assert caught.value.report.scenario == "always_wrong"


def test_one_run_again() -> None:
    @cancel_everywhere(only={"cancel scenario before step 2 of scenario": 1})
    async def scenario(case: Case) -> None:
        try:
            await trio.lowlevel.checkpoint()
        finally:
            case.check(case.choose(2), "said in this run")

    with pytest.raises(ExplorationError) as caught:
        scenario()
    assert caught.value.report.runs == 1


async def long(case: Case) -> None:
    for _ in range(10):
        await trio.lowlevel.checkpoint()


def test_it_fails_if_not_everything_was_tried() -> None:
    with pytest.raises(ExplorationError, match="5 runs were not enough: allow more"):
        cancel_everywhere(most_runs=5)(long)()
    cancel_everywhere(seeds=range(5))(long)()


def test_it_fails_if_runs_differ_unless_that_is_allowed() -> None:
    times = 0

    async def differs(case: Case) -> None:
        nonlocal times
        times += 1
        case.choose(2, f"choice {times}")

    with pytest.raises(ExplorationError, match="runs with the same decisions differ"):
        cancel_everywhere()(differs)()
    cancel_everywhere(allow_differences=True)(differs)()


def test_a_function_without_a_case_is_refused() -> None:
    async def test_it() -> None: ...

    with pytest.raises(TypeError, match="must have a parameter case"):
        cancel_everywhere()(test_it)


def test_no_test_framework_is_needed() -> None:
    program = (
        "import sys; sys.modules.update(pytest=None, _pytest=None);"
        "from trio_send.testing import cancel_everywhere\n"
        "@cancel_everywhere()\n"
        "async def test(case): case.check(True, 'never said')\n"
        "test()"
    )
    subprocess.run(
        [sys.executable, "-c", program], check=True, cwd=Path(trio_send.__file__).parents[1]
    )
