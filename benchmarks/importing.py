"""How long importing the package takes, beyond importing Trio."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from functools import partial

import trio

from .records import Row, compare, limit
from .works import Scale, Work

#: Milliseconds.
LIMIT = 25

OURS = "trio_send"
TRIO = "trio"

PROGRAM = f"""
import time
began = time.process_time_ns()
import {TRIO}
then = time.process_time_ns()
import {OURS}
print(then - began, time.process_time_ns() - then)
"""


async def measure(scale: Scale) -> list[Row]:
    """Measure in new interpreters."""
    trio_ms, ours_ms = [], []
    with tempfile.TemporaryDirectory() as bytecode:
        # As an installed package has it. Compiling takes five times as long as all the rest.
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": bytecode}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        run = partial(
            trio.run_process,
            [sys.executable, "-c", PROGRAM],
            capture_stdout=True,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        await run()  # has it written
        for _ in range(max(1, scale.rounds // 5)):
            theirs, ours = (await run()).stdout.split()
            trio_ms.append(int(theirs) / 1e6)
            ours_ms.append(int(ours) / 1e6)
    row = compare("import", "", {OURS: ours_ms, TRIO: trio_ms}, unit="ms")
    limit(row, "", row.values[OURS].median, LIMIT, "ms")
    return [row]


WORKS = (Work("import", "importing trio_send, beyond trio", measure),)
