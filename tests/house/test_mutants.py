"""Hold the changes that `python -m tests.mutants` makes to being the ones that it names, and its list to the core."""

from __future__ import annotations

import ast
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import mutants
from tests.clones import PACKAGE, Clone
from tests.mutants import CORE, NEAREST, OTHERS, ROOT, chosen, equivalents, main, modules_of
from tests.mutations import KINDS, Mutation, mutations
from tests.reached_lines import Reach, Records, TimedTest, lines_of, near

#: What tells of the lines that are reached came with Python 3.12.
runs_mutants = pytest.mark.skipif(
    sys.version_info < (3, 12) or sys.platform == "win32",
    reason="this takes a later Python, and a system with fork",
)


def changes_of(tmp_path: Path, text: str) -> list[Mutation]:
    (tmp_path / "one.py").write_text(text, "utf-8")
    return mutations(tmp_path, "one.py")


# What is changed ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        ("if a < b:\n    c()", ["a <= b", "not a < b", "pass"]),
        ("if a is b:\n    x = a", ["a is not b"]),
        ("if not a:\n    x = a", ["a"]),
        ("while a not in b:\n    x = a", ["a in b"]),
        ("x = a if b else c", ["not b"]),
        ("x = [a for a in b if c]", ["not c"]),
        ("x = a and b", ["a or b", "", ""]),
        ("if a:\n    return", ["not a", "pass"]),
        ("if a:\n    x = b\nelif c:\n    return", ["not a", "not c", "pass"]),
        ("x = a + b * c", ["a - b * c", "b // c"]),
        ("x = a + 'text'", []),
        ("x = -a", ["a"]),
        ("x += a", ["pass", "x -= a"]),
        ("x.y = True", ["pass", "False for True"]),
        ("x = 7", ["8 for 7"]),
        ("x = f(a, 7) + f(b)", ["f(a, 8)", "f(a, 7) - f(b)"]),
        ("await a()", ["pass"]),
        ("raise a", ["pass"]),
        ("return a", ["return None"]),
        ("return None", []),
        ("assert a < 1", []),
        ("x = f'{a + 1}'", []),
        ("x: a[1] = b", []),
        ("'''Text.'''", []),
        ("if TYPE_CHECKING:\n    x = 1", []),
        ("if sys.version_info >= (3, 0):\n    x = 1\nelse:\n    y = 1", ["2 for 1"]),
    ],
)
def test_each_kind_of_change_is_found(tmp_path: Path, text: str, changes: list[str]) -> None:
    lines = "".join(f"    {line}\n" for line in text.splitlines())
    source = f"async def f(a, b, c):\n{lines}"
    found = changes_of(tmp_path, source)
    assert sorted(each.after for each in found) == sorted(changes)
    whole = [ast.dump(ast.parse(each.applied(source.encode()))) for each in found]
    # Each is another change, and none leaves everything as it was.
    assert len({*whole, ast.dump(ast.parse(source))}) == len(found) + 1


def test_a_bool_is_turned_around_where_it_is_returned(tmp_path: Path) -> None:
    found = changes_of(tmp_path, "def f(a) -> bool:\n    return a.b\n")
    assert [each.after for each in found] == ["return not a.b"]


def test_decorators_are_dropped_but_for_those_that_make_something_else(tmp_path: Path) -> None:
    source = (
        "class C:\n"
        "    @property\n    @step\n    def a(self):\n        '''It.'''\n\n"
        "    @a.setter\n    @room.step\n    def a(self, value):\n        '''It.'''\n\n"
        "    @overload\n    def b(self):\n        return 1\n"
    )
    found = changes_of(tmp_path, source)
    assert [(each.kind, each.function, each.before) for each in found] == [
        ("decorator", "C.a", "@step"),
        ("decorator", "C.a.setter", "@room.step"),
    ]
    assert "room" not in found[1].applied(source.encode()).decode()
    assert found[1].applied(source.encode()).count(b"\n") == source.count("\n")


