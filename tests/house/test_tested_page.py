"""The numbers on the page that says how the library is tested are those of what is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.conformance import read_sections
from tests.mutants import CORE, PACKAGE, ROOT, equivalents, modules_of
from tests.mutations import mutations
from tests.public_calls import CALLS
from tests.striking_threads import THREAD_CALLS

TEXT = " ".join((ROOT / "docs" / "how_it_is_tested.rst").read_text("utf-8").split())

#: What changes with every day of work is said roughly: it may be off by so much.
ROUGHLY = 0.05


def numbers(pattern: str) -> list[int]:
    """The numbers that the page has where # stands in the pattern."""
    found = re.search(pattern.replace("#", r"([\d,]+)"), TEXT)
    assert found is not None, pattern
    return [int(number.replace(",", "")) for number in found.groups()]


def lines_of_code(folder: Path) -> int:
    """Lines that are neither empty, nor a comment, nor in a docstring."""
    count = 0
    for path in folder.rglob("*.py"):
        text = path.read_text("utf-8")
        words = [
            node.body[0]
            for node in ast.walk(ast.parse(text))
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
            and ast.get_docstring(node, clean=False) is not None
        ]
        skipped = {n for each in words for n in range(each.lineno, (each.end_lineno or 0) + 1)}
        for number, line in enumerate(text.splitlines(), 1):
            count += (
                number not in skipped and not line.strip().startswith("#") and bool(line.strip())
            )
    return count


def test_lines() -> None:
    said = numbers(r"lines of code of the library, and of its tests, without comments - # and # ")
    there = [lines_of_code(ROOT / PACKAGE), lines_of_code(ROOT / "tests")]
    assert said == pytest.approx(there, rel=ROUGHLY)


def test_tests(request: pytest.FixtureRequest) -> None:
    there = request.session.testscollected
    if there < 5000:
        pytest.skip("only some of the tests are run")
    assert numbers(r" - tests - # ") == pytest.approx([there], rel=ROUGHLY)


def test_what_is_reached() -> None:
    """The page says no less than what `tox -e coverage` asks for."""
    said = re.findall(r"messages and sockets, and of all - (\d+) % and ([\d.]+) %", TEXT)
    [(core, everything)] = said
    [asked] = re.findall(r"--include=\S+ --fail-under=(\d+)", (ROOT / "tox.ini").read_text("utf-8"))
    assert core == asked
    [least] = re.findall(r"fail_under = (\d+)", (ROOT / "pyproject.toml").read_text("utf-8"))
    assert float(everything) >= int(least)


def test_changes_of_the_code() -> None:
    there = sum(1 for module in modules_of(ROOT, CORE) for _ in mutations(ROOT / PACKAGE, module))
    said = numbers(r"small changes of the code that the tests are tried on - #,? ")
    assert said == pytest.approx([there], rel=ROUGHLY)
    assert numbers(r"tests/mutants_equivalent.toml``; there are # of them") == [
        len(equivalents(ROOT))
    ]


def test_public_calls() -> None:
    names = {call.name for call in CALLS} | {call.name for call in THREAD_CALLS}
    # Each call of Trio's thread is made for the first time, and once more.
    ways = [2 * len(CALLS), len(THREAD_CALLS)]
    assert numbers(r"and the ways to make them - # and # ") == [len(names), sum(ways)]
    assert numbers(r" # public calls, made in # ways in Trio and in # where") == [len(names), *ways]


def test_conformance() -> None:
    sections = read_sections((ROOT / "docs" / "conformance.toml").read_text("utf-8"))
    rows = [row for section in sections for row in section.rows]
    kinds = [sum(row.id[0] == kind for row in rows) for kind in "BSF"]
    assert numbers(r"each held to what its tests show - # ") == [len(rows)]
    assert numbers(r"about \.NET's sockets: #, # and #\. ") == kinds
    assert numbers(r"In # rows it does something else") == [sum(bool(row.differs) for row in rows)]


def test_worlds() -> None:
    [drawn] = re.findall(r"explore run --seeds 0:(\d+)", (ROOT / ".ci" / "run").read_text("utf-8"))
    assert numbers(r"worlds of the explorer that are drawn by ``\.ci/run`` - # ") == [int(drawn)]
