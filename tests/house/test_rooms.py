"""Hold the package to its rooms: imports point downward only, and only the command line runs Trio.

The tests read the source and never import it. An import counts wherever it stands: at the top, inside a function, or
under ``TYPE_CHECKING``. A module that needs another one's names just for its annotations depends on it all the same.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Iterator, Sequence, Set as AbstractSet
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = "trio_send"

#: The folders and flat modules of the package, from the ground up. A module may import from those that stand before its
#: own, and from its own folder as long as no import leads in a circle. Names are relative to the package; "" is its
#: ``__init__``. A folder stands for all that is below it.
FOLDERS = (
    "_version",
    "_accelerator",
    "_base",
    "_kernel",
    "_messages",
    "_tracing",
    "_operations",
    "_owners",
    "_socket",
    "abc",
    "otel",
    "_threads",
    "from_thread",
    # The public names, above everything that they are gathered from. What follows uses them as any user does.
    "",
    "timeline",
    "testing",
    "_cli",
    "__main__",
)

#: Imports that point upward all the same.
UPWARD: frozenset[tuple[str, str]] = frozenset(
    {
        # What is watched.
        ("_tracing.instruments", "_operations.operation"),
        ("_tracing.instrument", "_operations.operation"),
    }
)

#: What a type checker alone may see upward, so that the type of a property is told in full. Nothing is imported.
TYPES_ONLY = {
    ("_socket.stream", "_socket.socket"),
    # The socket that an accept or a connect made.
    ("_socket.event_args", "_socket.socket"),
    # What a handler is called with.
    ("_socket.completed_event", "_socket.event_args"),
    ("_socket.completed_event", "_socket.socket"),
}

#: Who may start Trio. Everybody else has to work in whatever run, host loop or thread they are called from.
MAY_RUN_TRIO = ("_cli", "__main__", "testing._comparison", "testing._runner")

#: Who may use what is private to Trio: one module, which says what is lost without it.
MAY_KNOW_TRIO = ("testing._trio_private",)

STARTS_TRIO = {"trio.run", "trio.lowlevel.start_guest_run"}


class Source(NamedTuple):
    """One module of a tree."""

    name: str  # relative to the package, "" for its __init__
    is_package: bool
    path: Path


class Import(NamedTuple):
    """One name that a module imports, in full."""

    target: str
    line: int
    types_only: bool = False


# The checker ----------------------------------------------------------------------------------


def sources(root: Path) -> Iterator[Source]:
    """Every module below ``root``, the package's directory; a compiled one is there as its stub."""
    for path in sorted([*root.rglob("*.py"), *root.rglob("*.pyi")]):
        parts = path.relative_to(root).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        yield Source(".".join(parts[:-1] if is_package else parts), is_package, path)


def full_name(package: str, name: str) -> str:
    return f"{package}.{name}" if name else package


def imports(tree: ast.Module, package: str, source: Source) -> Iterator[Import]:
    """Every import in ``tree``, with relative ones written out."""
    here = full_name(package, source.name).split(".")
    unseen = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno, node in unseen)
        elif isinstance(node, ast.ImportFrom):
            # One dot is the package that the module is in, which for an __init__ is the package itself.
            up = len(here) - node.level + source.is_package
            base = here[:up] if node.level else []
            origin = ".".join([*base, node.module] if node.module else base)
            for alias in node.names:
                yield Import(f"{origin}.{alias.name}", node.lineno, node in unseen)


def module_of(target: str, package: str, modules: set[str]) -> str | None:
    """The module of the package that an import of ``target`` reaches; None if it leads elsewhere.

    ``from . import _codes`` reaches a module, ``from . import Socket`` a name in one.
    """
    if target != package and not target.startswith(f"{package}."):
        return None
    name = target[len(package) + 1 :]
    while name and name not in modules:
        name = name.rpartition(".")[0]
    return name


