"""Draw the folders of the package, and which of them import from which, as their files say it."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path
from typing import Final

from drawing import Drawing, Point

PACKAGE: Final = Path(__file__).parents[1] / "trio_send"

#: Where the folders stand, those that import nothing at the bottom.
PLACES: Final[dict[str, Point]] = {
    "_cli": (285, 40),
    "testing": (285, 100),
    "timeline": (450, 160),
    "_threads": (120, 160),
    "_socket": (285, 220),
    "_owners": (285, 280),
    "_operations": (285, 340),
    "_tracing": (450, 400),
    "_messages": (450, 460),
    "_kernel": (285, 460),
    "_base": (285, 520),
}

WIDTH: Final = 110.0
HEIGHT: Final = 34.0


def imports() -> dict[str, set[str]]:
    """Which folders each folder imports from when the package runs."""
    found: dict[str, set[str]] = {name: set() for name in PLACES}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).parts
        if parts[0] not in found:
            continue
        tree = ast.parse(path.read_text("utf-8"))
        unseen = {
            id(inner)
            for node in ast.walk(tree)
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
            for inner in ast.walk(node)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.level and id(node) not in unseen:
                base = list(parts[: len(parts) - node.level])
                target = (base + (node.module or "").split("."))[0]
                if not base and not node.module:
                    continue
                if target in found and target != parts[0]:
                    found[parts[0]].add(target)
    return found


def shortest(arrows: dict[str, set[str]]) -> dict[str, set[str]]:
    """The same without the arrows that others lead to as well, through a folder between."""

    @cache
    def below(name: str) -> frozenset[str]:
        return frozenset(reached for each in arrows[name] for reached in (each, *below(each)))

    return {
        name: {each for each in reached if not any(each in below(by) for by in reached - {each})}
        for name, reached in arrows.items()
    }


async def rooms() -> str:
    """Draw the folders, each with arrows to the nearest that it imports from."""
    drawing = Drawing(570, 560, "The folders of the package, and which import from which")
    for name, reached in shortest(imports()).items():
        x, y = PLACES[name]
        for other in sorted(reached):
            to_x, to_y = PLACES[other]
            aside = (to_x > x) - (to_x < x)
            start = (x + aside * WIDTH / 4, y + HEIGHT / 2)
            end = (to_x - aside * WIDTH / 4, to_y - HEIGHT / 2)
            drawing.line([start, end], head=True)
    for name, place in PLACES.items():
        drawing.box(place, WIDTH, HEIGHT, name)
    return drawing.svg()
