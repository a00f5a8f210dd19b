"""Hold the table of conformance to the tests: each row that applies is shown, and the page says what is so."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conformance import ROOT, State, examine, main, read_marks, read_sections

# The checkout ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def state() -> State:
    return examine(ROOT)


def test_every_row_that_applies_is_shown_and_every_marker_names_a_row(state: State) -> None:
    assert state.faults == []


def test_the_page_is_up_to_date(state: State) -> None:
    written = (ROOT / "docs" / "conformance.md").read_text("utf-8")
    assert written == state.page, "run: python -m tests.conformance"


def test_no_row_is_missing() -> None:
    sections = read_sections((ROOT / "docs" / "conformance.toml").read_text("utf-8"))
    numbers = [row.id for section in sections for row in section.rows]
    # So many sentences have the two pages, and so many facts are known.
    assert len([number for number in numbers if number.startswith("B")]) == 56
    assert len([number for number in numbers if number.startswith("S")]) == 24
    assert len([number for number in numbers if number.startswith("F")]) == 308


# The checker itself ---------------------------------------------------------------------------

ROWS = """\
[[section]]
title = "A page"

[[section.row]]
id = "B01"
says = "It sends."
here = "It sends."

[[section.row]]
id = "B02"
says = "It flies."
not_here = "no wings."

[[section]]
title = "Facts"

[[section.row]]
id = "F001"
says = "It blocks | waits."
where = "mono"
here = "It does not."
differs = "Blocking is bad."
"""

TESTS = """\
import pytest

@pytest.mark.page("B01")
def test_it_sends():
    pass

@pytest.mark.parametrize("x", [1, pytest.param(2, marks=pytest.mark.fact("F001"))])
async def test_it_does_not_block(x):
    pass
"""


@pytest.fixture
def made_up(tmp_path: Path) -> Path:
    """A small checkout in which everything is as it should be."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "tests").mkdir()
    (tmp_path / "docs" / "conformance.toml").write_text(ROWS, "utf-8")
    (tmp_path / "tests" / "test_some.py").write_text(TESTS, "utf-8")
    return tmp_path


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new), "utf-8")


def test_the_checker_has_nothing_against_a_good_checkout(made_up: Path) -> None:
    assert main([], made_up) == 0
    assert main(["--check"], made_up) == 0


def test_the_page_says_it_all(made_up: Path) -> None:
    page = examine(made_up).page
    assert "Of 3 rows 2 apply, and 1 of these are differences." in page
    assert "| B01 | It sends. | It sends. | [test_it_sends][test_some] |\n" in page
    assert "| B02 | It flies. | *Does not apply:* no wings. |  |\n" in page
    # A difference stands in its row and among the differences.
    assert r"| F001 | It blocks \| waits. *(mono)* | It does not. | Blocking is bad. |" in page
    assert (
        r"| F001 | It blocks \| waits. *(mono)* | It does not. **Differs:** Blocking is bad. "
        "| [test_it_does_not_block][test_some] |\n"
    ) in page
    assert page.endswith("\n[test_some]: ../tests/test_some.py\n")


def test_markers_are_found_wherever_they_belong_to_a_test(made_up: Path) -> None:
    text = """
@pytest.mark.fact("F001", "F002")
class TestGroup:
    @pytest.mark.page("B01")
    async def test_inside(self): pass
"""
    (made_up / "tests" / "deeper").mkdir()
    (made_up / "tests" / "deeper" / "test_more.py").write_text(text, "utf-8")
    marks, faults = read_marks(made_up)
    assert faults == []
    path = "tests/deeper/test_more.py"
    assert marks[:3] == [
        ("F001", path, "TestGroup"),
        ("F002", path, "TestGroup"),
        ("B01", path, "TestGroup::test_inside"),
    ]
    assert len(marks) == 5
    assert "[TestGroup::test_inside][deeper/test_more]" in examine(made_up).page


def test_a_name_that_two_tests_have_is_told_with_its_file(made_up: Path) -> None:
    tests = made_up / "tests"
    tests.joinpath("test_other.py").write_text(TESTS, "utf-8")
    expected = "[test_other::test_it_sends][test_other]<br>[test_some::test_it_sends][test_some]"
    assert expected in examine(made_up).page


def test_a_page_that_is_out_of_date_is_noticed(
    made_up: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = made_up / "docs" / "conformance.md"
    assert main(["--check"], made_up) == 1
    assert not page.exists()
    main([], made_up)
    change(made_up / "tests" / "test_some.py", "test_it_sends", "test_it_sends_well")
    assert main(["--check"], made_up) == 1
    assert "out of date" in capsys.readouterr().out
    assert main([], made_up) == 0
    assert "test_it_sends_well" in page.read_text("utf-8")


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ('@pytest.mark.page("B01")\n', "", "B01 applies, and no test carries its number"),
        ('page("B01")', 'page("B01", "B03")', "test_it_sends carries B03, which is no row"),
        ('page("B01")', 'page("B01", "B02")', "test_it_sends carries B02, which does not apply"),
        ('page("B01")', 'page("B01", "F001")', "'F001' is no number for page()"),
        ('page("B01")', 'page("B01", "B1")', "'B1' is no number for page()"),
        ('page("B01")', 'page("B01", number)', "number is no number for page()"),
        ('page("B01")', 'page("B01")\n@pytest.mark.fact()', "fact() takes the numbers of rows"),
        ("import pytest\n", 'import pytest\nx = pytest.mark.fact("F001")\n', "belongs to no test"),
        ("test_it_sends", "it_sends", "belongs to no test"),
    ],
)
def test_the_checker_bites_on_markers(made_up: Path, old: str, new: str, fault: str) -> None:
    change(made_up / "tests" / "test_some.py", old, new)
    faults = examine(made_up).faults
    assert fault in faults[0]
    assert main(["--check"], made_up) == 1


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ('"F001"', '"F003"', "F003 does not follow F000"),
        ('"B02"', '"B01"', "B01 does not follow B01"),
        ('"B02"', '"X02"', "X02 is no number of a row"),
        ('here = "It sends."', "", "B01 applies, and does not say what is done"),
        ("not_here", 'here = "It does."\nnot_here', "B02 does not apply, and yet says what"),
    ],
)
def test_the_checker_bites_on_rows(made_up: Path, old: str, new: str, fault: str) -> None:
    change(made_up / "docs" / "conformance.toml", old, new)
    faults = examine(made_up).faults
    assert fault in faults[0]
    assert main([], made_up) == 1


@pytest.mark.parametrize(
    ("file", "fault"),
    [
        ("trio_send/_deep/some.py", "speaks of F004, which is no row"),
        ("docs/some.rst", "speaks of F004, which is no row"),
        ("trio_send/other.py", "speaks of F002, which does not apply"),
    ],
)
def test_the_checker_bites_on_what_others_speak_of(made_up: Path, file: str, fault: str) -> None:
    rows = made_up / "docs" / "conformance.toml"
    more = '\n[[section.row]]\nid = "F002"\nsays = "It flies."\nnot_here = "no wings."\n'
    rows.write_text(rows.read_text("utf-8") + more, "utf-8")
    path = made_up / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('"""It does not block (F001)."""\n', "utf-8")
    assert examine(made_up).faults == []
    number = fault.split()[2].rstrip(",")
    path.write_text(f'"""It sends (F001, {number})."""\n', "utf-8")
    assert examine(made_up).faults == [f"{file} {fault}"]
