"""What readers copy from the documentation, from docstrings and from the README runs."""

from __future__ import annotations

import shlex
from importlib.util import find_spec
from pathlib import Path

import pytest

from trio_send._cli.parser import make_parser

pytest.importorskip("sybil")

from tests.snippets import (
    ROOT,
    BrokenSnippet,
    Page,
    Runner,
    blocks,
    commands,
    pages,
    unnamed_blocks,
)

PAGES = list(pages())


@pytest.mark.parametrize(
    "page", [page for page in PAGES if blocks(page)], ids=lambda page: page.name
)
def test_the_code_on_a_page_runs(
    page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Runner(page).run()


def test_every_block_says_what_it_is_written_in() -> None:
    """Where nothing is said nothing is run, so Python might hide there."""
    faults = [f"{page.name}: {line!r}" for page in PAGES for line in unnamed_blocks(page)]
    assert faults == [], "write '.. code-block:: python', console or text in front of these blocks"


def test_commands_are_there_and_have_the_options_that_are_shown() -> None:
    faults = []
    for page in PAGES:
        for command in commands(page):
            program, *arguments = shlex.split(command, comments=True) or [""]
            try:
                if program == "trio-send":
                    make_parser().parse_args(arguments)
                elif program == "python" and arguments[0] == "-m":
                    assert find_spec(arguments[1]) is not None
                elif program == "python":
                    assert (ROOT / arguments[0]).exists()
            except (AssertionError, ModuleNotFoundError, SystemExit):
                faults.append(f"{page.name}: {command}")
    assert faults == []


# The rules themselves -------------------------------------------------------------------------

RST = """\
Some words.

.. invisible-code-block: python

   count = 1

.. code-block:: python

   async with socket:
       assert await socket.send(b"x") == count
{more}
"""


FOR_EVER = """
.. code-block:: python

   await trio.sleep_forever()
   assert not count
"""


def rst(more: str = "") -> Page:
    return Page("page.rst", RST.format(more=more))


def test_a_page_runs_from_top_to_bottom() -> None:
    assert [block.line for block in blocks(rst())] == [5, 9]
    Runner(rst()).run()


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        ("       unknown", r"page\.rst: .* line 9 .* NameError: .* invisible-code-block"),
        ("       assert not count", r"page\.rst: .* line 9 .* AssertionError"),
        ("       here is no code", r"page\.rst: .* line 9 .* SyntaxError"),
        ("\n.. code-block:: python\n\n   await peer.send(b'', 1, 2)", r"line 14 .* TypeError"),
    ],
)
def test_a_block_that_does_not_run_is_named(more: str, complaint: str) -> None:
    with pytest.raises(BrokenSnippet, match=complaint):
        Runner(rst(more)).run()


def test_a_block_that_waits_for_ever_is_stopped_if_it_says_so() -> None:
    Runner(rst("       stop_when_all_wait()\n" + FOR_EVER)).run()


def test_code_in_markdown_runs() -> None:
    page = Page("page.md", "# A title\n\n```python\nimport trio\n\ntrio.unknown\n```\n")
    with pytest.raises(BrokenSnippet, match=r"page\.md: .* line 4 .* AttributeError"):
        Runner(page).run()


def test_a_block_without_a_language_is_found() -> None:
    page = Page("page.rst", ".. code-block:: python\n\n   x\n\nLike this::\n\n   x\n\n.. note::\n")
    assert unnamed_blocks(page) == ["Like this::"]


def test_commands_are_found() -> None:
    page = Page(
        "page.rst",
        "Type::\n\n   $ trio-send \\\n   demo\n   done\n\n"
        ".. code-block:: sh\n\n   trio-send bench\n   python \\\n       -m pytest\n",
    )
    assert commands(page) == ["trio-send    demo", "trio-send bench", "python     -m pytest"]
