"""Hold the package to its walls: no private name of one folder is used in another.

Inside a folder a private name of another object may be used, and is used seldom: most of what the modules of a folder
share has plain names, for a record that nobody outside sees needs no underscore.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import trio_send

ROOT = Path(trio_send.__file__).parent

#: What knows Trio's private names, which are none of ours although some read the same.
ABOUT_TRIO = "testing._trio_private"

#: At most so many uses in all, inside the folders.
MOST_INSIDE = 60


class Use(NamedTuple):
    """One use of a private name of another object, or an import of one."""

    module: str
    line: int
    name: str
    homes: frozenset[str]


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def folder_of(path: Path, root: Path) -> str:
    """The folder that a module stands in, or its own name if it stands flat."""
    parts = path.relative_to(root).with_suffix("").parts
    return parts[0]


def defined(tree: ast.Module) -> Iterator[str]:
    """The private names that a module defines: functions, classes, variables, attributes and slots."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"):
                yield node.attr
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and node.value.isidentifier()
        ):
            yield node.value  # a slot


def uses(root: Path) -> list[Use]:
    """Every use of a private name of another object of the package, and every import of one."""
    trees = {path: ast.parse(path.read_text("utf-8")) for path in sorted(root.rglob("*.py"))}
    homes: defaultdict[str, set[str]] = defaultdict(set)
    for path, tree in trees.items():
        for name in filter(is_private, defined(tree)):
            homes[name].add(folder_of(path, root))
    found = []
    for path, tree in trees.items():
        module = ".".join(path.relative_to(root).with_suffix("").parts)
        for node in ast.walk(tree):
            names = []
            if isinstance(node, ast.Attribute) and is_private(node.attr):
                if ast.unparse(node.value) not in ("self", "cls", "super()"):
                    names.append(node.attr)
            elif isinstance(node, ast.ImportFrom) and node.level:
                names += [each.name for each in node.names if is_private(each.name)]
            found += [
                Use(module, node.lineno, name, frozenset(homes[name]))
                for name in names
                if homes[name]
            ]
    return found


def crossing(found: list[Use]) -> list[str]:
    """A sentence for each use that reaches through the wall of a folder."""
    return [
        f"{use.module}, line {use.line}: {use.name} is private to {' and '.join(sorted(use.homes))}"
        for use in found
        if use.module.split(".")[0] not in use.homes
    ]


#: The compiled module is no private name of a folder: it stands beside the folders, and `_socket.accelerate` alone
#: knows it. Modules that stand flat have names as files have.
FLAT = ("_accelerator", "_version")


def test_no_private_name_crosses_a_wall() -> None:
    assert crossing(uses(ROOT)) == []


def test_private_names_of_others_are_few() -> None:
    counts: defaultdict[str, int] = defaultdict(int)
    for use in uses(ROOT):
        if use.name not in FLAT and use.module != ABOUT_TRIO:
            counts[use.module] += 1
    assert sum(counts.values()) <= MOST_INSIDE, dict(counts)


def test_a_use_across_a_wall_is_found(tmp_path: Path) -> None:
    for name, text in {
        "low/thing.py": "class Thing:\n    def __init__(self): self._inner = 1\ndef _make(): ...\n",
        "low/beside.py": "def look(thing): return thing._inner\n",
        "high/user.py": (
            "from ..low.thing import _make\n\ndef use(thing):\n    thing._inner += 1\n    thing._other()\n"
        ),
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    found = uses(tmp_path)
    assert len(found) == 3
    assert crossing(found) == [
        "high.user, line 1: _make is private to low",
        "high.user, line 4: _inner is private to low",
    ]
