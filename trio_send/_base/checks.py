"""Small helpers that belong to no room in particular."""

from __future__ import annotations

import operator
from typing import Any


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
    """Make every public class and function of ``namespace`` say that it lives there.

    Reprs, pickles and the documentation then show the name that people import, not the private module behind it.
    """
    seen: set[int] = set()

    def fix(qualname: str, obj: object) -> None:
        if id(obj) in seen:
            return
        seen.add(id(obj))
        module = getattr(obj, "__module__", None)
        if module is None or not str(module).startswith("trio_send."):
            return
        obj.__module__ = namespace_name
        if isinstance(obj, type):
            for name, attribute in vars(obj).items():
                if callable(attribute) and not isinstance(attribute, type):
                    fix(f"{qualname}.{name}", attribute)

    for name, obj in list(namespace.items()):
        if not name.startswith("_"):
            fix(name, obj)
