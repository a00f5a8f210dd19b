"""Runs an example that serves: it says on which port, and ends in order at Ctrl-C."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

EXAMPLES = Path(__file__).parents[1] / "examples"


@contextlib.contextmanager
def served(name: str, *arguments: str) -> Iterator[int]:
    """Run an example; give its port, and see to an orderly end."""
    with subprocess.Popen(
        [sys.executable, "-W", "error", str(EXAMPLES / name), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            word, port = process.stdout.readline().split()
            assert word == "port"
            yield int(port)
            process.send_signal(signal.SIGINT)
            _, complaints = process.communicate(timeout=60)
            assert complaints == ""
            assert process.returncode == 0
        finally:
            process.kill()
