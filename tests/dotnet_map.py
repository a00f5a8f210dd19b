"""Make the page on what stands for each public member of .NET's sockets, and check that it is so.

``docs/dotnet_map.toml`` has a row for each member, or for a few that belong together. From it comes
``docs/dotnet_map.rst``::

    python -m tests.dotnet_map            # write it
    python -m tests.dotnet_map --check    # only say what is wrong

Every name is looked up in the package, or where it comes from. What is said to have the same name has it, what is said
to be absent is, with a row in ``docs/conformance.toml`` that says why; and all that the package has is on the page.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

import trio_send
from tests.conformance import read_sections

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent

KINDS = {"same": "success", "other": "primary", "absent": "secondary", "ours": "info"}

#: Classes all of whose public members stand on the page.
COMPLETE = (
    "Socket",
    "SocketAsyncEventArgs",
    "AsyncResult",
    "WaitHandle",
    "ManualResetEvent",
    "SendPacketsElement",
)
#: What Python's own sockets call a property that stands on the page.
ALIASES = {"Socket.getpeername", "Socket.getsockname"}


@attrs.frozen(kw_only=True)
class Row:
    """A member of .NET, or a few that belong together, and what stands for them."""

    net: list[str]
    kind: str
    here: list[str] = attrs.field(factory=list)
    instead: list[str] = attrs.field(factory=list)
    fact: str = ""
    note: str = ""


@attrs.frozen(kw_only=True)
class Section:
    """Rows on one class of .NET's."""

    title: str
    of: str
    rows: list[Row]


def read(text: str) -> list[Section]:
    """The sections of the data file."""
    return [
        Section(
            title=section["title"],
            of=section["class"],
            rows=[Row(kind=row.pop("is"), **row) for row in section["rows"]],
        )
        for section in tomllib.loads(text)["section"]
    ]


# What is wrong ----------------------------------------------------------------------------------


def snake(name: str) -> str:
    """.NET's name of a member in Python's spelling."""
    name = name.partition("(")[0]
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def spelling(name: str) -> set[str]:
    """What .NET's name may be here if it is the same: that of a class, or of a member."""
    return {name.partition("(")[0], snake(name)}


def find(name: str) -> Any:
    """The public thing of trio_send of that name.

    Raises:
      AttributeError: there is none.
    """
    found: Any = trio_send
    for part in name.split("."):
        found = getattr(found, part)
    return found


def find_elsewhere(name: str) -> Any:
    """The thing of another module."""
    module, _, rest = name.rpartition(".")
    return getattr(importlib.import_module(module), rest)


def row_faults(section: Section, row: Row, facts: set[str]) -> Iterator[str]:
    """A sentence for each thing that is amiss with a row."""
    where = f"{section.title}: {', '.join(row.net) or ', '.join(row.here)}"
    if row.kind not in KINDS:
        yield f"{where}: {row.kind!r} is none of {', '.join(KINDS)}"
    for name in row.here:
        try:
            find(name)
        except AttributeError:
            yield f"{where}: trio_send has no {name}"
    for name in row.instead:
        # Some systems lack some of Python's constants, and what names one says so.
        try:
            find_elsewhere(name)
        except AttributeError:
            if not name.startswith("socket.") or sys.platform == "linux":
                yield f"{where}: there is no {name}"
    last = [name.rpartition(".")[2] for name in row.here]
    if row.kind == "same":
        for net in row.net:
            if not spelling(net) & set(last):
                yield f"{where}: {net} is not there by the same name"
    if row.kind == "absent":
        if row.fact not in facts:
            yield f"{where}: {row.fact or 'no fact'} is no row of conformance.toml"
        owner = getattr(trio_send, section.of, trio_send)
        for net in row.net:
            # One form of a member may be absent where another is there.
            if "(" not in net and any(hasattr(owner, name) for name in spelling(net)):
                yield f"{where}: {net} is there"
    if (row.kind == "ours") == bool(row.net):
        yield f"{where}: what is ours has no name of .NET's, and all else has one"
    if row.kind in ("same", "ours") and not row.here:
        yield f"{where}: it does not say what is here"
    if row.kind == "other" and not (row.here or row.instead):
        yield f"{where}: it does not say what is here instead"


