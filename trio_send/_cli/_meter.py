"""Progress, shown on standard error while it is a terminal, and not at all otherwise."""

from __future__ import annotations

import abc
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import trio

from ._output import is_terminal
from ._values import show_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: Seconds between two looks at the progress: often enough for the eye, and too seldom to cost anything.
INTERVAL = 0.1


class Meter(abc.ABC):
    """Something on the screen that shows how many bytes have gone by."""

    @abc.abstractmethod
    def show(self, done: int) -> None:
        """Show that ``done`` bytes have gone by."""

    @abc.abstractmethod
    def hide(self) -> None:
        """Take it off the screen until the next `show`, so that a line can be printed."""


class _NoMeter(Meter):
    """Shows nothing, because nobody would see it."""

    def show(self, done: int) -> None:
        pass

    def hide(self) -> None:
        pass


class _PlainMeter(Meter):
    """One line of text that is written over and over."""

    def __init__(self, label: str, total: int | None) -> None:
        self._label = label
        self._total = total
        self._began = trio.current_time()
        self._width = 0

    def show(self, done: int) -> None:
        passed = max(trio.current_time() - self._began, 1e-9)
        share = "" if not self._total else f" of {show_size(self._total)}, {min(100 * done // self._total, 100)} %"
        line = f"{self._label}: {show_size(done)}{share}, {show_size(done / passed)}/s"
        sys.stderr.write("\r" + line.ljust(self._width))
        sys.stderr.flush()
        self._width = len(line)

    def hide(self) -> None:
        if self._width:
            sys.stderr.write("\r" + " " * self._width + "\r")
            sys.stderr.flush()
            self._width = 0


class _RichMeter(Meter):
    """A bar of rich's."""

    def __init__(self, progress: Any, label: str, total: int | None) -> None:
        self._progress = progress
        self._task = progress.add_task(label, total=total)
        self._shown = False

    def show(self, done: int) -> None:
        if not self._shown:
            self._progress.start()
            self._shown = True
        self._progress.update(self._task, completed=done)
        self._progress.refresh()

    def hide(self) -> None:
        if self._shown:
            self._progress.stop()
            self._shown = False


def _make_meter(label: str, total: int | None) -> Meter:
    if not is_terminal(sys.stderr):
        return _NoMeter()
    try:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )
    except ImportError:
        return _PlainMeter(label, total)
    columns = [
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        *([] if total is None else [TimeRemainingColumn()]),
    ]
    # A thread that redraws would do so in the middle of other output, and redirecting would swallow it.
    progress = Progress(
        *columns,
        console=Console(stderr=True),
        auto_refresh=False,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    return _RichMeter(progress, label, total)


@contextmanager
def meter(label: str, total: int | None = None) -> Iterator[Meter]:
    """Have a meter while the body runs.

    Args:
      label: what goes by.
      total: how many bytes there will be, if that is known.
    """
    made = _make_meter(label, total)
    try:
        yield made
    finally:
        made.hide()


async def keep_showing(shown: Meter, progress: Callable[[], int]) -> None:
    """Show the progress again and again, until cancelled."""
    while not isinstance(shown, _NoMeter):
        shown.show(progress())
        await trio.sleep(INTERVAL)
