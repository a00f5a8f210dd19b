"""Lines that the library writes to its log by itself, about what would be lost in silence otherwise.

They come from finalisers and from the middle of steps, where nothing may be called: whoever is interrupted there may
hold a lock of the log's own. So a line is only left here, and written where the run calls what other threads have sent
it; or, if the run is over by then, behind the next line of another run or when the process exits.
"""

from __future__ import annotations

import atexit
import logging
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import trio

from .instrument import logger

if TYPE_CHECKING:
    from trio.lowlevel import TrioToken

#: A failure that nobody was told of.
LOST: Final = logging.WARNING
#: What a program has asked for, perhaps without knowing how much that was.
STOPPED: Final = logging.INFO

_lines: Final[deque[tuple[int, str]]] = deque()


def write_soon(token: TrioToken, level: int, line: str) -> None:
    """Have a line written to the log; from any thread and any place, finalisers included."""
    _lines.append((level, line))
    try:
        token.run_sync_soon(_write, idempotent=True)
    # A run that crashed closes its socket and says no more, which is an OSError.
    except (trio.RunFinishedError, OSError):
        pass


def _write() -> None:
    """Write what has been left here."""
    while _lines:
        level, line = _lines.popleft()
        # `logging` itself tells of a handler that fails; of what else there may be in the way, nobody needs to die.
        with suppress(Exception):
            logger.log(level, "%s", line)


atexit.register(_write)