def missing(sections: list[Section]) -> Iterator[str]:
    """A sentence for each public name that is nowhere on the page."""
    told = {name for section in sections for row in section.rows for name in row.here} | ALIASES
    for owner in COMPLETE:
        for name in dir(getattr(trio_send, owner)):
            inherited = any(f"{base.__name__}.{name}" in told for base in find(owner).__mro__)
            if not name.startswith("_") and not inherited:
                yield f"{owner}.{name} is not on the page"


def faults(root: Path) -> list[str]:
    """All that is wrong with the data file below ``root``."""
    sections = read((root / "docs" / "dotnet_map.toml").read_text("utf-8"))
    conformance = read_sections((root / "docs" / "conformance.toml").read_text("utf-8"))
    facts = {row.id for part in conformance for row in part.rows if row.differs}
    found = [
        fault
        for section in sections
        for row in section.rows
        for fault in row_faults(section, row, facts)
    ]
    return [*found, *missing(sections)]


# The page -----------------------------------------------------------------------------------------

HEAD = """\
.. Made by `python -m tests.dotnet_map` from docs/dotnet_map.toml. Change that.

From .NET's sockets to trio_send
================================

.. currentmodule:: trio_send

Every public member of .NET's ``System.Net.Sockets``, up to .NET 11, and what stands for it here.

* :bdg-success:`same` the same name, in Python's spelling.
* :bdg-primary:`other` another name, or another shape.
* :bdg-secondary:`absent` left out on purpose; :doc:`conformance` says why, under the number.
* :bdg-info:`ours` what .NET has not.

Rules that hold for every line: ``PascalCase`` becomes ``snake_case``; ``out`` and ``ref`` parameters are returned; an
``EndPoint`` is a Python socket address; ``byte[]``, ``ArraySegment``, ``Memory`` and ``Span`` are one thing, any
bytes-like object; ``IList<ArraySegment>`` is a list or tuple; ``Task`` is the awaiting form, and a
``CancellationToken`` a cancel scope around it; ``AsyncCallback`` is any function of one argument, also an async one; an
event is ``+=``; a blocking call is ``await`` in Trio, and a function of `trio_send.from_thread` in a thread.
``SAEA`` is short for ``SocketAsyncEventArgs``.
"""


def link(name: str) -> str:
    """A name as it stands on the page: a link where there is something to link to."""
    try:
        is_linked = not inspect.ismemberdescriptor(find(name))  # those have no entry of their own
    except AttributeError:
        is_linked = name.startswith("trio.")
    return f"`{name}`" if is_linked else f"``{name.removeprefix('builtins.')}``"


def entry(row: Row) -> str:
    """A row as it stands on the page."""
    term = ", ".join(f"``{name}``" for name in row.net) or "More"
    lines = [term, f"   :bdg-{KINDS.get(row.kind, 'danger')}:`{row.kind}`"]
    here = [*map(link, row.here), *map(link, row.instead)]
    if row.here or row.instead:
        lines[-1] += " " + ", ".join(here)
    if row.fact:
        lines[-1] += f" (:ref:`{row.fact} <{row.fact.lower()}>`)"
    if row.note:
        lines += ["", f"   {row.note}"]
    return "\n".join(lines) + "\n"


def page(sections: list[Section]) -> str:
    """The whole page."""
    parts = [HEAD]
    for section in sections:
        parts.append(f"\n{section.title}\n{'-' * len(section.title)}\n")
        parts += [f"\n{entry(row)}" for row in section.rows]
    return "".join(parts)


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.dotnet_map",
        description="Make docs/dotnet_map.rst from docs/dotnet_map.toml.",
    )
    parser.add_argument("--check", action="store_true", help="write nothing, say what is wrong")
    options = parser.parse_args(arguments)
    found = faults(root)
    made = page(read((root / "docs" / "dotnet_map.toml").read_text("utf-8")))
    path = root / "docs" / "dotnet_map.rst"
    if not options.check:
        path.write_text(made, "utf-8")
    elif not path.exists() or path.read_text("utf-8") != made:
        found.append("docs/dotnet_map.rst is out of date; run: python -m tests.dotnet_map")
    for fault in found:
        print(fault)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
