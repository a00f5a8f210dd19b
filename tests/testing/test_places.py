"""Places: which lines are the program's own, and which of them is named."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

import trio_send.testing
from tests.programs import line_of
from trio_send.testing import Case, Place, explore
from trio_send.testing._places import is_own


def in_file(path: Path) -> object:
    return compile("0", str(path), "exec")


@pytest.mark.parametrize(
    ("path", "own"),
    [
        (Path(trio.__file__), False),
        (Path(trio.__file__).parent / "_core" / "_run.py", False),
        (Path(trio_send.testing.__file__), False),
        (Path(contextlib.__file__), False),
        # What merely begins like Trio.
        (Path(f"{Path(trio.__file__).parent}_websocket") / "_impl.py", True),
        (Path(f"{Path(trio.__file__).parent}_send") / "_socket" / "send.py", True),
        (Path(f"{Path(trio_send.testing.__file__).parent}_more") / "x.py", True),
        (Path(os.sep) / "app" / "main.py", True),
    ],
)
def test_whose_a_line_is(path: Path, own: bool) -> None:
    assert is_own(in_file(path)) is own  # type: ignore[arg-type]


async def through_a_context_manager(case: Case) -> None:
    @contextlib.asynccontextmanager
    async def opened() -> AsyncIterator[None]:
        await trio.sleep(1)  # entered
        yield
        await trio.sleep(1)  # left

    async with opened():
        pass


def test_a_place_behind_a_context_manager() -> None:
    places = [count.place for count in explore(through_a_context_manager).places]
    assert places == [
        Place("opened", line_of(through_a_context_manager, f"# {word}"), "test_places.py", "sleep")
        for word in ("entered", "left")
    ]


async def through_a_generator(case: Case) -> None:
    async def numbers() -> AsyncIterator[int]:
        await trio.lowlevel.checkpoint()  # inside
        yield 1

    async for _ in numbers():
        pass


def test_a_place_in_an_asynchronous_generator() -> None:
    (count,) = explore(through_a_generator).places
    assert (count.place.function, count.place.line) == (
        "numbers",
        line_of(through_a_generator, "# inside"),
    )


async def nothing_but_trio(case: Case) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep, 1)


def test_a_place_of_a_task_of_nothing_but_trio() -> None:
    places = {count.place.function for count in explore(nothing_but_trio).places}
    assert places == {"nothing_but_trio", "sleep"}


def test_a_place_in_words() -> None:
    assert str(Place("get", 11, "queue.py", "acquire")) == "get:11"
    assert Place("get", 11, "queue.py", "acquire").in_words == "get:11 (queue.py), in acquire"
    assert Place("get", 11, "queue.py").in_words == "get:11 (queue.py)"
