"""Make the inventories in ``docs/inventories``, by which the documentation links to that of others without a network.

    python docs/inventories.py               # fetch them from where the documentation of each project is
    python docs/inventories.py DIRECTORY     # read DIRECTORY/python.inv and so on, which were fetched before

An inventory says on which page each name stands. What is stored is its first format, which is plain text, and only the
modules in `MODULES`, because the whole is large. If a page names something of another module, the build says that it
does not know it; add the module then.
"""

from __future__ import annotations

import sys
import urllib.request
from pathlib import Path

from sphinx.util.inventory import InventoryFile

HERE = Path(__file__).resolve().parent

#: Where the documentation of each project is.
PROJECTS = {
    "opentelemetry": "https://opentelemetry-python.readthedocs.io/en/latest/",
    "outcome": "https://outcome.readthedocs.io/en/latest/",
    "python": "https://docs.python.org/3/",
    "trio": "https://trio.readthedocs.io/en/stable/",
    "typing_extensions": "https://typing-extensions.readthedocs.io/en/latest/",
}

#: The modules of which the names are kept. Of a project that is not here all of them are.
MODULES = {
    "opentelemetry": ("opentelemetry.metrics", "opentelemetry.trace"),
    "python": (
        "array",
        "asyncio",
        "collections.abc",
        "concurrent.futures",
        "contextlib",
        "contextvars",
        "ctypes",
        "enum",
        "errno",
        "functools",
        "io",
        "itertools",
        "logging",
        "math",
        "mmap",
        "os",
        "pathlib",
        "queue",
        "select",
        "selectors",
        "signal",
        "socket",
        "ssl",
        "sys",
        "threading",
        "time",
        "types",
        "typing",
        "weakref",
    ),
}


def is_kept(project: str, name: str) -> bool:
    """Tell whether a name is stored; Python's built-in names, which have no module in front, always are."""
    modules = MODULES.get(project)
    return (
        modules is None
        or "." not in name
        or any(f"{name}.".startswith(f"{module}.") for module in modules)
    )


def stored(project: str, content: bytes) -> str:
    """Return an inventory in its first format, which has a line ``name type page`` for each name.

    There the place on the page is the name, so the few names that stand at another place are left out.

    Args:
      project: a key of `PROJECTS`.
      content: the inventory as it is fetched.
    """
    inventory = InventoryFile.loads(content, uri="")
    lines = set()
    for kind, items in inventory.data.items():
        domain, _, kind_there = kind.partition(":")
        if domain != "py":
            continue
        for name, item in items.items():
            page, _, place = item.uri.partition("#")
            if kind_there == "module" and place == f"module-{name}":
                line = f"{name} mod {page}"
            elif place == name:
                line = f"{name} {kind_there} {page}"
            else:
                continue
            if is_kept(project, name):
                lines.add(line)
    some_item = next(iter(inventory.data["py:module"].values()))
    head = (
        "# Sphinx inventory version 1",
        f"# Project: {some_item.project_name}",
        f"# Version: {some_item.project_version}",
    )
    return "".join(f"{line}\n" for line in (*head, *sorted(lines)))


def main(arguments: list[str]) -> None:
    for project, url in PROJECTS.items():
        if arguments:
            content = Path(arguments[0], f"{project}.inv").read_bytes()
        else:
            with urllib.request.urlopen(f"{url}objects.inv") as answer:
                content = answer.read()
        (HERE / "inventories" / f"{project}.txt").write_text(stored(project, content), "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
