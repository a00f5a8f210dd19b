"""Run the tests of `museum_programs` in a process of their own.

They give functions another code for a while. CPython 3.11 can spin for ever when it profiles a caller of such a
function later on, although the function has its own code back, and other tests profile.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAMS = Path(__file__).with_name("museum_programs.py")


def test_bugs_that_are_planted_are_found() -> None:
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
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
