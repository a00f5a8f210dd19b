"""The gate of a queue: why its fast path is not open, as bits of one number, so that an open one costs one test."""

from __future__ import annotations

from typing import Final

BUSY: Final = 1  # operations wait
CLOSED: Final = 2
TORN: Final = 4
BROKEN: Final = 8
UNCONNECTED: Final = 16
FORKED: Final = 32  # another process has made the socket
STEP: Final = 64  # something is being changed at this moment
NOTED: Final = 128  # and something is to be done at its end
FULL: Final = 256  # too much waits, and so what does not wait itself is refused
ENDING: Final = 512  # operations have to end, and until they have, nothing is attempted

#: For which of these a send may have to end at once.
REFUSING: Final = TORN | BROKEN | UNCONNECTED
