"""Small helpers that belong to no room in particular."""

from __future__ import annotations

import operator
from types import FunctionType
from typing import Any, NoReturn


class NotCopied:
    """Something of which there cannot be two.

    A copy of an operation, say, would stand in the queue too and know the same neighbours, and whatever it did there
    would take the real one out of the queue.
    """

    __slots__ = ()

    def __reduce_ex__(self, protocol: object, /) -> NoReturn:
        """Refuse to be copied or pickled; `copy` and `pickle` both come here."""
        raise TypeError(
            f"{type(self).__name__} objects cannot be copied or pickled, because what they stand for exists only once; "
            "pass the object itself on, or make another one"
        )


def counted(number: int, thing: str) -> str:
    """Return a number of things in words, such as "1 byte" and "2 bytes"."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def require_whole_number(name: str, value: int, unit: str) -> int:
    """Return a number of whole ``unit``, such as bytes, as an int, or raise `TypeError`."""
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be a whole number of {unit}, not {value!r}") from None


def require_number(name: str, seconds: Any) -> None:
    """Raise `TypeError` unless it is a number, of seconds."""
    if not hasattr(seconds, "__float__"):
        raise TypeError(f"{name} must be a number of seconds, not {seconds!r}")


def require_seconds(name: str, seconds: float) -> float:
    """Return how long something may take, as a float.

    Raises:
      TypeError: it is no number.
      ValueError: it is negative or NaN.
    """
    require_number(name, seconds)
    if not seconds >= 0:
        raise ValueError(
            f"{name} is {seconds}, but must be a number of seconds from 0 on, or math.inf for no limit"
        )
    return float(seconds)


def fixup_module_metadata(namespace_name: str, namespace: dict[str, object]) -> None:
    """Make every public class and function of ``namespace`` say that it lives there, under the name it has there.

    Reprs, pickles, the documentation and Python's complaint of wrong arguments then show the names that people use, not
    the private modules behind them, nor the private classes that a public one is put together from.
    """
    found = {
        name: thing
        for name, thing in namespace.items()
        if not name.startswith("_") and _is_hidden(thing)
    }
    classes = [thing for thing in found.values() if isinstance(thing, type)]
    for thing in found.values():
        thing.__module__ = namespace_name
    for cls in classes:
        _name_functions(cls, cls, namespace_name)
    # Only then, because what a public class inherits from another one keeps that one's name.
    for cls in classes:
        for base in cls.__mro__[1:]:
            _name_functions(cls, base, namespace_name)


def _is_hidden(thing: object) -> bool:
    return str(getattr(thing, "__module__", "")).startswith("trio_send.")


def _is_written_here(function: FunctionType) -> bool:
    """Tell a function of the package's source from one that a decorator made, and may have given to many classes."""
    return str(function.__globals__.get("__name__")).startswith("trio_send.")


def _name_functions(cls: type, base: type, namespace_name: str) -> None:
    """Name the public functions in the body of ``base`` as methods of ``cls``, unless they have a public name."""
    if not base.__module__.startswith("trio_send"):
        return
    for name, member in vars(base).items():
        if name.startswith("_") and not name.endswith("__"):
            continue
        for function in _functions_of(member):
            if "._" in function.__module__ and _is_written_here(function):
                function.__module__ = namespace_name
                function.__qualname__ = f"{cls.__qualname__}.{name}"


def _functions_of(member: object) -> list[FunctionType]:
    """Return the plain functions behind a member of a class, those that a decorator has wrapped included."""
    functions: list[object]
    if isinstance(member, property):
        functions = [member.fget, member.fset, member.fdel]
    elif isinstance(member, (classmethod, staticmethod)):
        functions = [member.__func__]
    else:
        functions = [member]
    found: list[FunctionType] = []
    for function in functions:
        while isinstance(function, FunctionType):
            found.append(function)
            function = getattr(function, "__wrapped__", None)
    return found