def test_what_a_change_is_called_depends_on_what_it_changes_alone(tmp_path: Path) -> None:
    before = changes_of(tmp_path, "def f(a):\n    if a > 1 and a.b(2):\n        return a\n")
    after = changes_of(
        tmp_path,
        "X = 5\n\ndef f(a):\n    a.c()\n    if (\n        a > 1  # few\n        and a.b(2)\n    ):\n"
        "        a.d()\n        return a\n",
    )
    assert {each.identity for each in before} < {each.identity for each in after}
    # So the same of them are chosen, before or after whatever has come in addition.
    names = {each.identity for each in before}
    kept = [each.identity for each in chosen(after, 3, None) if each.identity in names]
    assert kept == [each.identity for each in chosen(before, 3, None)]
    assert kept != [each.identity for each in chosen(before, 4, None)]


def test_the_same_change_in_two_places_has_two_names(tmp_path: Path) -> None:
    found = changes_of(tmp_path, "def f(a):\n    a.b()\n    a.b()\n")
    assert [(each.line, each.nth) for each in found] == [(2, 1), (3, 2)]


# The core -------------------------------------------------------------------------------------


def test_changes_to_the_core_can_be_made() -> None:
    kinds = set()
    for module in modules_of(ROOT, ["_socket/begin_send.py", "trio_send/_operations"]):
        source = (ROOT / PACKAGE / module).read_bytes()
        found = mutations(ROOT / PACKAGE, module)
        assert len({each.identity for each in found}) == len(found)
        kinds |= {each.kind for each in found}
        for mutation in found[::25]:
            ast.parse(mutation.applied(source))
    assert kinds == set(KINDS)


def test_each_change_that_was_judged_equivalent_can_be_made() -> None:
    """One that is gone has to leave the list, and its reason may hold no longer."""
    judged = equivalents(ROOT)
    modules = {each.module for each in judged}
    possible = {each.identity for module in modules for each in mutations(ROOT / PACKAGE, module)}
    assert [each for each in judged if each.identity not in possible] == []
    assert len({each.identity for each in judged}) == len(judged)
    assert all(each.reason.endswith(".") for each in judged)


def test_modules_are_named_as_files_or_as_folders() -> None:
    assert modules_of(ROOT, ["trio_send/_socket/send.py"]) == ["_socket/send.py"]
    assert "_socket/send.py" in modules_of(ROOT, CORE)
    with pytest.raises(ValueError, match="nowhere is neither a file nor a folder"):
        modules_of(ROOT, ["nowhere"])


# The command ----------------------------------------------------------------------------------

MADE_UP = {
    "trio_send/__init__.py": "",
    "trio_send/_socket/__init__.py": "",
    "trio_send/_socket/one.py": """\
def near(a):
    return a

def far(a):
    return a

def hung(a):
    while a:
        a -= 1

def unseen(a):
    if a > 2:
        a = b = 3
    return a

def equal(a):
    return a
""",
    "tests/socket/test_one.py": """\
from trio_send._socket.one import hung, near

def test_near():
    assert near(1) == 1

def test_hung():
    hung(3)
""",
    "tests/whole/test_two.py": """\
import time
import pytest
from trio_send._socket.one import equal, far, unseen

@pytest.mark.parametrize("n", [1, 2, 3])
def test_far(n):
    equal(1)
    unseen(n)
    if n == 3:
        time.sleep(0.2)
        assert far(1) == 1

def test_that_fails():
    assert far(1) == 2
""",
    "tests/house/test_three.py": "def test():\n    assert 'hung(a)' in open('trio_send/_socket/one.py').read()\n",
    "tests/mutants_equivalent.toml": """\
[[mutant]]
module = "_socket/one.py"
function = "equal"
before = "return a"
after = "return None"
reason = "Nobody looks."
""",
}


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small checkout with something that each stage notices, and something that none does."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # it needs none, and begins sooner
    root = tmp_path / "checkout"
    for name, text in MADE_UP.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return root


@pytest.fixture
def clone(checkout: Path, tmp_path: Path) -> Iterator[Clone]:
    made = Clone(checkout, tmp_path / "clone")
    yield made
    made.close()


def by_function(printed: str) -> dict[str, str]:
    """What became of the change in which function."""
    lines = printed.split("\nnot noticed:")[0].splitlines()
    heads = [n for n, line in enumerate(lines) if line.startswith("_socket/one.py:")]
    return {lines[n].split(", ")[1].split(":")[0]: lines[n + 3].strip() for n in heads}


