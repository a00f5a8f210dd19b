"""Which file of tests is for which module: the one of its name, and those that name it in their heads.

A file that tests modules of other names says so in the last paragraph of its docstring, such as ``Modules: _base.tries,
_operations.cut.``, by their names below the package.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path


def own_file(module: str) -> str:
    """The test file of a module's name, relative to the tests."""
    *folders, name = (part.strip("_") for part in module.split("."))
    return "/".join([*folders, f"test_{name}.py"])


def named_modules(path: Path) -> list[str]:
    """The modules that the head of a test file names; empty if it names none.

    Raises:
      ValueError: it names them in another form.
    """
    head = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    paragraphs = [" ".join(paragraph.split()) for paragraph in head.split("\n\n")]
    found = [paragraph for paragraph in paragraphs if paragraph.startswith("Modules:")]
    if not found:
        return []
    if found != paragraphs[-1:] or not re.fullmatch(r"Modules: [\w.]+(, [\w.]+)*\.", found[0]):
        raise ValueError("names modules otherwise than in a last paragraph 'Modules: a, b.'")
    return found[0].removeprefix("Modules: ").removesuffix(".").split(", ")


def files_naming(tests: Path) -> dict[str, list[str]]:
    """For each module that is named in heads, the files that do so, relative to the tests."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for path in sorted(tests.rglob("test_*.py")):
        for module in named_modules(path):
            found[module].append(path.relative_to(tests).as_posix())
    return dict(found)
