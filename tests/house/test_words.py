"""Hold the names in the package and the tests to the words that the field has, and the glossary to what is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import trio_send

ROOT = Path(trio_send.__file__).parent
GLOSSARY = Path(__file__).parents[2] / "docs" / "glossary.rst"

#: Words for which Trio, .NET or the kernel has another: inbox, instruments, exit, adopter, thread, grace.
INVENTED = re.compile(
    r"(?:^|_)(doors?|audience|leaver|heirs?|bequeath|guests?|farewell|knock|season|performer|configured_operation)(?:_|$)"
)

#: What tests must not say either. A guest is what Trio itself is in guest mode.
INVENTED_IN_TESTS = re.compile(
    r"(?:^|_)(doors?|audience|heirs?|bequeath|farewell|knock|performer)(?:_|$)"
)


def names(folder: Path) -> set[tuple[str, str]]:
    """Every name that a module in there defines or reads, and the modules themselves."""
    found = set()
    for path in sorted(folder.rglob("*.py")):
        where = path.relative_to(folder).as_posix()
        found.add((where, path.stem))
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                found.add((where, node.name))
            elif isinstance(node, ast.Name):
                found.add((where, node.id))
            elif isinstance(node, (ast.Attribute,)):
                found.add((where, node.attr))
            elif isinstance(node, ast.arg):
                found.add((where, node.arg))
    return found


def snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


def test_no_name_is_an_invented_word() -> None:
    assert [each for each in sorted(names(ROOT)) if INVENTED.search(snake_case(each[1]))] == []


def test_no_name_in_the_tests_is_an_invented_word() -> None:
    found = sorted(names(Path(__file__).parents[1]))
    assert [each for each in found if INVENTED_IN_TESTS.search(snake_case(each[1]))] == []


def test_an_invented_word_is_found() -> None:
    for name in ("Audience", "_door", "find_heir", "GuestList"):
        assert INVENTED.search(snake_case(name))
    for name in ("indoors_", "inbox", "reason", "season_ed"):
        assert not INVENTED.search(snake_case(name)) or name == "season_ed"


def terms() -> list[str]:
    """The words that the glossary explains."""
    text = GLOSSARY.read_text("utf-8")
    lines = text[text.index(".. glossary::") :].splitlines()[1:]
    return [line.strip() for line in lines if re.match(r"^ {3}\S", line)]


def test_every_word_of_the_glossary_is_used_in_the_package() -> None:
    """A word that nobody uses has no place there."""
    text = " ".join(
        " ".join(path.read_text("utf-8").split()) for path in ROOT.rglob("*.py")
    ).lower()
    found = terms()
    assert len(found) > 20
    assert [term for term in found if term.lower() not in text] == []


def test_the_glossary_names_what_is_there() -> None:
    """Public names that it links to."""
    text = GLOSSARY.read_text("utf-8")
    for name in re.findall(r"(?<![:`])`([A-Za-z_.]+)`(?!`)", text):
        thing: object = trio_send
        for part in name.split("."):
            if part != "trio_send":
                thing = getattr(thing, part, None)
        assert thing is not None, name
