"""Which tests reach which lines, so that of a change only those need be run that could notice it.

A test that never comes to a line cannot see that the line reads something else. What was found is kept in the folder
`build` of the checkout, one file for each file of tests, for as long as neither that file nor anything that all tests
stand on has changed.
"""

from __future__ import annotations

import ast
import hashlib
import json
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import attrs

from tests.clones import PACKAGE
from tests.mirrored import files_naming, own_file
from tests.mutations import Mutation

#: Where what is done by the package is tested, as opposed to how its text is kept, and what it costs.
LEFT_OUT = ("house", "examples")

#: The tests that look whether Ctrl-C could come in between.
_OF_PROTECTION = (
    "tests/operations/test_protected_steps.py",
    "tests/whole/test_interrupts.py",
    "tests/whole/test_strikes.py::test_what_is_changed",
)

#: So many seconds of tests, from so many files, are near.
_NEAR = 6.0, 5


def test_files(root: Path) -> list[str]:
    """The files of tests that may notice something."""
    found = sorted((root / "tests").glob("*/test_*.py"))
    return [each.relative_to(root).as_posix() for each in found if each.parent.name not in LEFT_OUT]


def _digest(paths: Iterable[Path]) -> str:
    digest = hashlib.sha256(sys.version.encode())
    for path in sorted(paths):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:20]


class Records:
    """What is kept of one checkout.

    Attributes:
      files: those of tests that may notice something.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self.files = test_files(root)
        helpers = [*(root / PACKAGE).rglob("*.py"), *(root / "tests").glob("*.py")]
        tools = {
            f"{name}.py"
            for name in (
                "mutants",
                "mutations",
                "clones",
                "reached_lines",
                "warm_tests",
                "changed_code",
                "mirrored",
            )
        }
        self._common = _digest(each for each in helpers if each.name not in tools)

    def path(self, file: str) -> Path:
        """Where it is kept what the tests of a file reach."""
        own = _digest([self._root / file])
        name = file.replace("/", "+").removesuffix(".py")
        return self._root / "build" / "reached" / f"{name}-{self._common}-{own}.json"

    def missing(self) -> list[str]:
        """The files of tests of which it is not known."""
        return [file for file in self.files if not self.path(file).exists()]

    def keep(self, file: str, tests: dict[str, Any]) -> None:
        path = self.path(file)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(tests), "utf-8")

    def read(self) -> Reach:
        reach = Reach(self._root)
        for file in self.files:
            path = self.path(file)
            if path.exists():
                reach.add(json.loads(path.read_text("utf-8")))
        return reach


@attrs.frozen
class TimedTest:
    """One test: its name for pytest, and how many seconds it takes."""

    name: str
    seconds: float

    @property
    def file(self) -> str:
        return self.name.partition("::")[0]


class Reach:
    """Which tests reach which lines."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._by_line: dict[tuple[str, int], list[TimedTest]] = defaultdict(list)
        self._by_module: dict[str, list[TimedTest]] = defaultdict(list)
        self._naming = files_naming(root / "tests")

    def add(self, tests: dict[str, Any]) -> None:
        for name, (seconds, modules) in tests.items():
            test = TimedTest(name, seconds)
            for module, lines in modules.items():
                self._by_module[module].append(test)
                for line in lines:
                    self._by_line[module, line].append(test)

    def tests_of(self, mutation: Mutation) -> list[TimedTest]:
        """The tests that could notice a change, the nearest first.

        Near are quick tests, and those in the files that are for the module, and in its folder, and of many that differ
        in their parameters alone the first, and those whose parameter is the function.
        """
        source = (self._root / PACKAGE / mutation.module).read_bytes()
        found: set[TimedTest] = set()
        for line in lines_of(source, mutation):
            found.update(self._by_line.get((mutation.module, line), ()))
        found = found or set(self._by_module[mutation.module])
        if not found:  # the module has constants alone, and nobody knows who reads them
            found.update(*self._by_module.values())
        module = mutation.module.removesuffix(".py").replace("/", ".")
        files = {f"tests/{file}" for file in (own_file(module), *self._naming.get(module, ()))}
        folder = own_file(module).rpartition("/")[0]
        alike: dict[str, list[TimedTest]] = defaultdict(list)
        for test in sorted(found, key=lambda test: (round(test.seconds, 2), _lot(test.name))):
            alike[test.name.partition("[")[0]].append(test)
        called = mutation.function.rpartition(".")[2] or module.rpartition(".")[2]
        far: dict[TimedTest, float] = {}
        for function, tests in alike.items():
            distance = 2.0 if function.startswith(f"tests/{folder}/") else 4.0
            if function.partition("::")[0] in files:
                distance = 1.0
            if mutation.kind == "decorator" and function.startswith(_OF_PROTECTION):
                distance = 0.01
            for number, test in enumerate(tests, 1):
                far[test] = distance * number * (test.seconds + 0.02)
                if called in test.name.partition("[")[2]:
                    far[test] /= 100
        return sorted(far, key=lambda test: (far[test], test.name))


def _lot(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def near(tests: list[TimedTest]) -> tuple[list[TimedTest], list[TimedTest]]:
    """Those to begin with, each file's together, and the others."""
    seconds, files = 0.0, dict.fromkeys(test.file for test in tests[:1])
    chosen: list[TimedTest] = []
    most_seconds, most_files = _NEAR
    for test in tests:
        if test.file in files or len(files) < most_files:
            files[test.file] = None
            seconds += test.seconds
            if chosen and seconds > most_seconds:
                break
            chosen.append(test)
    taken = set(chosen)
    return by_file(chosen), by_file(test for test in tests if test not in taken)


def by_file(tests: Iterable[TimedTest]) -> list[TimedTest]:
    """The same tests, with those of a file together, which is then looked through once."""
    files: dict[str, list[TimedTest]] = {}
    for test in tests:
        files.setdefault(test.file, []).append(test)
    return [test for each in files.values() for test in each]


def lines_of(source: bytes, mutation: Mutation) -> set[int]:
    """The lines of which one has to be reached for a change to make a difference.

    Of a change in a function: those of the statement, without the blocks below it. Of one to the decorators or the
    parameters of a function: all of its lines. None, of what stands in no function.
    """
    begin, end = mutation.lines(source)
    function: ast.FunctionDef | ast.AsyncFunctionDef | None = None
    statement: ast.stmt | None = None
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.stmt) or node.end_lineno is None:
            continue
        first = node.lineno
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            first = min([first, *(each.lineno for each in node.decorator_list)])
        if first <= begin <= node.end_lineno:
            # What is found later is further inside.
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                function = node
            statement = node
    if function is None or statement is None:
        return set()
    if statement is function:
        return set(range(function.body[0].lineno, (function.end_lineno or 0) + 1))
    last = statement.end_lineno or begin
    if isinstance(statement, ast.Match):
        last = statement.cases[0].body[0].lineno
    elif getattr(statement, "body", None):
        last = statement.body[0].lineno - 1  # type: ignore[attr-defined]
    return set(range(statement.lineno, max(last, statement.lineno, end) + 1))
