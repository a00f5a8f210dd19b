"""Hold the package to its rooms: imports point downward only, and only the command line runs Trio.

The tests read the source and never import it. An import counts wherever it stands: at the top, inside a function, or
under ``TYPE_CHECKING``. A module that needs another one's names just for its annotations depends on it all the same.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Iterator, Set as AbstractSet
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = "trio_send"

#: Every module and the layer that it stands on. A module may import from strictly lower layers, so modules that share a
#: number do not know each other. Names are relative to the package; "" is its ``__init__``, and the name of a package
#: further down is that package's ``__init__``. The tens are the rooms, the units the order inside a room.
LAYERS = {
    # What everything rests on.
    "_version": 0,
    "_util": 0,
    "_codes": 0,
    "_addresses": 0,
    "_exceptions": 1,
    "_statistics": 1,
    "_groups": 1,
    "_buffers": 2,
    "_datagrams": 3,
    # One operation, and the kernel.
    "_wait_handle": 10,
    "_port": 11,
    "_files": 12,
    "_packet_elements": 13,
    "_packets": 14,
    "_operation": 15,
    "_instruments": 16,
    "_timers": 16,
    "_torn": 16,
    "_watermarks": 16,
    "_audience": 17,
    # Many operations.
    "_queue": 20,
    "_attempts": 21,
    "_send_queue": 22,
    "_door": 25,
    "_engine": 25,
    "_dispatcher": 25,
    # Whose operations they are: an initiator's, those of a task that awaits them, or of another thread.
    "_awaiting": 30,
    "_leaving": 30,
    "_initiator": 31,
    "_thread_initiator": 32,
    # The faces of an operation.
    "_completed_event": 40,
    "_configured_operation": 40,
    "_event_args": 41,
    "_async_result": 41,
    # The public socket.
    "_resolving": 50,
    "_stream": 50,
    "_trio_face": 50,
    "_audit": 50,
    "_back_pressure": 50,
    "_endpoint": 51,
    "_auditing": 52,
    "_sending": 52,
    "_resuming": 53,
    "_sending_files": 53,
    "_begin_end": 53,
    "_sending_to": 54,
    "_sending_datagrams": 55,
    "_connecting": 56,
    "_accepting": 57,
    "_disconnecting": 58,
    "_receiving": 59,
    "_socket": 60,
    # Faces for code that exists already, for threads, for pooled servers.
    "_logging_instrument": 62,
    "_counting_instrument": 63,
    "_pool": 61,
    "abc": 61,
    "_threads": 61,
    "_thread_scope": 62,
    "_thread_starts": 62,
    "_thread_waits": 62,
    "from_thread": 63,
    # The public names, above everything that they are gathered from. What follows uses them as any user does.
    "": 65,
    "testing._scripted_port": 70,
    "testing": 75,
    "timeline": 75,
    "_cli._addresses": 80,
    "_cli._bench_peer": 80,
    "_cli._chunks": 80,
    "_cli._command": 80,
    "_cli._failures": 80,
    "_cli._interleave": 80,
    "_cli._values": 80,
    "_cli._interruption": 81,
    "_cli._output": 81,
    "_cli._source": 81,
    "_cli._bench_link": 82,
    "_cli._endpoints": 82,
    "_cli._faces": 82,
    "_cli._meter": 82,
    "_cli._reception": 82,
    "_cli._contenders": 83,
    "_cli._embedded": 83,
    "_cli._transfer": 83,
    "_cli._leaving": 84,
    "_cli._transmission": 84,
    "_cli._report": 85,
    "_cli._three_faces": 85,
    "_cli._bench": 86,
    "_cli._demo": 86,
    "_cli._send": 86,
    "_cli._sink": 86,
    "_cli._parser": 87,
    "_cli": 88,
    "__main__": 89,
}

#: What a type checker alone may see upward, so that the type of a property is told in full. Nothing is imported.
TYPES_ONLY = {
    ("_stream", "_socket"),
    # Whose operations a callback of another thread's send starts.
    ("_initiator", "_thread_initiator"),
    # The socket that an accept or a connect made.
    ("_event_args", "_socket"),
    # The operation that was cut.
    ("_torn", "_async_result"),
    ("_torn", "_event_args"),
}

#: Who may start Trio. Everybody else has to work in whatever run, host loop or thread they are called from.
MAY_RUN_TRIO = ("_cli", "__main__")

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
    """Every module below ``root``, the package's directory."""
    for path in sorted(root.rglob("*.py")):
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


def layer_faults(
    root: Path,
    package: str,
    layers: dict[str, int],
    types_only: AbstractSet[tuple[str, str]] = frozenset(),
) -> list[str]:
    """A sentence for each import that does not point downward, and for each module without a layer."""
    faults = []
    tree_of = {source: ast.parse(source.path.read_text("utf-8")) for source in sources(root)}
    modules = {source.name for source in tree_of}
    for name in sorted(modules - layers.keys()):
        faults.append(f"{full_name(package, name)} has no layer: give it a layer in LAYERS")
    for source, tree in tree_of.items():
        for target, line, unseen in imports(tree, package, source):
            reached = module_of(target, package, modules)
            if reached is None or source.name not in layers or reached not in layers:
                continue
            if unseen and (source.name, reached) in types_only:
                continue
            if layers[reached] >= layers[source.name]:
                faults.append(
                    f"{full_name(package, source.name)}, line {line}: "
                    f"layer {layers[source.name]} imports {full_name(package, reached)} "
                    f"of layer {layers[reached]}, but may import from lower layers only"
                )
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


