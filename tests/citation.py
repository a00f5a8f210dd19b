"""Make ``CITATION.cff`` from what the project says of itself in ``pyproject.toml``, so that the two cannot differ.

    python -m tests.citation

The project's home is the URL ``Homepage`` there. As long as there is none, the file names none.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import trio_send

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "CITATION.cff"


def citation(project: dict[str, Any], version: str) -> str:
    """Return the text of the file, which is YAML; a string in it is written as in JSON, which YAML knows too.

    Args:
      project: the table of that name.
      version: the project's version.
    """
    lines = [
        "cff-version: 1.2.0",
        'message: "If this software is part of what you publish, please cite it as below."',
        "type: software",
        f"title: {json.dumps(project['name'])}",
        f"version: {json.dumps(version)}",
        f"abstract: {json.dumps(project['description'])}",
        "authors:",
        *(f"  - name: {json.dumps(author['name'])}" for author in project["authors"]),
        "license:",
        *(f"  - {name}" for name in project["license"].split(" OR ")),
        "keywords:",
        *(f"  - {json.dumps(word)}" for word in project["keywords"]),
    ]
    home = project.get("urls", {}).get("Homepage")
    if home:
        lines.append(f"url: {json.dumps(home)}")
    return "\n".join(lines) + "\n"


def expected() -> str:
    """Return what the file of this checkout has to say."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return citation(project, trio_send.__version__)


if __name__ == "__main__":
    FILE.write_text(expected(), "utf-8")
