"""Hold the table of conformance to the tests: each row that applies is shown, and the page says what is so."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conformance import (
    ROOT,
    State,
    examine,
    main,
    read_marks,
    read_sections,
    written_pages,
)

# The checkout ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def state() -> State:
    return examine(ROOT)


def test_every_row_that_applies_is_shown_and_every_marker_names_a_row(state: State) -> None:
    assert state.faults == []


def test_the_pages_are_up_to_date(state: State) -> None:
    assert written_pages(ROOT) == state.pages, "run: python -m tests.conformance"


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


CARD = """\
(f001)=

:::::{card}
**F001** {bdg-warning}`differs` *mono*

It blocks | waits.

**Here:** It does not.

**Why:** Blocking is bad.

::::{dropdown} Shown by 1 test
* [test_it_does_not_block][test_some]
::::
:::::
"""


def test_the_pages_say_it_all(made_up: Path) -> None:
    pages = examine(made_up).pages
    assert pages.keys() == {
        "docs/conformance.md",
        "docs/conformance/a-page.md",
        "docs/conformance/facts.md",
    }
    index = pages["docs/conformance.md"]
    assert "Of 3 rows 2 apply, and 1 of these are differences." in index
    assert "\nconformance/a-page\nconformance/facts\n```\n" in index
    assert "\n* [F001](#f001): It blocks | waits. *Here:* It does not.\n" in index
    assert "B01" not in index  # no difference
    assert CARD in pages["docs/conformance/facts.md"]
    assert pages["docs/conformance/facts.md"].endswith("\n[test_some]: ../../tests/test_some.py\n")
    page = pages["docs/conformance/a-page.md"]
    assert (
        "\n**B02** {bdg-secondary}`does not apply`\n\nIt flies.\n\n**Not here:** no wings.\n"
        in page
    )
    assert "(b01)=\n\n:::::{card}\n**B01**\n\nIt sends.\n\n**Here:** It sends.\n" in page


def test_rows_that_are_spoken_of_are_linked(made_up: Path) -> None:
    rows = made_up / "docs" / "conformance.toml"
    change(rows, 'not_here = "no wings."', 'not_here = "as B01 and F001."')
    page = examine(made_up).pages["docs/conformance/a-page.md"]
    assert "**Not here:** as [B01](#b01) and [F001](#f001).\n" in page


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
    page = examine(made_up).pages["docs/conformance/a-page.md"]
    assert "* [TestGroup::test_inside][deeper/test_more]\n" in page
    assert page.endswith("\n[test_some]: ../../tests/test_some.py\n")


def test_a_name_that_two_tests_have_is_told_with_its_file(made_up: Path) -> None:
    tests = made_up / "tests"
    tests.joinpath("test_other.py").write_text(TESTS, "utf-8")
    page = examine(made_up).pages["docs/conformance/a-page.md"]
    expected = (
        "* [test_other::test_it_sends][test_other]\n* [test_some::test_it_sends][test_some]\n"
    )
    assert f"::::{{dropdown}} Shown by 2 tests\n{expected}::::\n" in page


def test_pages_that_are_out_of_date_are_noticed(
    made_up: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = made_up / "docs" / "conformance" / "a-page.md"
    assert main(["--check"], made_up) == 1
    assert not page.exists()
    main([], made_up)
    change(made_up / "tests" / "test_some.py", "test_it_sends", "test_it_sends_well")
    capsys.readouterr()
    assert main(["--check"], made_up) == 1
    complaint = "docs/conformance/a-page.md is out of date; run: python -m tests.conformance\n"
    assert capsys.readouterr().out == complaint
    assert main([], made_up) == 0
    assert "test_it_sends_well" in page.read_text("utf-8")


def test_a_page_of_a_section_that_is_gone_goes_too(made_up: Path) -> None:
    main([], made_up)
    page = made_up / "docs" / "conformance" / "facts.md"
    change(made_up / "docs" / "conformance.toml", 'title = "Facts"', 'title = "Other facts"')
    assert main(["--check"], made_up) == 1
    main([], made_up)
    assert not page.exists()
    assert page.with_name("other-facts.md").exists()


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
