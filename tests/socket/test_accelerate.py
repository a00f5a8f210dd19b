"""Run the tests of `accelerate_programs` in a process of their own.

They profile calls of the compiled methods. CPython 3.11 can spin for ever in such a call if other tests have replaced
attributes of `Socket` for a while, as monkeypatches do.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAMS = Path(__file__).with_name("accelerate_programs.py")


def test_what_is_compiled() -> None:
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
    assert " passed" in done.stdout or " skipped" in done.stdout
