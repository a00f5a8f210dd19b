"""Hold the tests to the folders of the package: every module has a file of its name, or is named in another's head.

How a head names modules, `tests.mirrored` says. A module that has a file of its name needs no more.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest

import trio_send
from tests.mirrored import named_modules, own_file

ROOT = Path(trio_send.__file__).parent
TESTS = Path(__file__).parents[1]

#: The folders of tests that mirror none of the package: of the checkout around it, of the examples, and of the library
#: as a whole.
BESIDE = frozenset({"house", "examples", "whole"})

#: In at most so many files a module is named: in those that truly test it.
MOST = 2


def modules(root: Path) -> list[str]:
    """The modules of a package, by their names below it."""
    paths = (path.relative_to(root) for path in sorted(root.rglob("*.py")))
    return [".".join(path.with_suffix("").parts) for path in paths if path.name != "__init__.py"]


def faults(root: Path, tests: Path) -> list[str]:
    """A sentence for each module without a test file, and for each head that is not as it should be."""
    found = []
    there = modules(root)
    files = sorted(path.relative_to(tests).as_posix() for path in tests.rglob("test_*.py"))
    rooms = {module.split(".")[0].strip("_") for module in there}
    namers: defaultdict[str, list[str]] = defaultdict(list)
    for file in files:
        folder = file.rpartition("/")[0].split("/")[0]
        if folder not in rooms | BESIDE:
            found.append(f"{file} stands in a folder that mirrors none of the package")
        try:
            named = named_modules(tests / file)
        except ValueError as error:
            found.append(f"{file} {error}")
            continue
        if named != sorted(set(named)):
            found.append(f"{file} names its modules out of order")
        for module in named:
            namers[module].append(file)
            if module not in there:
                found.append(f"{file} names {module}, which is not there")
            elif file == own_file(module):
                found.append(f"{file} names {module}, whose name it has")
    for module in there:
        if own_file(module) not in files and not namers[module]:
            found.append(
                f"{module} has no tests: write {own_file(module)}, or name it in the head of the file that tests it"
            )
        if len(set(namers[module])) > MOST:
            found.append(
                f"{module} is named in {len(set(namers[module]))} files, and in at most {MOST}"
            )
    return found


def test_every_module_has_its_tests() -> None:
    assert faults(ROOT, TESTS) == []


# The checker itself ---------------------------------------------------------------------------


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")


@pytest.fixture
def made_up(tmp_path: Path) -> tuple[Path, Path]:
    """A small package and its tests, in which everything is as it should be."""
    package, tests = tmp_path / "package", tmp_path / "tests"
    files = ("__init__.py", "_low/__init__.py", "_low/thing.py", "_low/other.py", "_low/in/deep.py")
    write(package, dict.fromkeys((*files, "high/_face.py", "flat.py"), ""))
    write(
        tests,
        {
            "low/test_thing.py": '"""A head."""\n',
            "low/in/test_deep.py": "",
            "high/test_whatever.py": '"""A head.\n\nMore.\n\nModules: _low.other,\nhigh._face.\n"""\n',
            "whole/test_all.py": '"""A head.\n\nModules: flat, high._face.\n"""\n',
        },
    )
    return package, tests


def test_the_checker_has_nothing_against_a_good_tree(made_up: tuple[Path, Path]) -> None:
    assert faults(*made_up) == []


@pytest.mark.parametrize(
    ("file", "head", "fault"),
    [
        ("low/test_more.py", "Modules: _low.gone.", "names _low.gone, which is not there"),
        ("low/test_thing.py", "Modules: _low.thing.", "names _low.thing, whose name it has"),
        ("low/test_more.py", "Modules: flat, _low.thing.", "names its modules out of order"),
        ("low/test_more.py", "Modules: _low.other, _low.other.", "names its modules out of order"),
        ("low/test_more.py", "Modules: high._face.", "high._face is named in 3 files, and in at"),
        ("low/test_more.py", "Modules: flat", "names modules otherwise than in a last"),
        ("low/test_more.py", "Modules: flat.\n\nMore.", "names modules otherwise than in a"),
        ("low/test_more.py", "Modules: flat and some.", "names modules otherwise than in a last"),
        ("side/test_more.py", "A head.", "stands in a folder that mirrors none of the package"),
        ("whole/test_all.py", "A head.\n\nModules: high._face.", "flat has no tests: write test_"),
    ],
)
def test_the_checker_bites(made_up: tuple[Path, Path], file: str, head: str, fault: str) -> None:
    write(made_up[1], {file: f'"""{head}"""\n'})
    (found,) = faults(*made_up)
    assert fault in found


def test_a_module_without_tests_is_found(made_up: tuple[Path, Path]) -> None:
    write(made_up[0], {"_low/late.py": "", "_cli/part/word.py": ""})
    assert [fault.split(",")[0] for fault in faults(*made_up)] == [
        "_cli.part.word has no tests: write cli/part/test_word.py",
        "_low.late has no tests: write low/test_late.py",
    ]
