"""``python -m benchmarks``: what it computes, prints and writes; and that each work runs. No test looks at a time."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

pytest.importorskip("resource", reason="the benchmarks need a system that is a kind of Unix")

ROOT = Path(__file__).parents[2] / "benchmarks"

# The tests are run with nothing of the checkout on the path; see the note on pytest in pyproject.toml.
_spec = importlib.util.spec_from_file_location(
    "benchmarks", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
)
assert _spec is not None
sys.modules["benchmarks"] = importlib.util.module_from_spec(_spec)

from benchmarks.__main__ import WORKS, main, parse  # noqa: E402
from benchmarks.growth_picture import by_place, draw_growth  # noqa: E402
from benchmarks.picture import draw, labels  # noqa: E402
from benchmarks.records import Goal, Row, compare, from_json, limit, to_json  # noqa: E402
from benchmarks.table import lines, missed, prices, show, summary  # noqa: E402
from benchmarks.works import Scale  # noqa: E402

TINY = Scale(rounds=1, chunk_ns=1, share=0.001)


# Goals ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("goal", "words", "told", "met"),
    [
        (Goal("ours", "floor", 1.2), "at most 1.2 x floor", "1.20", True),
        (Goal("ours", "floor", 1.1), "at most 1.1 x floor", "1.20", False),
        (Goal("ours", "theirs", 1 / 5), "at least 5 x cheaper than theirs", "5.0 x", True),
        (Goal("ours", "theirs", 1 / 7), "at least 7 x cheaper than theirs", "5.0 x", False),
    ],
)
def test_goals(goal: Goal, words: str, told: str, met: bool) -> None:
    measured = {"floor": [10.0, 10], "ours": [12.0, 12], "theirs": [60.0, 60]}
    row = compare("a work", "TCP", measured, [goal])
    (verdict,) = row.verdicts
    assert (verdict.goal, verdict.value, verdict.met) == (words, told, met)


def test_a_goal_knows_what_is_possible() -> None:
    measured = {"floor": [10.0], "ours": [15.0], "bare": [13.0], "theirs": [65.0]}
    goals = [Goal("ours", "floor", 1.2, "bare"), Goal("ours", "theirs", 1 / 5, "bare")]
    row = compare("a work", "TCP", measured, goals)
    assert [verdict.bound for verdict in row.verdicts] == ["1.30", "5.0 x"]
    assert "measured 1.50; the best possible is 1.30" in "\n".join(lines([row], {}))


def test_a_goal_against_a_peer_that_is_not_installed_is_left_out() -> None:
    row = compare("a work", "", {"ours": [1.0]}, [Goal("ours", "uvloop", 1)])
    assert row.verdicts == []
    assert row.ratios == {}


def test_goals_of_absolute_size() -> None:
    row = compare("a work", "", {"ours": [150.0]}, unit="B")
    limit(row, "memory", 150, 200, "B")
    limit(row, "memory", 150, 100, "B")
    assert [verdict.met for verdict in row.verdicts] == [True, False]
    assert row.verdicts[0].goal == "memory at most 200 B"


# Output ---------------------------------------------------------------------------------------


@pytest.fixture
def row() -> Row:
    measured = {"floor": [1000.0, 1000, 1000], "ours": [1100.0, 1200, 1300]}
    return compare("a work", "TCP", measured, [Goal("ours", "floor", 1.1)], note="as it is")


def test_json_can_be_read_again(row: Row) -> None:
    assert from_json(to_json([row], {"python": "3"})) == ([row], {"python": "3"})


def test_the_table_tells_everything(row: Row) -> None:
    text = "\n".join(lines([row], {"a work": "what it is"}))
    assert "a work, TCP: what it is" in text
    assert "1.2 us" in text
    assert "1.15 .. 1.25" in text
    assert "goal NOT MET: at most 1.1 x floor; measured 1.20" in text
    assert "note: as it is" in text


def test_the_summary_has_ours_and_each_peer() -> None:
    measured = {
        "floor": [10.0],
        "begin_send": [12.0],
        "trio task each": [55.0],
        "asyncio writelines": [33.0],
    }
    goals = [Goal("begin_send", "floor", 1.2), Goal("begin_send", "floor", 1.1)]
    header, _, line = summary([compare("a work", "Unix", measured, goals)])
    assert header.split()[-3:] == ["asyncio", "uvloop", "goals"]
    told = "a work Unix 12 ns 10 ns 1.20 1.20 .. 1.20 5.50 3.30 1 of 2 met"
    assert line.split() == told.split()


def test_what_was_missed_is_told(row: Row) -> None:
    (_, _, line) = missed([row])
    assert line.split() == ["a", "work", "TCP", "1.20", *str(Goal("", "floor", 1.1)).split()]
    row.verdicts = []
    assert list(missed([row])) == ["All goals were met."]


def test_rows_without_goals_and_floor_have_a_table_of_their_own(row: Row) -> None:
    assert list(prices([row])) == []
    row.verdicts = []
    assert list(prices([row])) == []
    row.ratios = {}
    assert [line.split() for line in prices([row])] == [
        ["pending", "at", "once", "floor", "ours"],
        ["---------------", "-----", "------"],
        ["TCP", "1", "us", "1.2", "us"],
        [],
    ]


def test_the_documentation_shows_what_was_measured(capsys: pytest.CaptureFixture[str]) -> None:
    docs = ROOT.parent / "docs"
    assert main(["--from", str(docs / "performance.json")]) == 0
    assert capsys.readouterr().out == (docs / "performance.txt").read_text("utf-8")


def test_the_picture_has_every_row_with_a_floor(row: Row, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    row.values["send_async"], row.ratios["send_async"] = row.values["ours"], row.ratios["ours"]
    path = tmp_path / "picture.svg"
    other = compare("without a floor", "", {"send_async": [1.0]})
    draw([row, row, other], {"a work": "what it is"}, {"python": "3"}, path)
    first = path.read_bytes()
    assert b"<svg" in first
    assert first.count(b"prefers-color-scheme: dark") == 1
    draw([row, row, other], {"a work": "what it is"}, {"python": "3"}, path)
    assert path.read_bytes() == first
    assert labels([row, row], {"a work": "what it is"}) == ["what it is:   TCP", "TCP"]


def test_the_growth_is_a_picture_of_its_own(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    rows = [
        compare("growth", f"{count:,} {place}", {"start": [1000.0], "complete": [count]})
        for place in ("on one connection", "connections")
        for count in (10, 1_000)
    ]
    other = compare("another work", "10 of them", {"send_async": [1.0]})
    assert [[count for count, _ in points] for points in by_place([*rows, other]).values()] == [
        [10, 1_000],
        [10, 1_000],
    ]
    path = tmp_path / "growth.svg"
    draw_growth(rows, path)
    first = path.read_bytes()
    assert b"<svg" in first
    draw_growth(rows, path)
    assert path.read_bytes() == first
    with pytest.raises(ValueError, match="was not measured"):
        draw_growth([other], path)


def test_what_was_written_can_be_shown_again(
    row: Row, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row.work = "send_async"
    row.values["send_async"] = row.values["ours"]
    other = compare("bulk", "TCP", {"send_async": [1.0]})
    path = tmp_path / "results.json"
    path.write_text(to_json([row, other], {"python": "3.99"}), "utf-8")
    assert main(["--from", str(path), "send_async"]) == 0
    shown = capsys.readouterr().out
    assert "python 3.99" in shown
    assert "send_async, TCP" in shown
    assert "bulk" not in shown


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (1.234, "ns", "1.23 ns"),
        (12_345, "ns", "12.3 us"),
        (12_345_678, "ns", "12.3 ms"),
        (16_600, "B", "16,600 B"),
        (74, "B", "74 B"),
    ],
)
def test_values_are_shown_in_three_digits(value: float, unit: str, shown: str) -> None:
    assert show(value, unit) == shown


# The command ----------------------------------------------------------------------------------


def test_the_works_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    listed = capsys.readouterr().out
    for work in WORKS.values():
        assert work.name in listed
        assert work.title in listed


def test_an_unknown_work_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["no_such_work"])
    assert "there is no work 'no_such_work'" in capsys.readouterr().err


def test_a_picture_that_cannot_be_drawn_is_refused_before_anything_is_measured(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.__main__.find_spec", lambda name: None)
    with pytest.raises(SystemExit):
        parse(["--picture", "picture.svg"])
    assert "needs matplotlib" in capsys.readouterr().err


@pytest.mark.parametrize("name", WORKS)
async def test_each_work_runs(name: str) -> None:
    rows = await WORKS[name].measure(TINY)
    assert rows
    for row in rows:
        assert row.work == name
        assert row.values
        assert row.verdicts or name == "growth"  # which has no goals
