"""What the tests of `trio_send.from_thread` share: threads to run something in, and how to wait for them from Trio."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import outcome
import trio

from trio_send import Initiator, from_thread


class Worker:
    """A thread of the program's own that runs one function.

    Args:
      function: what to run.
      arguments: what to call it with.
    """

    def __init__(self, function: Callable[..., Any], *arguments: Any, daemon: bool = False) -> None:
        self._result: outcome.Outcome[Any] | None = None

        def run() -> None:
            self._result = outcome.capture(function, *arguments)

        self.thread = threading.Thread(target=run, daemon=daemon)
        self.thread.start()

    async def join(self) -> Any:
        """Wait until the thread is gone; return or raise what the function did."""
        await trio.to_thread.run_sync(self.thread.join)
        return self.take()

    def take(self) -> Any:
        """Return or raise what the function did."""
        assert not self.thread.is_alive()
        assert self._result is not None
        result, self._result = self._result, None
        return result.unwrap()


async def in_own_thread(function: Callable[..., Any], *arguments: Any) -> Any:
    """Run a function in a thread of the program's own; return when the thread is gone."""
    return await Worker(function, *arguments).join()


#: Where they go away, what was entered is left.
_never_left: list[object] = []


def outliving(host: Initiator, function: Callable[..., Any], *arguments: Any) -> Any:
    """Run a function in a thread whose end nobody hears of, so that its sends are left to the host."""
    block = from_thread.initiator(host)
    block.__enter__()
    _never_left.append(block)
    return function(*arguments)


#: The two kinds of thread: one that Trio started, and one that it did not.
KINDS_OF_THREAD = {"call": trio.to_thread.run_sync, "thread": in_own_thread}