def trio_faults(root: Path, package: str, may_run: tuple[str, ...]) -> list[str]:
    """A sentence for each use of trio's private names, and for each start of Trio outside ``may_run``."""
    faults = []
    for source in sources(root):
        for name, line, _ in sorted(set(trio_uses(ast.parse(source.path.read_text("utf-8"))))):
            where = f"{full_name(package, source.name)}, line {line}"
            if any(map(is_private, name.split("."))):
                faults.append(f"{where}: {name} is private to trio and may change in any release")
            if name in STARTS_TRIO and source.name.split(".")[0] not in may_run:
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
    assert layer_faults(root, PACKAGE, LAYERS, TYPES_ONLY) == []


def test_no_import_is_hidden(root: Path) -> None:
    assert hidden_import_faults(root, PACKAGE) == []


def test_trio_is_used_through_its_public_names_and_never_run(root: Path) -> None:
    assert trio_faults(root, PACKAGE, MAY_RUN_TRIO) == []


def test_run_time_imports_are_the_declared_ones(root: Path) -> None:
    allowed = {PACKAGE, "attr", "attrs", "exceptiongroup", "outcome", "rich", "trio"}
    # Only ever imported for type checkers, so nothing asks for it at run time.
    allowed.add("typing_extensions")
    found = set()
    for source in sources(root):
        for target, _, _ in imports(ast.parse(source.path.read_text("utf-8")), PACKAGE, source):
            found.add(target.split(".")[0])
    assert found - allowed - sys.stdlib_module_names == set()


# The checker itself ---------------------------------------------------------------------------

MADE_UP_LAYERS = {"_low": 0, "_side": 0, "_high": 1, "": 2, "cli": 3, "cli._parts": 1}


@pytest.fixture
def made_up(tmp_path: Path) -> Path:
    """A small package in which everything is as it should be."""
    root = tmp_path / "made_up"
    (root / "cli").mkdir(parents=True)
    files = {
        "__init__.py": "from ._high import High as High\n",
        "_low.py": "import trio\n\ntrio.lowlevel.checkpoint\ntrio.__version__\n",
        "_side.py": "import os, json.decoder\nfrom trio.lowlevel import checkpoint\n",
        "_high.py": "from . import _low\nfrom ._side import name\nimport made_up._low\n",
        "cli/__init__.py": "import trio\nfrom .. import High\nfrom ._parts import part\n\ntrio.run(High)\n",
        "cli/_parts.py": "from .._low import name\nimport trio\n\ntrio.from_thread.run(name)\n",
    }
    for name, text in files.items():
        (root / name).write_text(text, "utf-8")
    return root


def all_faults(root: Path) -> list[str]:
    return [
        *layer_faults(root, "made_up", MADE_UP_LAYERS),
        *trio_faults(root, "made_up", ("cli",)),
        *hidden_import_faults(root, "made_up"),
    ]


def test_an_exception_for_types_holds_for_types_alone(made_up: Path) -> None:
    allowed = {("_low", "_high")}
    (made_up / "_low.py").write_text("if TYPE_CHECKING:\n    from ._high import High", "utf-8")
    assert layer_faults(made_up, "made_up", MADE_UP_LAYERS, allowed) == []
    (made_up / "_low.py").write_text("if True:\n    from ._high import High", "utf-8")
    assert len(layer_faults(made_up, "made_up", MADE_UP_LAYERS, allowed)) == 1


def test_the_checker_has_nothing_against_a_good_tree(made_up: Path) -> None:
    assert all_faults(made_up) == []


@pytest.mark.parametrize(
    ("file", "text", "fault"),
    [
        ("_low.py", "from ._high import High", "imports made_up._high of layer 1"),
        ("_low.py", "from . import _high", "imports made_up._high of layer 1"),
        ("_low.py", "from . import High", "imports made_up of layer 2"),
        ("_low.py", "import made_up", "imports made_up of layer 2"),
        ("_low.py", "import made_up._high", "imports made_up._high of layer 1"),
        ("_low.py", "import made_up._high as high", "imports made_up._high of layer 1"),
        ("_low.py", "from made_up._high import *", "imports made_up._high of layer 1"),
        ("_low.py", "from ._side import name", "imports made_up._side of layer 0"),
        (
            "_low.py",
            "def f():\n    from ._high import High",
            "line 2: layer 0 imports made_up._high",
        ),
        (
            "_low.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ._high import High",
            "line 3: layer 0 imports made_up._high",
        ),
        ("__init__.py", "from .cli import part", "layer 2 imports made_up.cli of layer 3"),
        ("__init__.py", "from . import cli", "layer 2 imports made_up.cli of layer 3"),
        ("cli/_parts.py", "from . import part", "imports made_up.cli of layer 3"),
        ("cli/_parts.py", "from .. import High", "imports made_up of layer 2"),
        ("_unheard_of.py", "", "made_up._unheard_of has no layer: give it a layer"),
        ("cli/_unheard_of.py", "", "made_up.cli._unheard_of has no layer: give it a layer"),
        ("_low.py", "import trio\ntrio.run(main)", "trio.run is for the program to call"),
        ("_low.py", "import trio as t\nt.run(main)", "trio.run is for the program to call"),
        ("_low.py", "from trio import run", "trio.run is for the program to call"),
        (
            "_low.py",
            "from trio import lowlevel\nlowlevel.start_guest_run()",
            "trio.lowlevel.start_guest_run is for the program to call",
        ),
        ("_low.py", "import trio._core", "trio._core is private to trio"),
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
