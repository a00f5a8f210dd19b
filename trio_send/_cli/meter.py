"""Progress, shown on standard error while it is a terminal, and not at all otherwise."""

from __future__ import annotations

import shutil
import sys
from collections import deque
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import trio

from .output import is_terminal, write
from .values import show_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: Seconds between two looks at the progress: often enough for the eye, and too seldom to cost anything.
INTERVAL = 0.1


#: The rate shown is that of so many looks, three seconds.
_LOOKS = 30


class Meter:
    """Something on the screen that shows how much was done; this one shows nothing."""

    def show(self, done: int) -> None:
        """Show that ``done`` bytes, or whatever is counted, are done."""

    def hide(self) -> None:
        """Take it off the screen until the next `show`, so that a line can be printed."""


class _ScreenMeter(Meter):
    """A meter that can be seen."""

    def __init__(self, total: int | None, words: Callable[[int], str]) -> None:
        self._total = total
        self._words = words
        self._looks: deque[tuple[float, int]] = deque(maxlen=_LOOKS)

    def _describe(self, done: int) -> str:
        """Return the numbers to show."""
        now = trio.current_time()
        self._looks.append((now, done))
        then, before = self._looks[0]
        rate = (done - before) / (now - then) if now > then else 0
        of_all = "" if self._total is None else f" of {self._words(self._total)}"
        return f"{self._words(done)}{of_all}, {self._words(int(rate))}/s"


class _PlainMeter(_ScreenMeter):
    """One line of text that is written over and over."""

    def __init__(self, label: str, total: int | None, words: Callable[[int], str]) -> None:
        super().__init__(total, words)
        self._label = label
        self._width = 0

    def show(self, done: int) -> None:
        line = f"{self._label}: {self._describe(done)}"[: shutil.get_terminal_size().columns - 1]
        self._write("\r" + line.ljust(self._width))
        self._width = len(line)

    def hide(self) -> None:
        if self._width:
            self._write("\r" + " " * self._width + "\r")
            self._width = 0

    def _write(self, text: str) -> None:
        with suppress(OSError):  # of all that is printed this matters least
            write(sys.stderr, text)


class _RichMeter(_ScreenMeter):
    """A bar of rich's."""

    def __init__(
        self, progress: Any, label: str, total: int | None, words: Callable[[int], str]
    ) -> None:
        super().__init__(total, words)
        self._progress = progress
        self._task = progress.add_task(label, total=total, numbers="")
        self._shown = False

    def show(self, done: int) -> None:
        if not self._shown:
            self._progress.start()
            self._shown = True
        self._progress.update(self._task, completed=done, numbers=self._describe(done))
        self._progress.refresh()

    def hide(self) -> None:
        if self._shown:
            self._progress.stop()
            self._shown = False


def _make_meter(label: str | None, total: int | None, words: Callable[[int], str]) -> Meter:
    if label is None or not is_terminal(sys.stderr):
        return Meter()
    try:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
    except ImportError:
        return _PlainMeter(label, total, words)
    name, numbers = (
        TextColumn("{task.description}", markup=False),
        TextColumn("{task.fields[numbers]}"),
    )
    # Where nobody knows the end there is nothing that a bar could be a part of, and rich would draw a full one.
    columns = (
        [name, numbers] if total is None else [name, BarColumn(), numbers, TimeRemainingColumn()]
    )
    # A thread that redraws would do so in the middle of other output, and redirecting would swallow some of it.
    progress = Progress(
        *columns,
        console=Console(stderr=True),
        auto_refresh=False,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    return _RichMeter(progress, label, total, words)


@contextmanager
def meter(
    label: str | None, total: int | None = None, words: Callable[[int], str] = show_size
) -> Iterator[Meter]:
    """Have a meter while the body runs.

    Args:
      label: what goes by; None stands for not showing it.
      total: how many bytes there will be, if that is known.
      words: what to write for a number of them.
    """
    made = _make_meter(label, total, words)
    try:
        yield made
    finally:
        made.hide()


async def keep_showing(shown: Meter, progress: Callable[[], int]) -> None:
    """Show the progress again and again, until cancelled."""
    while isinstance(shown, _ScreenMeter):
        shown.show(progress())
        await trio.sleep(INTERVAL)