@runs_mutants
def test_the_nearest_tests_notice_first_and_what_nobody_notices_is_printed(
    checkout: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (checkout / "trio_send/_socket/one.py").read_bytes()
    monkeypatch.setattr("tests.reached_lines._NEAR", (0.1, 5))
    arguments = ["--only", "return", "--count", "all", "--jobs", "2"]
    assert main([*arguments, "_socket"], checkout) == 1
    printed = capsys.readouterr().out
    assert printed.startswith(
        "4 possible changes, 4 of them with seed 0, of which 1 are judged equivalent\n"
    )
    assert "\ntests/whole/test_two.py: 3 tests\n" in printed
    assert by_function(printed) == {
        "near": f"{NEAREST}: tests/socket/test_one.py::test_near - assert None == 1",
        "far": f"{NEAREST}: tests/whole/test_two.py::test_far[3] - assert None == 1",
        "unseen": "NOT NOTICED: by 3 of 3 tests that come there",
    }
    assert "\nreturn           4           1        2       0            1     66.7%\n" in printed
    assert printed.endswith(
        "not noticed:\ntrio_send/_socket/one.py:14, unseen: return\n    - return a\n    + return None\n"
    )
    assert (checkout / "trio_send/_socket/one.py").read_bytes() == before
    # The next time it is known which tests come where, and less time may be taken.
    assert main([*arguments, "--seconds", "0.1", "_socket"], checkout) == 1
    printed = capsys.readouterr().out
    assert "tests/whole/test_two.py: 3 tests" not in printed
    assert by_function(printed)["unseen"] == "NOT NOTICED: by 2 of 3 tests that come there"


@runs_mutants
def test_all_others_run_where_the_nearest_notice_nothing(
    checkout: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.reached_lines._NEAR", (0.1, 5))
    path = checkout / "tests/whole/test_two.py"
    path.write_text(
        path.read_text("utf-8").replace("unseen(n)", "assert unseen(n) or n < 3"), "utf-8"
    )
    assert main(["--only", "return", "--count", "all", "_socket"], checkout) == 0
    printed = capsys.readouterr().out
    assert by_function(printed)["unseen"].startswith(
        f"{OTHERS}: tests/whole/test_two.py::test_far[3] - assert"
    )


@runs_mutants
def test_a_change_that_hangs_is_noticed(
    checkout: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mutants, "_PATIENCE", (1, 3.0))
    arguments = ["--only", "statement", "--count", "all", "--jobs", "1"]
    assert main([*arguments, "_socket"], checkout) == 0
    printed = capsys.readouterr().out
    assert by_function(printed) == {"hung": f"{NEAREST}: it hangs"}


@runs_mutants
def test_the_clone_is_what_runs(clone: Clone) -> None:
    """Not what is installed, nor what Python has kept of a module that was changed in the same second."""
    module = "_socket/one.py"
    source = (clone.root / PACKAGE / module).read_bytes()
    change = next(each for each in mutations(clone.root / PACKAGE, module))
    near_test = ["tests/socket/test_one.py::test_near"]
    assert clone.run(near_test, 60).passed
    with clone.changed(module, change.applied(source)):
        assert not clone.run(near_test, 60).passed
    assert clone.run(near_test, 60).passed
    with clone.changed(module, b"1 / 0"):
        assert "ZeroDivisionError" in clone.run(near_test, 60).line


@runs_mutants
def test_what_each_test_reaches_is_found(clone: Clone) -> None:
    found = clone.record(["tests/socket/test_one.py"], 60)
    assert {name: modules for name, (_, modules) in found.items()} == {
        "tests/socket/test_one.py::test_near": {"_socket/one.py": [2]},
        "tests/socket/test_one.py::test_hung": {"_socket/one.py": [8, 9]},
    }


def test_what_is_kept_counts_until_the_tests_or_what_they_stand_on_change(checkout: Path) -> None:
    records = Records(checkout)
    files = ["tests/socket/test_one.py", "tests/whole/test_two.py"]
    assert records.missing() == files
    for file in files:
        records.keep(file, {})
    assert Records(checkout).missing() == []
    (checkout / files[0]).write_text("", "utf-8")
    assert Records(checkout).missing() == files[:1]
    (checkout / "tests/helpers.py").write_text("", "utf-8")
    assert Records(checkout).missing() == files


def test_the_tests_of_a_statement_are_those_that_come_to_it(checkout: Path) -> None:
    module = "_socket/one.py"
    reach = Reach(checkout)
    reach.add(
        {
            "tests/whole/test_two.py::test_far[1]": (0.1, {module: [5, 12, 14]}),
            "tests/whole/test_two.py::test_far[3]": (0.2, {module: [5, 12, 13, 14]}),
            "tests/socket/test_one.py::test_near": (0.2, {module: [2, 14]}),
        }
    )
    names = {
        (each.line, each.kind): [test.name for test in reach.tests_of(each)]
        for each in mutations(checkout / PACKAGE, module)
        if each.function == "unseen"
    }
    first, third, near_test = (
        "tests/whole/test_two.py::test_far[1]",
        "tests/whole/test_two.py::test_far[3]",
        "tests/socket/test_one.py::test_near",
    )
    assert names[12, "comparison"] == [first, third]
    assert names[13, "constant"] == [third]
    assert names[14, "return"] == [near_test, first, third]
    # Of what stands in no function, by all that come to the module; and if it has none, by all there are.
    path = checkout / PACKAGE / "_socket" / "numbers.py"
    path.write_text("ONE = 1\n", "utf-8")
    (change,) = mutations(checkout / PACKAGE, "_socket/numbers.py")
    assert {test.name for test in reach.tests_of(change)} == {first, third, near_test}


def test_the_file_that_is_for_the_module_comes_first(checkout: Path) -> None:
    """Whether it has its name, or names it in its head; then those of its folder."""
    module = "_socket/one.py"
    heads = {
        "whole/test_any.py": "",
        "socket/test_other.py": "",
        "whole/test_for_it.py": "_socket.one",
    }
    tests = {}
    for file, named in heads.items():
        path = checkout / "tests" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        head = f"A head.\n\nModules: {named}." if named else "A head."
        path.write_text(f'"""{head}"""\n', "utf-8")
        tests[f"tests/{file}::test_it"] = (0.1, {module: [14]})
    tests["tests/socket/test_one.py::test_it"] = (0.1, {module: [14]})
    reach = Reach(checkout)
    reach.add(tests)
    (change,) = (
        each
        for each in mutations(checkout / PACKAGE, module)
        if (each.function, each.line, each.kind) == ("unseen", 14, "return")
    )
    assert [test.file for test in reach.tests_of(change)] == [
        "tests/socket/test_one.py",
        "tests/whole/test_for_it.py",
        "tests/socket/test_other.py",
        "tests/whole/test_any.py",
    ]


def test_near_are_few_and_of_few_files() -> None:
    tests = [TimedTest(f"tests/a/test_{n % 8}.py::test_{n}", 0.5) for n in range(40)]
    nearest, others = near(tests)
    assert sorted([*nearest, *others], key=lambda test: test.name) == sorted(
        tests, key=lambda test: test.name
    )
    assert sum(test.seconds for test in nearest) == 6
    files = [test.file for test in nearest]
    assert len(set(files)) == 5
    # Each file is looked through once.
    assert sum(one != two for one, two in itertools.pairwise(files)) == 4


@pytest.mark.parametrize(
    ("text", "before", "lines"),
    [
        ("@step\ndef f(a):\n    x = 1\n    return x", "@step", {3, 4}),
        ("def f(a=1):\n    x = a\n    return x", "def f(a=1):", {2, 3}),
        ("def f(a):\n    if (\n        a\n        and b\n    ):\n        c()", "a", {2, 3, 4, 5}),
        ("def f(a):\n    for x in a + b:\n        c()", "a + b", {2}),
        ("def f(a):\n    return g(\n        lambda: a + 1\n    )", "a + 1", {2, 3, 4}),
        ("x = a + 1", "a + 1", set()),
    ],
)
def test_a_change_makes_a_difference_where_its_statement_is_reached(
    tmp_path: Path, text: str, before: str, lines: set[int]
) -> None:
    change = next(each for each in changes_of(tmp_path, f"{text}\n") if each.before == before)
    assert lines_of(text.encode(), change) == lines
