"""What every run of the tests needs."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    """Have Ctrl-C heard, which many tests press; a shell has what it starts in the background ignore it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
