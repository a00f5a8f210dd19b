"""Make the table of how the library stands to .NET's documentation and behaviour, and check that it holds.

``docs/conformance.toml`` has a row for each sentence of the two pages and for each known fact. A test says with
``@pytest.mark.page("B07")`` or ``@pytest.mark.fact("F001")`` which rows it shows. From both come
``docs/conformance.md`` and a page for each section in ``docs/conformance/``::

    python -m tests.conformance            # write them
    python -m tests.conformance --check    # only say what is wrong

The tests are read, not imported or run, so a test counts that this machine would skip.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import attrs

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent

#: Which marker goes with which letter, and how many digits follow it.
NUMBERS = {"fact": re.compile(r"F\d{3}"), "page": re.compile(r"[BS]\d{2}")}


# The rows -------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Row:
    """One sentence of a page, or one fact.

    Either it does not apply, and ``not_here`` says why; or ``here`` says what the library does, and where that is
    something else on purpose, ``differs`` gives the reason.
    """

    id: str
    says: str
    where: str = ""
    here: str = ""
    differs: str = ""
    not_here: str = ""

    @property
    def applies(self) -> bool:
        return not self.not_here


class Section(NamedTuple):
    """Rows that belong together."""

    title: str
    rows: tuple[Row, ...]


def read_sections(text: str) -> list[Section]:
    """The sections of the data file."""
    return [
        Section(section["title"], tuple(Row(**row) for row in section["row"]))
        for section in tomllib.loads(text)["section"]
    ]


def row_faults(sections: list[Section]) -> Iterator[str]:
    """A sentence for each row that says too much or too little, and for each number that is amiss."""
    last: dict[str, int] = {}
    for row in (row for section in sections for row in section.rows):
        if not any(number.fullmatch(row.id) for number in NUMBERS.values()):
            yield f"{row.id} is no number of a row"
            continue
        letter, number = row.id[0], int(row.id[1:])
        if number != last.get(letter, 0) + 1:
            yield f"{row.id} does not follow {letter}{last.get(letter, 0):0{len(row.id) - 1}}"
        last[letter] = number
        if row.not_here and (row.here or row.differs):
            yield f"{row.id} does not apply, and yet says what is done"
        if row.applies and not row.here:
            yield f"{row.id} applies, and does not say what is done"


# The tests ------------------------------------------------------------------------------------


class Mark(NamedTuple):
    """One use of a marker."""

    row: str
    path: str  # relative to the root
    test: str


def called_marker(node: ast.AST) -> str | None:
    """Return "fact" for the call ``pytest.mark.fact(...)``; None for what is no such call."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
        return None
    if node.func.attr in NUMBERS and ast.unparse(node.func.value) == "pytest.mark":
        return node.func.attr
    return None


