"""The README is short, its links lead somewhere, and where it is shown elsewhere they still do."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]

TEXT = (ROOT / "README.md").read_text("utf-8")

#: What fits on a few screens.
MOST_LINES = 150


def test_it_is_short() -> None:
    assert len(TEXT.splitlines()) <= MOST_LINES


@pytest.mark.parametrize("page", sorted(path.name for path in ROOT.glob("*.md")))
def test_links_to_files_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    paths = re.findall(r"\]\((?!\w+:|#)([^)#]+)\)", text)
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_every_example_is_described() -> None:
    text = (ROOT / "examples" / "README.md").read_text("utf-8")
    named = re.findall(r"^\| `(\w+\.py)` \|", text, re.MULTILINE)
    assert sorted(named) == sorted(path.name for path in (ROOT / "examples").glob("*.py"))


# Elsewhere ------------------------------------------------------------------------------------


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The project's hook, without hatchling, which only a build brings along."""
    name = "hatchling"
    for part in ("metadata", "plugin", "interface"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
        name += f".{part}"
    interface = ModuleType(name)
    interface.MetadataHookInterface = object  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, name, interface)
    spec = importlib.util.spec_from_file_location("hatch_metadata", ROOT / "hatch_metadata.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SMALL = (
    "![A picture](docs/a.svg) and [words](docs/a.rst), [a site](https://a.org), [below](#here).\n"
)


def test_links_go_to_the_home(elsewhere: ModuleType) -> None:
    assert elsewhere.readme(SMALL, "https://h.org/x/") == (
        "![A picture](https://h.org/x/raw/HEAD/docs/a.svg) and "
        "[words](https://h.org/x/blob/HEAD/docs/a.rst), [a site](https://a.org), [below](#here).\n"
    )


def test_without_a_home_no_link_is_left_that_leads_nowhere(elsewhere: ModuleType) -> None:
    expected = " and words, [a site](https://a.org), [below](#here).\n"
    assert elsewhere.readme(SMALL, None) == expected


@pytest.mark.parametrize("home", [None, "https://example.org/thing"])
def test_no_link_of_the_readme_is_overlooked(elsewhere: ModuleType, home: str | None) -> None:
    shown = elsewhere.readme(TEXT, home)
    assert re.search(r"\]\((docs|examples)/|\]\(\w+\.md|\]\(LICENSE", TEXT)
    assert not re.search(r"\]\((?!https://)", shown)
    assert shown.count("```") == TEXT.count("```")


def test_the_home_stands_in_one_place() -> None:
    """All links to the project's own pages are made from the one in pyproject.toml."""
    home = re.search(
        r'^Homepage = "(.+)"', (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE
    )
    if home is None:
        pytest.skip("the project has no home yet")
    files = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.rst"), *ROOT.glob("trio_send/**/*.py")]
    assert [path for path in files if home[1] in path.read_text("utf-8")] == []
