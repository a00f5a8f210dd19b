"""Findings as files: what is written is read again, and nothing else is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

import trio_send
from trio_send.testing import Decision, Finding, Place

FINDING = Finding(
    scenario="takes_one",
    sentence="an item is lost: »3«",
    details="",
    checked=Place("look", 12, "test_queue.py"),
    asked=("takes_one before step 3 of take",),
    struck=(Place("get", 11, "queue.py", "checkpoint"),),
    runs=4,
    of_runs=9,
    limits={"cancel": 1, "order": 0},
    decisions=(Decision("cancel", "takes_one before step 3 of take", 1, 2),),
    steps=7,
    trace="04002302c4a34f3be152d4cb142c1675",
    versions={"python": "3.12.1", "trio": "0.31.0"},
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "finding.json"
    FINDING.save(path)
    return path


def test_what_is_written_is_read_again(file: Path) -> None:
    assert Finding.load(file) == FINDING
    assert Finding.load(str(file)) == FINDING
    assert len(file.read_bytes()) < 1500
    assert "»3«" in file.read_text("utf-8")


def test_what_the_explorer_says_has_no_place(file: Path) -> None:
    finding = attrs.evolve(FINDING, checked=None, details="take at get:11", struck=(), asked=())
    finding.save(file)
    assert Finding.load(file) == finding


def test_a_finding_says_what_it_was_found_with() -> None:
    async def fails(case: trio_send.testing.Case) -> None:
        case.check(False, "no")

    (finding,) = trio_send.testing.explore(fails, only={}).findings
    assert finding.versions["trio"] == trio.__version__
    assert finding.versions["trio_send"] == trio_send.__version__
    assert set(finding.versions) == {"python", "implementation", "trio", "trio_send"}


def test_a_finding_in_words() -> None:
    two = attrs.evolve(FINDING, struck=(*FINDING.struck, Place("main", 3, "app.py", "sleep")))
    assert two.in_words == [
        "an item is lost: »3« (4 of 9 runs)",
        "said at look:12 (test_queue.py)",
        "a cancel struck get:11 (queue.py), in checkpoint",
        "and also main:3 (app.py), in sleep",
        "it was a cancel of takes_one before step 3 of take",
        "again: only={'cancel takes_one before step 3 of take': 1}",
    ]


def remove(name: str) -> Callable[[Any], object]:
    return lambda content: content.pop(name)


def put(name: str, value: object) -> Callable[[Any], object]:
    return lambda content: content.update({name: value})


def put_in(name: str, key: str, value: object) -> Callable[[Any], object]:
    return lambda content: content[name][0].update({key: value})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (put("format", "something"), "its format is not 'trio_send finding'"),
        (put("version", 2), "its version is 2, and this one reads 1"),
        (put("more", 2), "it has more, which is not known here"),
        (remove("steps"), "the file has no steps"),
        (remove("checked"), "the file has no checked"),
        (put("steps", "7"), "steps in the file is '7', but must be of type int"),
        (put("steps", True), "steps in the file is True, but must be of type int"),
        (put("steps", -1), "steps in the file is -1, but must be 0 or more"),
        (put("asked", [1]), "asked has 1, but may have nothing but strings"),
        (put("limits", {"cancel": "1"}), "cancel in limits is '1', but must be of type int"),
        (put("limits", {"cancel": -1}), "cancel in limits is -1, but must be 0 or more"),
        (put("versions", {"trio": 1}), "trio in versions is 1, but must be of type str"),
        (put("struck", ["get:11"]), "a place is no object"),
        (put("checked", {"function": "f"}), "checked has no line"),
        (put_in("struck", "line", -1), "line in a place is -1"),
        (put_in("decisions", "kind", "whim"), "a decision is of kind 'whim', but there are plan, "),
        (put_in("decisions", "choice", 0), "choice in a decision is 0, but must be 1 or more"),
        (put_in("decisions", "choice", 2), "a decision has choice 2 of 2 options, from 0 on"),
        (put_in("decisions", "options", 1), "options in a decision is 1"),
    ],
)
def test_what_is_no_finding_is_refused(
    file: Path, change: Callable[[Any], object], words: str
) -> None:
    content = json.loads(file.read_text("utf-8"))
    change(content)
    file.write_text(json.dumps(content), "utf-8")
    with pytest.raises(ValueError, match="holds no finding") as caught:
        Finding.load(file)
    assert f"{file} holds no finding: {words}" in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "{", "\udc80"])
def test_what_is_no_json_is_refused(file: Path, text: str) -> None:
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match="holds no finding"):
        Finding.load(file)


def test_a_file_that_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Finding.load(tmp_path / "nothing.json")