class MarkFinder(ast.NodeVisitor):
    """Finds which tests of a file carry which rows, and the markers that lead nowhere."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.marks: list[Mark] = []
        self.faults: list[str] = []
        self._owner: list[str] = []

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._visit_definition(node, "Test")

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._visit_definition(node, "test_")

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._visit_definition(node, "test_")

    def _visit_definition(
        self, node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef, prefix: str
    ) -> None:
        self._owner.append(node.name)
        is_test = node.name.startswith(prefix)
        for decorator in node.decorator_list:
            for inner in ast.walk(decorator):  # also the marks of single parameters
                self._note(inner, "::".join(self._owner) if is_test else None)
        for statement in node.body:
            self.visit(statement)
        self._owner.pop()

    def visit_Call(self, node: ast.Call) -> None:
        self._note(node, None)
        self.generic_visit(node)

    def _note(self, node: ast.AST, test: str | None) -> None:
        marker = called_marker(node)
        if marker is None:
            return
        assert isinstance(node, ast.Call)
        where = f"{self.path}, line {node.lineno}"
        if test is None:
            self.faults.append(f"{where}: this marker belongs to no test")
        if not node.args or node.keywords:
            self.faults.append(f"{where}: {marker}() takes the numbers of rows")
        for argument in node.args:
            row = argument.value if isinstance(argument, ast.Constant) else None
            if not isinstance(row, str) or not NUMBERS[marker].fullmatch(row):
                self.faults.append(f"{where}: {ast.unparse(argument)} is no number for {marker}()")
            elif test is not None:
                self.marks.append(Mark(row, self.path, test))


def read_marks(root: Path) -> tuple[list[Mark], list[str]]:
    """Every marker in the tests below ``root``, in the order of the files, and what is wrong with them."""
    marks: list[Mark] = []
    faults: list[str] = []
    for path in sorted((root / "tests").rglob("test_*.py")):
        finder = MarkFinder(path.relative_to(root).as_posix())
        finder.visit(ast.parse(path.read_text("utf-8")))
        marks += finder.marks
        faults += finder.faults
    return marks, faults


def link_faults(sections: list[Section], marks: list[Mark]) -> Iterator[str]:
    """A sentence for each row without a test, and for each test that claims a row it cannot show."""
    rows = {row.id: row for section in sections for row in section.rows}
    shown = {mark.row for mark in marks}
    for row in rows.values():
        if row.applies and row.id not in shown:
            yield f"{row.id} applies, and no test carries its number"
    for mark in marks:
        where = f"{mark.path}::{mark.test}"
        if mark.row not in rows:
            yield f"{where} carries {mark.row}, which is no row"
        elif not rows[mark.row].applies:
            yield f"{where} carries {mark.row}, which does not apply"


def mention_faults(root: Path, sections: list[Section]) -> Iterator[str]:
    """A sentence for each fact that the package or its documentation names as a source, and that is none."""
    rows = {row.id: row for section in sections for row in section.rows}
    files = [*(root / "trio_send").rglob("*.py"), *(root / "docs").rglob("*.rst")]
    for path in sorted(files):
        where = path.relative_to(root).as_posix()
        for number in re.findall(r"\bF\d{3}\b", path.read_text("utf-8")):
            if number not in rows:
                yield f"{where} speaks of {number}, which is no row"
            elif not rows[number].applies:
                yield f"{where} speaks of {number}, which does not apply"


# The pages ------------------------------------------------------------------------------------

NOTE = "<!-- Made by `python -m tests.conformance` from docs/conformance.toml and the tests. Change those. -->\n\n"

HEAD = """\
# Conformance: each sentence, each fact, its test

The library is built after two pages of .NET's documentation: the one on `Socket.BeginSend` with an error code, and the
one on `Socket.SendAsync` with event args. Where they are silent or wrong, it does what .NET does in fact. Where the
versions of .NET disagree, it goes with the pages, and else with the version that loses no count, lets no mistake pass
and is the same for every kind of socket. The pages below go through every sentence of the two pages (B and S) and
through every fact that is known about the implementations (F). Each row says what the library does, and which tests
show it. A *face* is one of the three ways to start the same operation here: with args, with begin and end, or with
`await`.

The implementations are named like this: *Framework* is .NET Framework 4 on Windows; *Core 3.1* is .NET Core 3.1 on
Linux; *.NET* is .NET 5 and later, with a number where a version matters, on Windows or Unix where that matters;
*mono* is mono 6.8 on Linux; *Linux* is the kernel itself; *samples* are the programs of .NET's documentation.

"""

DIFFERENCES = """
## Documented differences

