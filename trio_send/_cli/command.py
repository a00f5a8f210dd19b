"""What every command has to offer to the parser."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse
    from collections.abc import Awaitable, Callable


@dataclass(frozen=True)
class Command:
    """One command of the command line.

    Attributes:
      name: what it is called by.
      summary: what it does, in a few words.
      description: what it does, in full.
      add_arguments: adds its arguments to its parser.
      run: does it, inside Trio, with the parsed arguments; returns the exit status.
    """

    name: str
    summary: str
    description: str
    add_arguments: Callable[[argparse.ArgumentParser], object]
    run: Callable[[Any], Awaitable[int]]
