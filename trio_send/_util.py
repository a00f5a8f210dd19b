"""Small helpers that belong to no room in particular."""

from __future__ import annotations


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
