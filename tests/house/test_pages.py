"""The pages of the documentation, built as they are published, and looked at in a browser."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import attrs
import pytest

pytest.importorskip("furo")
pytest.importorskip("trio_websocket")

from tests.browser import find_browser, open_tab

ROOT = Path(__file__).parents[2]

#: As wide as a phone, as a tablet or half a screen, and as a screen.
WIDTHS = (390, 742, 1280)

#: So many tests share the pages, so that none of them takes long on a slow machine.
PARTS = 6

#: More than this is no page that anybody reads.
MOST_WORDS = 3000

#: In these something is looked up: a row in the pages of conformance, a release in the history.
LOOKED_UP = ("conformance/", "history.html")

#: Boxes that can be scrolled sideways, or would have to be. Only code may be, for its lines mean something.
SIDEWAYS = """
[...document.querySelectorAll("body, body *")].filter(box => {
  const style = getComputedStyle(box);
  const canScroll = box === document.body || ["auto", "scroll"].includes(style.overflowX);
  const isCode = box.closest("pre, .highlight") !== null;
  const isSeen = box.closest(".sidebar-drawer, .toc-drawer, .mobile-header") === null;
  return canScroll && !isCode && isSeen && box.scrollWidth > box.clientWidth + 1;
}).map(box => {
  const name = box.tagName.toLowerCase() + (box.className ? "." + box.className : "");
  return `${name}, ${box.scrollWidth} of ${box.clientWidth} px: ${box.innerText.slice(0, 60)}`;
})
"""

#: Programs whose lines are too long for a screen, also those in tabs that are not shown at first.
LONG_LINES = """
document.querySelectorAll(".sd-tab-content").forEach(tab => tab.style.display = "block");
[...document.querySelectorAll(
  ":is(.highlight-python, .highlight-python3, .highlight-default, .highlight-csharp) pre"
)].filter(box => box.scrollWidth > box.clientWidth + 1).map(
  box => box.innerText.split("\\n").sort((one, other) => other.length - one.length)[0]
)
"""


class Page(HTMLParser):
    """What of a page can be told without a browser."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.places: set[str] = set()
        self.links: list[str] = []
        self.words = 0
        self._is_article = False
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if name == "id" and value:
                self.places.add(value)
            elif name in ("href", "src") and value:
                self.links.append(value)
        if tag == "article":
            self._is_article = True

    def handle_endtag(self, tag: str) -> None:
        if tag == "article":
            self._is_article = False

    def handle_data(self, data: str) -> None:
        if self._is_article:
            self.words += len(data.split())


@attrs.frozen
class Pages:
    """All pages by their paths, and the folder that they are in."""

    folder: Path
    pages: dict[Path, Page]

    def name(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()

    def broken_links(self) -> Iterator[str]:
        for page in self.pages.values():
            for link in page.links:
                parts = urlsplit(link)
                if parts.scheme or parts.netloc:
                    continue
                target = page.path
                if parts.path:
                    target = (page.path.parent / unquote(parts.path)).resolve()
                where = f"{self.name(page.path)} links to {link}"
                if not target.exists():
                    yield where
                elif (
                    parts.fragment
                    and target in self.pages
                    and unquote(parts.fragment) not in self.pages[target].places
                ):
                    yield f"{where}, and there is no such place on the page"


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Pages:
    folder = tmp_path_factory.mktemp("documentation").resolve()
    built = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "docs", folder],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    return Pages(folder, {path: Page(path) for path in sorted(folder.rglob("*.html"))})


def test_links_between_the_pages_lead_somewhere(pages: Pages) -> None:
    assert len(pages.pages) > 50
    assert sum(len(page.links) for page in pages.pages.values()) > 1000
    assert list(pages.broken_links()) == []


def test_no_page_is_too_long(pages: Pages) -> None:
    long = {
        pages.name(page.path): page.words
        for page in pages.pages.values()
        if page.words > MOST_WORDS and not pages.name(page.path).startswith(LOOKED_UP)
    }
    assert long == {}


@pytest.fixture
def browser() -> str:
    found = find_browser()
    if found is None:
        pytest.skip("there is no Chromium here")
    return found


@pytest.mark.parametrize("part", range(PARTS))
async def test_nothing_but_code_has_to_be_scrolled_sideways(
    pages: Pages, browser: str, tmp_path: Path, part: int
) -> None:
    faults = []
    async with open_tab(browser, tmp_path) as tab:
        for path in list(pages.pages)[part::PARTS]:
            await tab.open(path)
            for width in WIDTHS:
                await tab.resize(width)
                faults += [
                    f"{pages.name(path)} at {width} px: {box}" for box in await tab.run(SIDEWAYS)
                ]
            faults += [f"{pages.name(path)}: {line}" for line in await tab.run(LONG_LINES)]
    assert not faults, "\n".join(faults)


async def test_a_box_that_has_to_be_scrolled_is_found(browser: str, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    wide = '<div style="width: 500px">wide</div>'
    page.write_text(
        f'<div style="overflow: auto">{wide}</div>'
        f'<pre style="overflow: auto">{wide}</pre><div>narrow</div>',
        "utf-8",
    )
    (tmp_path / "profile").mkdir()
    async with open_tab(browser, tmp_path / "profile") as tab:
        await tab.open(page)
        await tab.resize(742)
        assert await tab.run(SIDEWAYS) == []
        await tab.resize(390)
        [box] = await tab.run(SIDEWAYS)
        assert box.startswith("div, 500 of 374 px: wide")


async def test_a_program_that_is_too_wide_is_found(browser: str, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    program = '<div class="highlight-python"><pre style="overflow: auto">{}\nshort</pre></div>'
    hidden = f'<div class="sd-tab-content" style="display: none">{program.format("x" * 300)}</div>'
    page.write_text(program.format("x" * 20) + hidden, "utf-8")
    (tmp_path / "profile").mkdir()
    async with open_tab(browser, tmp_path / "profile") as tab:
        await tab.open(page)
        await tab.resize(1280)
        assert await tab.run(LONG_LINES) == ["x" * 300]


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    one, two = tmp_path / "one.html", tmp_path / "two.html"
    one.write_text('<a href="two.html#there">1</a><a href="two.html#gone">2</a><a id="here"/>')
    two.write_text('<p id="there"><a href="one.html#here">3</a><a href="three.html">4</a>')
    made_up = Pages(tmp_path, {path: Page(path) for path in (one, two)})
    assert list(made_up.broken_links()) == [
        "one.html links to two.html#gone, and there is no such place on the page",
        "two.html links to three.html",
    ]
