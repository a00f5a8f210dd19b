"""Changes a module that is imported already, in every function that was made of it.

That is much quicker than to import everything again, and is the same where nothing but the bodies of functions changes.
Where more does, as in what a class or a module does when it is made, it is refused.
"""

from __future__ import annotations

import gc
import inspect
import sys
import types
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from trio._core import _ki


class CannotChange(Exception):
    """The change is not one to the bodies of functions alone."""


def functions_of(package: str) -> list[types.FunctionType]:
    """The functions that there are of a package.

    Args:
      package: where its files are.
    """
    gc.unfreeze()  # what is frozen is not told
    found = [
        each
        for each in gc.get_objects()
        if isinstance(each, types.FunctionType) and each.__code__.co_filename.startswith(package)
    ]
    gc.freeze()
    return found


class LiveCode:
    """The functions that there are of a package, and whose code is kept by somebody else, such as a test.

    Args:
      package: where its files are.
    """

    def __init__(self, package: str) -> None:
        self._functions: dict[tuple[str, str, int], list[types.FunctionType]] = {}
        for each in functions_of(package):
            self._functions.setdefault(_place(each.__code__), []).append(each)
        self._kept = {code for module in [*sys.modules.values()] for code in _kept_by(module)}

    def change(self, path: str, before: bytes, after: bytes) -> None:
        """Have the functions of a file do what they do in another version of it, which has the same lines."""
        pairs = [*_changed(_compiled(path, before), _compiled(path, after))]
        done = False
        for old, new in pairs:
            for function in self._functions.get(_place(old), ()):
                self._replace(function, new.replace())
                done = True
        if not done:
            raise CannotChange("no function has the code")

    def _replace(self, function: types.FunctionType, code: types.CodeType) -> None:
        was = function.__code__
        if was in self._kept:
            raise CannotChange("somebody looks for the code itself")
        try:
            function.__code__ = code
        except ValueError as error:  # it takes other variables from around
            raise CannotChange(str(error)) from None
        # What Trio knows of the protection of a function, it knows of its code.
        with suppress(KeyError):
            _ki._CODE_KI_PROTECTION_STATUS_WMAP[code] = _ki._CODE_KI_PROTECTION_STATUS_WMAP[was]


def _kept_by(module: types.ModuleType) -> Iterator[types.CodeType]:
    """The code that the module of a test has in a collection, or as a default."""
    if not module.__name__.startswith("tests."):
        return
    for value in [*vars(module).values()]:
        held: list[Any] = []
        if isinstance(value, dict):
            held += [*value, *value.values()]
        elif isinstance(value, (list, tuple, set, frozenset)):
            held += value
        elif isinstance(value, types.FunctionType):
            value = inspect.unwrap(value)
            held += [*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()]
        yield from (each for each in held if isinstance(each, types.CodeType))


def _compiled(path: str, source: bytes) -> types.CodeType:
    return compile(source, path, "exec", dont_inherit=True)


def _place(code: types.CodeType) -> tuple[str, str, int]:
    return code.co_filename, code.co_qualname, code.co_firstlineno


def _inner(code: types.CodeType) -> list[types.CodeType]:
    return [each for each in code.co_consts if isinstance(each, types.CodeType)]


def _shell(code: types.CodeType) -> types.CodeType:
    """The code without that of the functions inside, and without its places."""
    consts: list[Any] = []
    for each in code.co_consts:
        if isinstance(each, tuple) and all(isinstance(name, str) for name in each):
            each = tuple(sorted(each))  # a class has the names of its attributes, in any order
        consts.append(None if isinstance(each, types.CodeType) else each)
    return code.replace(co_consts=tuple(consts), co_linetable=b"")


def _changed(
    old: types.CodeType, new: types.CodeType
) -> Iterator[tuple[types.CodeType, types.CodeType]]:
    """The functions that differ, and those inside them, which may live on by themselves."""
    if old == new:
        return
    is_function = old.co_flags & inspect.CO_NEWLOCALS and old.co_flags & inspect.CO_OPTIMIZED
    inner = [*zip(_inner(old), _inner(new), strict=False)]
    if is_function:
        yield old, new
        if len(_inner(old)) != len(_inner(new)):
            return
    elif _shell(old) != _shell(new) or len(_inner(old)) != len(_inner(new)):
        raise CannotChange(f"{old.co_qualname} is no function")
    for one, other in inner:
        yield from _changed(one, other)
