"""Hold the pictures of the documentation to the code that draws them."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
IMPORT = "import sys; sys.path.insert(0, 'docs'); sys.dont_write_bytecode = True; import pictures; "
DRAW = IMPORT + "print(pictures.draw(sys.argv[1]), end='')"
NAMES = IMPORT + "print(*pictures.NAMES, sep='\\n')"


def run(program: str, *arguments: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=DOCS.parent,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=True,
    ).stdout


def test_every_picture_is_the_one_that_is_drawn() -> None:
    kept = sorted((DOCS / "pictures").glob("*.svg"))
    assert [path.name for path in kept] == sorted(run(NAMES).split())
    for path in kept:
        drawn = run(DRAW, path.name)
        assert drawn == path.read_text("utf-8"), "run: python docs/pictures.py"
        ET.fromstring(drawn)
