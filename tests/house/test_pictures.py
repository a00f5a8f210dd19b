"""Hold the pictures of the documentation to the code that draws them."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
DRAW = "import sys; sys.path.insert(0, 'docs'); import pictures; print(pictures.draw(sys.argv[1]), end='')"


def test_every_picture_is_the_one_that_is_drawn() -> None:
    kept = sorted((DOCS / "pictures").glob("*.svg"))
    assert kept
    for path in kept:
        drawn = subprocess.run(
            [sys.executable, "-c", DRAW, path.name],
            cwd=DOCS.parent,
            capture_output=True,
            text=True,
            check=True,
        )
        assert drawn.stdout == path.read_text("utf-8"), "run: python docs/pictures.py"
        ET.fromstring(drawn.stdout)
