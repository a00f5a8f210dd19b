"""One task at a time, for what two tasks would spoil for each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

import trio

if TYPE_CHECKING:
    from types import TracebackType


@final
class Guard:
    """Keeps a second task out of what is for one at a time.

    Args:
      doing: what the tasks do, for the error's sentence.
      advice: what to do about it.
    """

    __slots__ = ("_advice", "_doing", "_is_busy")

    def __init__(self, doing: str, advice: str) -> None:
        self._doing = doing
        self._advice = advice
        self._is_busy = False

    def __enter__(self) -> None:
        if self._is_busy:
            raise trio.BusyResourceError(f"another task is {self._doing}; {self._advice}")
        self._is_busy = True

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_busy = False
