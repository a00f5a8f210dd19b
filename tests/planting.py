"""Plant a bug in the code of the package for a while, in memory."""

from __future__ import annotations
import __future__

import importlib
import inspect
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import FunctionType
from typing import Any

import attrs

from tests.accelerator import COMPILED


@attrs.frozen
class Change:
    """A change of the text of one function.

    Attributes:
      place: the module below the package and the function, as in ``"_operations.queue:OperationQueue._stop"``.
      before: a piece of its text that is there once.
      after: what stands there instead.
    """

    place: str
    before: str
    after: str


class Stale(Exception):
    """The code that a bug is planted in has been changed."""

    def __init__(self, change: Change, why: str) -> None:
        super().__init__(
            f"{change.place} {why}; so the bug cannot be planted there any more. Find where the code does now what "
            f"{change.before!r} did, and write that into the exhibit in tests/museum.py: it has to be the same bug, "
            "whatever its text"
        )


def _find(change: Change) -> FunctionType:
    module, _, path = change.place.partition(":")
    try:
        found: Any = importlib.import_module(f"trio_send.{module}")
        for name in path.split("."):
            found = found.__dict__[name]
    except (ImportError, KeyError):
        raise Stale(change, "is not there") from None
    function = inspect.unwrap(getattr(found, "__func__", found))
    if not isinstance(function, FunctionType):
        raise Stale(change, "is no function")
    return function


def _changed(function: FunctionType, changes: Sequence[Change]) -> FunctionType:
    """The function that the changed text makes."""
    lines, first = inspect.getsourcelines(function)
    text = textwrap.dedent("".join(lines))
    for change in changes:
        count = text.count(change.before)
        if count != 1:
            raise Stale(change, f"has {change.before!r} {count} times, and not once")
        text = text.replace(change.before, change.after)
    # What calls super() refers to its class, as a variable of something around it.
    around = (
        f"def make(__class__):\n{textwrap.indent(text, '    ')}    return {function.__name__}\n"
    )
    file = inspect.getfile(function)
    code = compile(
        "\n" * (first - 2) + around,
        file,
        "exec",
        flags=__future__.annotations.compiler_flag,
        dont_inherit=True,
    )
    # The decorators are those of the module: one of them says what Ctrl-C may interrupt.
    names = dict(function.__globals__)
    exec(code, names)
    changed = inspect.unwrap(names["make"](None))
    assert isinstance(changed, FunctionType)
    return changed


@contextmanager
def planted(changes: Sequence[Change]) -> Iterator[None]:
    """Change the package inside of the block.

    Raises:
      Stale: there is nothing to change.
    """
    by_place: dict[str, list[Change]] = {}
    for change in changes:
        by_place.setdefault(change.place, []).append(change)
    with ExitStack() as stack:
        for cls, name in COMPILED:
            # What is compiled goes past the code that is changed.
            way = getattr(cls, name)
            stack.callback(setattr, cls, name, way)
            setattr(cls, name, inspect.unwrap(way))
        # All before any, so that a bug is there as a whole or not at all.
        pairs = [(_find(group[0]), group) for group in by_place.values()]
        made = [(function, _changed(function, group)) for function, group in pairs]
        for function, changed in made:
            # Not in its place, for others may hold the function.
            stack.callback(setattr, function, "__code__", function.__code__)
            function.__code__ = changed.__code__
        yield