What the library does otherwise on purpose. There are no others that we know of. Behind each number stands
the whole of it, and the reason.
"""


def slug(section: Section) -> str:
    """What the page of a section is called."""
    return "-".join(re.findall(r"[a-z0-9]+", section.title.lower()))


def anchor(row: Row) -> str:
    """The label of a row, to which other pages link."""
    return row.id.lower()


def linked(text: str) -> str:
    """Text in which each number of a row leads to it."""
    return re.sub(
        r"\b(F\d{3}|[BS]\d{2})\b", lambda found: f"[{found[0]}](#{found[0].lower()})", text
    )


def first_sentence(text: str) -> str:
    """The first sentence of a text, which is what an index has room for."""
    return re.split(r"(?<=\.) (?=[A-Z`*])", text, maxsplit=1)[0]


def label(mark: Mark) -> str:
    """What stands for a file on a page."""
    return mark.path.removeprefix("tests/").removesuffix(".py")


def links_to_tests(row: Row, marks: list[Mark]) -> list[str]:
    """Links to the tests that show a row; what several files call a test by is told with the file."""
    files: dict[str, set[str]] = {}
    for mark in marks:
        files.setdefault(mark.test, set()).add(mark.path)
    links = {}
    for mark in marks:
        if mark.row == row.id:
            name = mark.test if len(files[mark.test]) == 1 else f"{label(mark)}::{mark.test}"
            links[f"[{name}][{label(mark)}]"] = None
    return list(links)


def card(row: Row, marks: list[Mark]) -> str:
    """A row as a card, behind its label."""
    badge = "" if row.applies else " {bdg-secondary}`does not apply`"
    if row.differs:
        badge = " {bdg-warning}`differs`"
    paragraphs = [f"**{row.id}**{badge}{f' *{row.where}*' if row.where else ''}", linked(row.says)]
    if row.applies:
        paragraphs.append(f"**Here:** {linked(row.here)}")
    else:
        paragraphs.append(f"**Not here:** {linked(row.not_here)}")
    if row.differs:
        paragraphs.append(f"**Why:** {linked(row.differs)}")
    links = links_to_tests(row, marks)
    if links:
        tests = "1 test" if len(links) == 1 else f"{len(links)} tests"
        lines = "".join(f"* {link}\n" for link in links)
        paragraphs.append(f"::::{{dropdown}} Shown by {tests}\n{lines}::::")
    body = "\n\n".join(paragraphs)
    return f"({anchor(row)})=\n\n:::::{{card}}\n{body}\n:::::\n"


def section_page(section: Section, marks: list[Mark]) -> str:
    """The page of a section, with a card for each row."""
    numbers = {row.id for row in section.rows}
    used = {label(mark): mark.path for mark in marks if mark.row in numbers}
    cards = [card(row, marks) for row in section.rows]
    targets = [f"[{name}]: ../../{path}\n" for name, path in sorted(used.items())]
    return f"{NOTE}# {section.title}\n\n" + "\n".join([*cards, "".join(targets)])


def index(sections: list[Section]) -> str:
    """The page that all others hang on, with the differences in short."""
    rows = [row for section in sections for row in section.rows]
    apply = [row for row in rows if row.applies]
    different = [row for row in apply if row.differs]
    parts = [
        NOTE,
        HEAD,
        f"Of {len(rows)} rows {len(apply)} apply, and {len(different)} of these are differences.\n",
        "\n```{toctree}\n:maxdepth: 1\n\n",
        *(f"conformance/{slug(section)}\n" for section in sections),
        "```\n",
        DIFFERENCES,
    ]
    for section in sections:
        lines = [
            f"* {linked(row.id)}: {first_sentence(row.says)} *Here:* {first_sentence(row.here)}\n"
            for row in section.rows
            if row.differs
        ]
        if lines:
            parts += [f"\n### {section.title}\n\n", *lines]
    return "".join(parts)


def make_pages(sections: list[Section], marks: list[Mark]) -> dict[str, str]:
    """All pages by their paths, seen from the root."""
    pages = {"docs/conformance.md": index(sections)}
    for section in sections:
        pages[f"docs/conformance/{slug(section)}.md"] = section_page(section, marks)
    return pages


def written_pages(root: Path) -> dict[str, str]:
    """The pages that a checkout has, as `make_pages` makes them."""
    docs = root / "docs"
    paths = [*docs.glob("conformance.md"), *docs.glob("conformance/*.md")]
    return {path.relative_to(root).as_posix(): path.read_text("utf-8") for path in paths}


# Both -----------------------------------------------------------------------------------------


class State(NamedTuple):
    """What a checkout says about itself."""

    pages: dict[str, str]
    faults: list[str]


def examine(root: Path) -> State:
    """Read the rows and the tests below ``root``; make the pages and find what is wrong with them."""
    sections = read_sections((root / "docs" / "conformance.toml").read_text("utf-8"))
    marks, faults = read_marks(root)
    faults = [*row_faults(sections), *faults, *link_faults(sections, marks)]
    faults += mention_faults(root, sections)
    return State(make_pages(sections, marks), faults)


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.conformance",
        description="Make the pages of conformance from docs/conformance.toml and the tests.",
    )
    parser.add_argument("--check", action="store_true", help="write nothing, say what is wrong")
    options = parser.parse_args(arguments)
    state = examine(root)
    faults = list(state.faults)
    written = written_pages(root)
    if not options.check:
        for path in written.keys() - state.pages.keys():
            (root / path).unlink()
        for path, text in state.pages.items():
            (root / path).parent.mkdir(exist_ok=True)
            (root / path).write_text(text, "utf-8")
    elif written != state.pages:
        stale = [path for path, text in state.pages.items() if written.get(path) != text]
        stale += written.keys() - state.pages.keys()
        faults += [f"{path} is out of date; run: python -m tests.conformance" for path in stale]
    for fault in faults:
        print(fault)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