def folder_of(module: str, folders: Sequence[str]) -> str | None:
    """The folder or flat module of ``folders`` that ``module`` belongs to; None if there is none."""
    while module and module not in folders:
        module = module.rpartition(".")[0]
        if not module:
            return None
    return module if module in folders else None


def circle(arrows: dict[str, set[str]]) -> list[str]:
    """Modules that import each other in a circle, in that order; empty if there are none."""
    done: set[str] = set()

    def search(module: str, way: list[str]) -> list[str]:
        if module in way:
            return way[way.index(module) :]
        if module in done:
            return []
        for reached in sorted(arrows.get(module, ())):
            if found := search(reached, [*way, module]):
                return found
        done.add(module)
        return []

    for module in sorted(arrows):
        if found := search(module, []):
            return found
    return []


def layer_faults(
    root: Path,
    package: str,
    folders: Sequence[str],
    upward: AbstractSet[tuple[str, str]] = frozenset(),
    types_only: AbstractSet[tuple[str, str]] = frozenset(),
) -> list[str]:
    """A sentence for each import that points upward or in a circle, and for each module without a folder."""
    faults = []
    tree_of = {source: ast.parse(source.path.read_text("utf-8")) for source in sources(root)}
    modules = {source.name for source in tree_of}
    place = {}
    for name in sorted(modules):
        folder = folder_of(name, folders)
        if folder is None:
            faults.append(f"{full_name(package, name)} has no folder: give it a place in FOLDERS")
        else:
            place[name] = folders.index(folder)
    arrows: dict[str, set[str]] = {}
    for source, tree in tree_of.items():
        for target, line, unseen in imports(tree, package, source):
            reached = module_of(target, package, modules)
            if reached is None or source.name not in place or reached not in place:
                continue
            pair = (source.name, reached)
            if pair in upward or (unseen and pair in types_only):
                continue
            if place[reached] > place[source.name]:
                faults.append(
                    f"{full_name(package, source.name)}, line {line}: imports "
                    f"{full_name(package, reached)}, which stands above it"
                )
            elif place[reached] == place[source.name]:
                if reached in folders:
                    faults.append(
                        f"{full_name(package, source.name)}, line {line}: imports from the folder "
                        f"{full_name(package, reached)} that it stands in, not from a module"
                    )
                else:
                    arrows.setdefault(source.name, set()).add(reached)
    if found := circle(arrows):
        names = " -> ".join(full_name(package, name) for name in [*found, found[0]])
        faults.append(f"a circle of imports: {names}")
    return faults


def trio_uses(tree: ast.Module) -> Iterator[Import]:
    """Every dotted name of trio's that ``tree`` imports or reaches through an import, by its real name."""
    names: dict[str, str] = {}  # what a name in this module stands for
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "trio":
                    yield Import(alias.name, node.lineno)
                    names[alias.asname or "trio"] = alias.name if alias.asname else "trio"
        elif isinstance(node, ast.ImportFrom) and not node.level:
            origin = node.module or ""
            if origin.split(".")[0] == "trio":
                for alias in node.names:
                    yield Import(f"{origin}.{alias.name}", node.lineno)
                    names[alias.asname or alias.name] = f"{origin}.{alias.name}"
    for node in ast.walk(tree):
        attributes: list[str] = []
        inner: ast.AST = node
        while isinstance(inner, ast.Attribute):
            attributes.insert(0, inner.attr)
            inner = inner.value
        if attributes and isinstance(inner, ast.Name) and inner.id in names:
            yield Import(".".join([names[inner.id], *attributes]), inner.lineno)


def is_private(name: str) -> bool:
    return name.startswith("_") and not (name.startswith("__") and name.endswith("__"))


