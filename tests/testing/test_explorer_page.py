"""The program on the page about the explorer, and what the page says that comes of it."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

import pytest

from trio_send.testing import ExplorationError

PAGE = Path(__file__).parents[2] / "docs" / "explorer.rst"


def blocks(kind: str) -> list[str]:
    found = re.findall(rf"\.\. code-block:: {kind}\n\n((?:   .*\n|\n)+)", PAGE.read_text("utf-8"))
    return [textwrap.dedent(block).strip("\n") for block in found]


@pytest.mark.skipif(not PAGE.exists(), reason="the documentation is not here")
def test_the_program_of_the_page_says_what_the_page_says() -> None:
    program = "\n\n".join(blocks("python")[:2])
    (said,) = blocks("text")
    names: dict[str, Any] = {}
    exec(compile(program, "test_queue.py", "exec"), names)
    with pytest.raises(ExplorationError) as caught:
        names["test_nothing_is_lost"]()
    assert str(caught.value.report) == said
