"""Where a task stands: the line of somebody's own function that waits."""

from __future__ import annotations

import contextlib
import inspect
import os
import sys
import types
from pathlib import Path
from typing import Any, final

import attrs
import trio

#: Whose lines are nobody's own: Trio's, the explorer's, and those that stand between a `with` and its function.
_FOLDERS = tuple(str(Path(file).parent) + os.sep for file in (trio.__file__, __file__))
_FILES = (contextlib.__file__,)

#: The scenarios that are ready are programs like any other.
_SCENARIOS = str(Path(__file__).with_name("_worlds.py"))


@final
@attrs.frozen(order=True, cache_hash=True)
class Place:
    """A place in a program at which a task can wait, so that a cancel can strike there.

    Attributes:
      function: the name of the function.
      line: the number of the line.
      file: the name of its file, without the directory.
      call: the function of Trio that was called there, such as ``"acquire"``; empty if there is none.
    """

    function: str
    line: int
    file: str
    call: str = ""

    def __str__(self) -> str:
        return f"{self.function}:{self.line}"

    @property
    def in_words(self) -> str:
        """The place with its file and the function of Trio that was called there."""
        within = f", in {self.call}" if self.call else ""
        return f"{self} ({self.file}){within}"


#: Whose a line is.
_OWN, _NOT_OWN, _EXPLORER = range(3)

# By file and not by code: code of the same words on the same line is equal, in whichever file.
_owners: dict[str, int] = {}


def _owner_of(code: types.CodeType) -> int:
    file = code.co_filename
    owner = _owners.get(file)
    if owner is None:
        owner = _OWN
        if file != _SCENARIOS and (file in _FILES or file.startswith(_FOLDERS)):
            owner = _EXPLORER if file.startswith(_FOLDERS[1]) else _NOT_OWN
        _owners[file] = owner
    return owner


def is_own(code: types.CodeType) -> bool:
    """Tell whether code belongs to the program that is explored."""
    return _owner_of(code) == _OWN


def _place(code: types.CodeType, line: int, call: str = "") -> Place:
    return Place(code.co_name, line, Path(code.co_filename).name, call)


_known: dict[tuple[str, str, int, str], Place] = {}
_lines: dict[int, str] = {}


def line_of(place: Place) -> str:
    """A place in words, which are made once if it is one of a task."""
    return _lines.get(id(place)) or place.in_words


def _frames(task: trio.lowlevel.Task) -> list[types.FrameType]:
    """The frames in which a task waits, from the outermost on."""
    # As `trio.lowlevel.Task.iter_await_frames`, which also knows of what is rare, and takes three times as long.
    frames: list[types.FrameType] = []
    # Any, because a coroutine that has ended has no frame, and these have not.
    waits: Any = task.coro
    while waits is not None:
        kind = type(waits)
        if kind is types.CoroutineType:
            frames.append(waits.cr_frame)
            waits = waits.cr_await
        elif kind is types.GeneratorType:
            frames.append(waits.gi_frame)
            waits = waits.gi_yieldfrom
        else:
            return [frame for frame, _ in task.iter_await_frames()]
    return frames


def place_of_task(task: trio.lowlevel.Task) -> Place | None:
    """The innermost line of the program's own at which a task waits.

    A task of which nothing but Trio's functions is there, as after ``nursery.start_soon(trio.sleep, 1)``, stands in the
    outermost of them. None if there is nothing but the explorer's.
    """
    frames = _frames(task)
    owners = _owners
    i = len(frames)
    while i:
        i -= 1
        code = frames[i].f_code
        owner = owners.get(code.co_filename)
        if (_owner_of(code) if owner is None else owner) == _OWN:
            break
    else:
        i = next((i for i, f in enumerate(frames) if _owner_of(f.f_code) != _EXPLORER), -1)
        if i < 0:
            return None
        code = frames[i].f_code
    call = frames[i + 1].f_code.co_name if i + 1 < len(frames) else ""
    key = (code.co_filename, code.co_name, frames[i].f_lineno, call)
    place = _known.get(key)
    if place is None:
        place = _known[key] = _place(code, key[2], call)
        _lines[id(place)] = place.in_words  # it is known for ever, so nothing else gets its number
    return place


def place_of_function(function: object) -> Place | None:
    """Where a function begins; None if it is none."""
    # What a decorator has made of it tells nobody anything.
    code = getattr(inspect.unwrap(function), "__code__", None)  # type: ignore[arg-type]
    return None if code is None else _place(code, code.co_firstlineno)


def place_of_caller() -> Place | None:
    """The innermost line of the program's own that is being run in this thread."""
    return place_of_frame(sys._getframe(1))


def place_of_frame(frame: types.FrameType | None) -> Place | None:
    """The innermost line of the program's own that a frame was called from."""
    while frame is not None and not is_own(frame.f_code):
        frame = frame.f_back
    return None if frame is None else _place(frame.f_code, frame.f_lineno)


def place_of_exception(error: BaseException) -> Place | None:
    """The innermost line of the program's own that an exception went through."""
    found = None
    traceback = error.__traceback__
    while traceback is not None:
        if is_own(traceback.tb_frame.f_code):
            found = _place(traceback.tb_frame.f_code, traceback.tb_lineno)
        traceback = traceback.tb_next
    return found
