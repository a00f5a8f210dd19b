"""What a work is, and what it is given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trio_send._cli.bench.link import open_link

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from trio_send._cli.bench.link import Link

    from .records import Row


@dataclass(frozen=True)
class Scale:
    """How thoroughly to measure.

    Attributes:
      rounds: how many rounds of chunks.
      chunk_ns: how many nanoseconds a chunk should take.
      share: what part of the sizes to do, of connections for example; at most 1.
      core: where receivers run; -1 for anywhere.
    """

    rounds: int
    chunk_ns: int
    share: float
    core: int = -1

    def link(self, kind: str) -> AbstractAsyncContextManager[Link]:
        """Start a receiver."""
        return open_link(kind, core=self.core)


@dataclass(frozen=True)
class Work:
    """Something that is measured by itself.

    Attributes:
      name: what it is selected by.
      title: what is done, in a few words.
      measure: measures it; returns its rows.
    """

    name: str
    title: str
    measure: Callable[[Scale], Awaitable[list[Row]]]
