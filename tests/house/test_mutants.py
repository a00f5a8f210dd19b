"""Hold the changes that `python -m tests.mutants` makes to being the ones that it names, and its list to the core."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests import mutants
from tests.mutants import (
    CORE,
    FOLDER,
    NEAREST,
    PACKAGE,
    ROOT,
    SUITE,
    Clone,
    chosen,
    equivalents,
    main,
    modules_of,
    stages_of,
)
from tests.mutations import KINDS, Mutation, mutations


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

def in_the_folder(a):
    return a

def far(a):
    return a

def hung(a):
    while a:
        a -= 1

def unseen(a):
    return a

def equal(a):
    return a
""",
    "tests/socket/test_one.py": """\
from trio_send._socket.one import hung, near

def test():
    assert near(1) == 1
    hung(3)
""",
    "tests/socket/test_two.py": """\
import trio_send._socket.one as one

def test():
    assert one.in_the_folder(1) == 1
""",
    "tests/whole/test_three.py": """\
from trio_send._socket.one import far, unseen

def test():
    assert far(1) == 1
    unseen(1)
""",
    "tests/house/test_four.py": "def test():\n    assert 'hung(a)' in open('trio_send/_socket/one.py').read()\n",
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


def stages_by_function(printed: str) -> dict[str, str]:
    """Which stage has noticed the change in which function."""
    lines = printed.split("\nnot noticed:")[0].splitlines()
    heads = [n for n, line in enumerate(lines) if line.startswith("_socket/one.py:")]
    return {lines[n].split(", ")[1].split(":")[0]: lines[n + 3].strip() for n in heads}


def test_the_nearest_tests_notice_first_and_what_nobody_notices_is_printed(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (checkout / "trio_send/_socket/one.py").read_bytes()
    assert main(["--only", "return", "--count", "all", "--jobs", "2", "_socket"], checkout) == 1
    printed = capsys.readouterr().out
    assert printed.startswith(
        "5 possible changes, 1 of them judged equivalent; 4 are tried, seed 0\n"
    )
    assert stages_by_function(printed) == {
        "near": f"{NEAREST}: FAILED tests/socket/test_one.py::test - assert None == 1",
        "in_the_folder": f"{FOLDER}: FAILED tests/socket/test_two.py::test - assert None == 1",
        "far": f"{SUITE}: FAILED tests/whole/test_three.py::test - assert None == 1",
        "unseen": "NOT NOTICED",
    }
    assert printed.endswith(
        "not noticed:\ntrio_send/_socket/one.py:15, unseen: return\n    - return a\n    + return None\n"
    )
    assert (checkout / "trio_send/_socket/one.py").read_bytes() == before


def test_a_change_that_hangs_is_noticed(
    checkout: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mutants, "_PATIENCE", (1, 1.0))
    assert main(["--only", "statement", "--jobs", "1", "_socket"], checkout) == 0
    printed = capsys.readouterr().out
    assert stages_by_function(printed) == {"hung": f"{NEAREST}: it hangs"}
    assert "statement          1        1        0        0            0" in printed


def test_tests_that_fail_by_themselves_can_notice_nothing(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (checkout / "tests/socket/test_one.py").write_text("def test():\n    assert False\n", "utf-8")
    assert main(["--only", "return", "--jobs", "1", "_socket"], checkout) == 2
    assert "the tests fail without any change" in capsys.readouterr().out


def test_the_clone_is_what_runs(checkout: Path) -> None:
    """Not what is installed, nor what Python has kept of a module that was changed in the same second."""
    clone = Clone(checkout)
    near = next(each for each in mutations(checkout / PACKAGE, "_socket/one.py"))
    assert clone.run(["tests/socket/test_one.py"], None) == (True, "")
    with clone.changed(near):
        assert clone.run(["tests/socket/test_one.py"], None)[0] is False


def test_decorators_are_tried_where_every_public_call_is_driven() -> None:
    found = mutations(ROOT / PACKAGE, "_socket/begin_send.py")
    of_kind = {each.kind: stages_of(ROOT, each) for each in found}
    nearest = ["tests/socket/test_begin_send.py"]
    assert of_kind["return"][0] == (NEAREST, nearest)
    assert of_kind["decorator"][0] == (NEAREST, [*nearest, "tests/whole/test_strikes.py"])
    assert [name for name, _ in of_kind["return"]] == [NEAREST, FOLDER, SUITE]
    assert of_kind["return"][1][1] == ["tests/socket", f"--ignore={nearest[0]}"]
