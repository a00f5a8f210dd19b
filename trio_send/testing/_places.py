"""Where a task stands: the line of somebody's own function that waits."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, final

import attrs
import trio

if TYPE_CHECKING:
    import types

#: Whose lines are nobody's own: Trio's, the explorer's, and those that stand between a `with` and its function.
_FOLDERS = tuple(str(Path(file).parent) + os.sep for file in (trio.__file__, __file__))
_FILES = (contextlib.__file__,)


@final
@attrs.frozen(order=True)
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


# By file and not by code: code of the same words on the same line is equal, in whichever file.
_is_own: dict[str, bool] = {}


def is_own(code: types.CodeType) -> bool:
    """Tell whether code belongs to the program that is explored."""
    file = code.co_filename
    answer = _is_own.get(file)
    if answer is None:
        answer = _is_own[file] = file not in _FILES and not file.startswith(_FOLDERS)
    return answer


def _place(code: types.CodeType, line: int, call: str = "") -> Place:
    return Place(code.co_name, line, Path(code.co_filename).name, call)


_known: dict[tuple[str, str, int, str], Place] = {}


def place_of_task(task: trio.lowlevel.Task) -> Place | None:
    """The innermost line of the program's own at which a task waits.

    A task of which nothing but Trio's functions is there, as after ``nursery.start_soon(trio.sleep, 1)``, stands in the
    outermost of them. None if there is nothing but the explorer's.
    """
    code = line = None
    call = ""
    for frame, number in task.iter_await_frames():
        if is_own(frame.f_code):
            code, line, call = frame.f_code, number, ""
        elif code is None and not frame.f_code.co_filename.startswith(_FOLDERS[1]):
            code, line = frame.f_code, number
        elif not call and code is not None:
            call = frame.f_code.co_name
    if code is None or line is None:
        return None
    key = (code.co_filename, code.co_name, line, call)
    place = _known.get(key)
    if place is None:
        place = _known[key] = _place(code, line, call)
    return place


def place_of_function(function: object) -> Place | None:
    """Where a function begins; None if it is none."""
    code = getattr(function, "__code__", None)
    return None if code is None else _place(code, code.co_firstlineno)


def place_of_caller() -> Place | None:
    """The innermost line of the program's own that is being run in this thread."""
    frame: types.FrameType | None = sys._getframe(1)
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
