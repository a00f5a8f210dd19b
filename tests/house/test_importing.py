"""What an import of the package brings along, because each program that uses it waits for that."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys
import trio

before = set(sys.modules)
import trio_send

print(*sorted(name for name in set(sys.modules) - before if name.partition(".")[0] != "trio_send"))
"""


def test_the_import_brings_no_module_that_trio_has_not() -> None:
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True
    )
    assert run.stdout.split() == []