def trio_faults(
    root: Path, package: str, may_run: tuple[str, ...], may_know: tuple[str, ...] = ()
) -> list[str]:
    """A sentence for each start of Trio outside ``may_run``, and each of its private names outside ``may_know``."""
    faults = []
    for source in sources(root):
        starts_trio = folder_of(source.name, may_run) is not None
        knows_trio = folder_of(source.name, may_know) is not None
        for name, line, _ in sorted(set(trio_uses(ast.parse(source.path.read_text("utf-8"))))):
            where = f"{full_name(package, source.name)}, line {line}"
            if any(map(is_private, name.split("."))) and not knows_trio:
                faults.append(f"{where}: {name} is private to trio and may change in any release")
            if name in STARTS_TRIO and not starts_trio:
                faults.append(f"{where}: {name} is for the program to call, not for a library")
    return faults


def hidden_import_faults(root: Path, package: str) -> list[str]:
    """A sentence for each import by a string: it would escape the other checks."""
    faults = []
    for source in sources(root):
        for node in ast.walk(ast.parse(source.path.read_text("utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            called = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            called = node.func.id if isinstance(node.func, ast.Name) else called
            if called in {"import_module", "__import__"}:
                faults.append(
                    f"{full_name(package, source.name)}, line {node.lineno}: "
                    f"{called}() hides what is imported; write an import statement"
                )
    return faults


# The package ----------------------------------------------------------------------------------


@pytest.fixture
def root() -> Path:
    spec = importlib.util.find_spec(PACKAGE)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def test_imports_point_downward(root: Path) -> None:
    assert layer_faults(root, PACKAGE, FOLDERS, UPWARD, TYPES_ONLY) == []


def test_no_import_is_hidden(root: Path) -> None:
    assert hidden_import_faults(root, PACKAGE) == []


def test_trio_is_run_and_known_from_within_only_where_that_is_said(root: Path) -> None:
    assert trio_faults(root, PACKAGE, MAY_RUN_TRIO, MAY_KNOW_TRIO) == []


def test_run_time_imports_are_the_declared_ones(root: Path) -> None:
    allowed = {PACKAGE, "attr", "attrs", "exceptiongroup", "outcome", "trio"}
    # Of the extras.
    allowed |= {"opentelemetry", "rich"}
    # Of those who test with it, by the plugin for it.
    allowed.add("pytest")
    # Only ever imported for type checkers, so nothing asks for it at run time.
    allowed.add("typing_extensions")
    found = set()
    for source in sources(root):
        for target, _, _ in imports(ast.parse(source.path.read_text("utf-8")), PACKAGE, source):
            found.add(target.split(".")[0])
    assert found - allowed - sys.stdlib_module_names == set()


# The checker itself ---------------------------------------------------------------------------

MADE_UP_FOLDERS = ("_low", "_side", "_room", "_high", "", "cli")


@pytest.fixture
def made_up(tmp_path: Path) -> Path:
    """A small package in which everything is as it should be."""
    root = tmp_path / "made_up"
    (root / "cli").mkdir(parents=True)
    (root / "_room").mkdir()
    files = {
        "__init__.py": "from ._high import High as High\n",
        "_low.py": "import trio\n\ntrio.lowlevel.checkpoint\ntrio.__version__\n",
        "_side.py": "import os, json.decoder\nfrom trio.lowlevel import checkpoint\nimport trio._core\n",
        "_high.py": "from . import _low\nfrom ._side import name\nimport made_up._low\n",
        "_room/__init__.py": "",
        "_room/one.py": "from .._low import name\nimport trio\n\ntrio.run(name)\n",
        "_room/two.py": "from .one import name\nfrom trio._core import _run\n",
        "cli/__init__.py": "import trio\nfrom .. import High\nfrom ._parts import part\n\ntrio.run(High)\n",
        "cli/_parts.py": "from .._low import name\nimport trio\n\ntrio.from_thread.run(name)\n",
    }
    for name, text in files.items():
        (root / name).write_text(text, "utf-8")
    return root


def all_faults(root: Path) -> list[str]:
    return [
        *layer_faults(root, "made_up", MADE_UP_FOLDERS),
        *trio_faults(root, "made_up", ("cli", "_room.one"), ("_side", "_room.two")),
        *hidden_import_faults(root, "made_up"),
    ]


def test_an_exception_for_types_holds_for_types_alone(made_up: Path) -> None:
    allowed = {("_low", "_high")}
    (made_up / "_low.py").write_text("if TYPE_CHECKING:\n    from ._high import High", "utf-8")
    assert layer_faults(made_up, "made_up", MADE_UP_FOLDERS, types_only=allowed) == []
    (made_up / "_low.py").write_text("if True:\n    from ._high import High", "utf-8")
    assert len(layer_faults(made_up, "made_up", MADE_UP_FOLDERS, types_only=allowed)) == 1


def test_the_checker_has_nothing_against_a_good_tree(made_up: Path) -> None:
    assert all_faults(made_up) == []


@pytest.mark.parametrize(
    ("file", "text", "fault"),
    [
        ("_low.py", "from ._high import High", "imports made_up._high, which stands above it"),
        ("_low.py", "from . import _high", "imports made_up._high, which stands above it"),
        ("_low.py", "from . import High", "imports made_up, which stands above it"),
        ("_low.py", "import made_up", "imports made_up, which stands above it"),
        ("_low.py", "import made_up._high", "imports made_up._high, which stands above it"),
        ("_low.py", "import made_up._high as high", "imports made_up._high, which stands above it"),
        ("_low.py", "from made_up._high import *", "imports made_up._high, which stands above it"),
        ("_low.py", "from ._side import name", "imports made_up._side, which stands above it"),
        ("_low.py", "from ._room.two import name", "imports made_up._room.two, which stands above"),
        (
            "_low.py",
            "def f():\n    from ._high import High",
            "line 2: imports made_up._high",
        ),
        (
            "_low.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ._high import High",
            "line 3: imports made_up._high",
        ),
        (
            "_room/one.py",
            "from .two import name",
            "a circle of imports: made_up._room.one -> made_up._room.two -> made_up._room.one",
        ),
        ("_room/one.py", "from . import name", "imports from the folder made_up._room that it"),
        ("__init__.py", "from .cli import part", "imports made_up.cli, which stands above it"),
        ("__init__.py", "from . import cli", "imports made_up.cli, which stands above it"),
        ("cli/_parts.py", "from . import part", "imports from the folder made_up.cli that it"),
        ("_unheard_of.py", "", "made_up._unheard_of has no folder: give it a place"),
        ("_low.py", "import trio\ntrio.run(main)", "trio.run is for the program to call"),
        ("_low.py", "import trio as t\nt.run(main)", "trio.run is for the program to call"),
        ("_low.py", "from trio import run", "trio.run is for the program to call"),
        (
            "_low.py",
            "from trio import lowlevel\nlowlevel.start_guest_run()",
            "trio.lowlevel.start_guest_run is for the program to call",
        ),
        ("_low.py", "import trio._core", "trio._core is private to trio"),
        # One module of a room may do what the others may not.
        ("_room/one.py", "import trio._core", "trio._core is private to trio"),
        ("_room/__init__.py", "import trio._core", "trio._core is private to trio"),
        ("_room/two.py", "import trio\ntrio.run(main)", "trio.run is for the program to call"),
        ("_low.py", "from trio._util import final", "trio._util.final is private to trio"),
        ("_low.py", "from trio import _core", "trio._core is private to trio"),
        (
            "_low.py",
            "import trio\ntrio.lowlevel._private()",
            "trio.lowlevel._private is private to trio",
        ),
        ("cli/_parts.py", "import trio\ntrio._core", "trio._core is private to trio"),
        (
            "_low.py",
            "import importlib\nimportlib.import_module('made_up')",
            "import_module() hides",
        ),
        ("_low.py", "__import__('made_up')", "__import__() hides"),
    ],
)
def test_the_checker_bites(made_up: Path, file: str, text: str, fault: str) -> None:
    (made_up / file).write_text(text + "\n", "utf-8")
    faults = all_faults(made_up)
    assert len(faults) == 1
    assert fault in faults[0]
