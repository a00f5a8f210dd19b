"""Run the tests of `trio_asyncio_programs` in a process of their own.

To import trio-asyncio is to change asyncio for all of the process: it makes loops of another kind then, also for tests
that have nothing to do with it.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAMS = Path(__file__).with_name("trio_asyncio_programs.py")


@pytest.mark.skipif(
    importlib.util.find_spec("trio_asyncio") is None, reason="trio-asyncio is not installed"
)
def test_programs_that_run_asyncio_in_trio() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:xdist",
            "-p",
            "no:cacheprovider",
            PROGRAMS,
        ],
        cwd=PROGRAMS.parents[2],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
