"""Hold pages of the documentation to what they name: tests, rules, and numbers of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.house.test_public_names import everything
from tests.museum import MUSEUM
from trio_send import SocketError
from trio_send._base.codes import SENTENCES
from trio_send._kernel.port import _MAX_SEGMENTS
from trio_send._messages.buffers import MAX_PIECES
from trio_send._messages.packets import ATTEMPT_SIZE
from trio_send._operations.bulk_ends import ENDS_PER_TRIP
from trio_send._operations.send_queue import MAX_BACKOFFS
from trio_send._operations.watermarks import DEFAULT_HIGH, DEFAULT_LOW, OPERATION_WEIGHT
from trio_send._owners.dispatcher import EVENTS_PER_TRIP
from trio_send._owners.engine import SOCKET_ALLOWANCE, TRIP_ALLOWANCE
from trio_send._owners.exiting_owner import START_BUDGET
from trio_send._socket.connect import ANSWER_LIMIT
from trio_send._socket.connect_by_name import DELAY
from trio_send.testing._rules import RULES

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.rst"))

#: What begins a row of the table of limits, and what stands behind it.
LIMITS = {
    "starts in a row": f"{START_BUDGET}",
    "bytes that one socket": f"{SOCKET_ALLOWANCE // 1024} KiB",
    "bytes that one step": f"{TRIP_ALLOWANCE // 1024} KiB",
    "events that": f"{EVENTS_PER_TRIP}",
    "operations that end together": f"{ENDS_PER_TRIP}",
    "bytes of files": f"{ATTEMPT_SIZE // 1024**2} MiB",
    "weight of a queue": f"{DEFAULT_HIGH:,} and {DEFAULT_LOW:,} bytes",
    "weight of an operation": f"{OPERATION_WEIGHT} bytes",
    "buffers in one": f"{MAX_PIECES:,}",
    "datagrams in one": f"{_MAX_SEGMENTS}",
    "tries when": f"{MAX_BACKOFFS}, in about a second",
    "seconds after which an address": f"{ANSWER_LIMIT:g}",
    "seconds after which `connect_tcp`": f"{DELAY:g}, a parameter",
}

#: Words that readers with another first language stumble over: old ones, "for" in the sense of because, and pictures
#: for which the field has a word.
HARD_WORDS = re.compile(
    r"\b(be it|be they|from when on|save (for|that|those)|whence|bequeath\w*|heirs?|doors?|audience)\b"
    r"|[,;] for (it|there|they|that is|that would|nobody|nothing|whoever|to|then|only|otherwise|its)\b",
    re.IGNORECASE,
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_test_that_is_named_exists(page: Path) -> None:
    for file, name in re.findall(r"``(tests/[\w/]+\.py)(?:::(\w+))?``", page.read_text("utf-8")):
        source = (ROOT / file).read_text("utf-8")
        assert not name or re.search(rf"^(async )?def {name}\(", source, re.MULTILINE), name


def test_the_page_of_promises_names_rules_that_exist() -> None:
    text = (DOCS / "promises.rst").read_text("utf-8")
    named = set(
        re.findall(r"``(\w+)``", " ".join(re.findall(r"^:Rule: (.*)$", text, re.MULTILINE)))
    )
    rules = {rule.__name__ for rule in RULES}
    assert named
    # No promise is about these: they say what holds of policies, ends, cancels and handlers.
    assert rules - named == {
        "policies_are_kept",
        "all_ends",
        "cancels_are_told_as_such",
        "errors_of_handlers_surface",
    }
    assert named <= rules


def test_the_bugs_that_are_named_are_planted() -> None:
    promises = (DOCS / "promises.rst").read_text("utf-8")
    lines = " ".join(re.findall(r"^:Known bugs: (.*)$", promises, re.MULTILINE))
    named = set(re.findall(r"[\w.-]+#\d+", lines))
    planted = {bug for exhibit in MUSEUM for bug in re.findall(r"[\w.-]+#\d+", exhibit.source)}
    assert named == planted
    tested = (DOCS / "how_it_is_tested.rst").read_text("utf-8")
    assert f"has {len(MUSEUM)} small changes" in tested


def test_the_table_of_limits_has_the_numbers_of_the_code() -> None:
    text = (DOCS / "explanations" / "limits.rst").read_text("utf-8")
    table = text.partition("     - How much\n")[2].partition("\n\n")[0]
    rows = re.findall(r"\* - (.*)\n     - (.*)", table)
    assert len(rows) == len(LIMITS)
    for what, number in rows:
        (expected,) = [value for start, value in LIMITS.items() if what.startswith(start)]
        assert number == expected, what


def test_every_code_has_an_entry_in_troubleshooting() -> None:
    text = (DOCS / "howto" / "troubleshooting.rst").read_text("utf-8")
    entries = re.findall(r"\* - (\w+), (-?\d+): (.*)", text)
    assert entries == [
        (code.name, str(int(code)), sentence)
        for code, sentence in SENTENCES.items()
        if code not in (SocketError.SUCCESS, SocketError.IO_PENDING)
    ]


def test_pages_and_docstrings_have_no_hard_words() -> None:
    texts = {page.name: page.read_text("utf-8") for page in PAGES}
    texts |= {name: doc or "" for name, _, doc in everything()}
    found = [
        f"{name}: {hard[0]}"
        for name, text in texts.items()
        for hard in HARD_WORDS.finditer(" ".join(text.split()))
    ]
    assert found == []
