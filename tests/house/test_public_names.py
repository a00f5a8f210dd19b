"""Hold every public name to what a reader and a type checker expect of it.

A public namespace is a module of the package with no underscore in its name, so a later one is held to these rules
from the day on which it is added.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import pkgutil
import re
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import trio_send

PACKAGE = trio_send.__name__
PACKAGE_FILES = str(Path(inspect.getfile(trio_send)).parent)

#: What an extra brings, by the namespace that needs it.
NEEDS = {"trio_send.otel": ("opentelemetry",), "trio_send.testing.pytest_plugin": ("pytest",)}

#: What a user has to know before calling anything that may wait, or that starts or ends an operation.
HEADINGS = ("**Checkpoints**", "**If cancelled**", "**Threads**")

#: The synchronous methods that start or end an operation, by class. What is async has to have the headings anyway.
STARTS_OR_ENDS = {
    "Socket": re.compile(r"(try_)?(begin|end)_\w+|\w+_async|cancel\w*|resume|close"),
    "SocketAsyncEventArgs": re.compile(r"cancel"),
    "AsyncResult": re.compile(r"cancel"),
}


class Documented(NamedTuple):
    """Something public that has to explain itself."""

    name: str  # in full, as in a reference
    thing: Any
    doc: str | None


def public_namespaces(parent: types.ModuleType = trio_send) -> list[types.ModuleType]:
    """``parent`` and the public modules below it, unless they need an extra that is not here."""
    found = [parent]
    for info in pkgutil.iter_modules(getattr(parent, "__path__", ())):
        name = f"{parent.__name__}.{info.name}"
        if not info.name.startswith("_") and all(map(have_module, NEEDS.get(name, ()))):
            found += public_namespaces(importlib.import_module(name))
    return found


def have_module(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def public_names(namespace: types.ModuleType) -> dict[str, Any]:
    """What a user can import from ``namespace``, by name."""
    return {
        name: value
        for name, value in vars(namespace).items()
        if not name.startswith("_")
        and not isinstance(value, types.ModuleType)
        and type(value).__module__ != "__future__"  # `from __future__ import annotations`
    }


def is_ours(module_name: str | None) -> bool:
    return module_name is not None and f"{module_name}.".startswith(f"{PACKAGE}.")


def is_written_here(function: Any) -> bool:
    """Tell a function of the package's source from one that a decorator or a base class made."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    return code is not None and str(code.co_filename).startswith(PACKAGE_FILES)


def functions_of(value: Any) -> list[Callable[..., Any]]:
    """The plain functions behind a method, a property or whatever else stands in a class body."""
    if isinstance(value, property):
        return [f for f in (value.fget, value.fset, value.fdel) if f is not None]
    if isinstance(value, functools.cached_property):
        return [value.func]
    if isinstance(value, (classmethod, staticmethod)):
        return [value.__func__]
    value = inspect.unwrap(value) if inspect.ismethoddescriptor(value) else value  # a compiled one
    return [value] if inspect.isfunction(value) else []


def members(cls: type) -> Iterator[tuple[str, Any]]:
    """What the package writes in the body of ``cls``, or in that of a base, which may be private."""
    seen = set()
    for base in cls.__mro__:
        if not is_ours(base.__module__):
            continue
        for name, value in vars(base).items():
            if name not in seen and any(map(is_written_here, functions_of(value))):
                seen.add(name)
                yield name, value


def everything() -> list[Documented]:
    found = []
    for namespace in public_namespaces():
        found.append(Documented(namespace.__name__, namespace, namespace.__doc__))
        for name, value in public_names(namespace).items():
            full = f"{namespace.__name__}.{name}"
            if isinstance(value, type):
                found.append(Documented(full, value, vars(value).get("__doc__")))
                for member_name, member in members(value):
                    if not member_name.startswith("_"):
                        doc = functions_of(member)[0].__doc__
                        found.append(Documented(f"{full}.{member_name}", member, doc))
            elif inspect.isfunction(value):
                found.append(Documented(full, value, value.__doc__))
    return found


def every_function() -> list[tuple[str, Callable[..., Any]]]:
    """Every function that a user can call, constructors and operators included."""
    found = []
    for namespace in public_namespaces():
        for name, value in public_names(namespace).items():
            full = f"{namespace.__name__}.{name}"
            if isinstance(value, type):
                for member_name, member in members(value):
                    is_special = member_name.startswith("__") and member_name.endswith("__")
                    if is_special or not member_name.startswith("_"):
                        for function in functions_of(member):
                            found.append((f"{full}.{member_name}", function))
            elif inspect.isfunction(value) and is_written_here(value):
                found.append((full, value))
    return found


def is_async(thing: Any) -> bool:
    """Whether ``thing`` is used with ``await`` or ``async with``."""
    functions = functions_of(thing)
    if not functions:
        return False
    inner = inspect.unwrap(functions[0])
    return inspect.iscoroutinefunction(inner) or inspect.isasyncgenfunction(inner)


def starts_or_ends_an_operation(full: str) -> bool:
    owner, _, name = full.rpartition(".")
    pattern = STARTS_OR_ENDS.get(owner.rpartition(".")[2])
    return pattern is not None and pattern.fullmatch(name) is not None


def doc_faults(full: str, doc: str | None) -> list[str]:
    """What is wrong with a docstring's first line."""
    if not doc or not doc.strip():
        return [f"{full} has no docstring"]
    first, *rest = inspect.cleandoc(doc).splitlines()
    faults = []
    if not first.endswith("."):
        faults.append(f"{full}: the first line does not end with a period: {first!r}")
    if re.search(r"[.!?]\s+[A-Z]", first):
        faults.append(f"{full}: the first line is more than one sentence: {first!r}")
    if rest and rest[0].strip():
        faults.append(f"{full}: the first line runs on into the second: {first!r}")
    return faults


def heading_faults(full: str, doc: str | None) -> list[str]:
    return [f"{full} does not say {heading}" for heading in HEADINGS if heading not in (doc or "")]


def annotation_faults(full: str, function: Callable[..., Any], *, is_method: bool) -> list[str]:
    signature = inspect.signature(function)
    parameters = list(signature.parameters.values())
    if is_method and parameters and parameters[0].name in {"self", "cls"}:
        del parameters[0]
    faults = [
        f"{full}: {parameter.name} has no annotation"
        for parameter in parameters
        if parameter.annotation is inspect.Parameter.empty
    ]
    if signature.return_annotation is inspect.Signature.empty:
        faults.append(f"{full}: the result has no annotation")
    return faults


# The rules ------------------------------------------------------------------------------------


def test_everything_public_has_a_docstring() -> None:
    found = everything()
    assert len(found) > len(public_namespaces())
    assert [fault for item in found for fault in doc_faults(item.name, item.doc)] == []


def test_whatever_may_wait_and_whatever_starts_or_ends_an_operation_says_what_it_does() -> None:
    held = [
        item
        for item in everything()
        if is_async(item.thing) or starts_or_ends_an_operation(item.name)
    ]
    assert held
    assert [fault for item in held for fault in heading_faults(item.name, item.doc)] == []


def test_everything_is_annotated() -> None:
    faults = []
    for full, function in every_function():
        faults += annotation_faults(full, function, is_method=function.__qualname__.count(".") > 0)
    assert faults == []


@pytest.mark.parametrize("namespace", public_namespaces(), ids=lambda module: module.__name__)
def test_names_say_where_users_find_them(namespace: types.ModuleType) -> None:
    # What is public in several namespaces may name any of them.
    public = {module.__name__ for module in public_namespaces()}
    faults = []
    for name, value in public_names(namespace).items():
        if not isinstance(value, type) and not inspect.isfunction(value):
            continue
        if not is_ours(value.__module__):
            faults.append(
                f"{namespace.__name__}.{name} is {value.__module__}'s: import it as private"
            )
        elif value.__module__ not in public:
            faults.append(f"{namespace.__name__}.{name} says that it lives in {value.__module__}")
    assert faults == []


def test_functions_go_by_their_public_names() -> None:
    """Python names the function when it is called with wrong arguments, and users know no private classes."""
    classes = [
        value
        for module in public_namespaces()
        for value in public_names(module).values()
        if isinstance(value, type)
    ]
    names = {
        # Of several public classes that share a method, any will do.
        f"{cls.__module__}.{cls.__name__}.{member_name}": {
            f"{holder.__name__}.{member_name}"
            for holder in classes
            if inspect.getattr_static(holder, member_name, None) is member
        }
        for cls in classes
        for member_name, member in members(cls)
    }
    faults = []
    for full, function in every_function():
        allowed = names.get(full, {full.rpartition(".")[2]})
        while function is not None:  # what a decorator has wrapped is what complains
            if function.__qualname__ not in allowed:
                faults.append(f"{full} says that it is {function.__qualname__}")
            function = getattr(function, "__wrapped__", None)
    assert faults == []


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda: trio_send.Socket.send_async(), "Socket.send_async() missing 2"),
        (lambda: trio_send.Socket.close(1, 2, 3), "Socket.close() takes 1"),
        (lambda: trio_send.Socket.end_connect(1), "Socket.end_connect() missing 1"),
        (lambda: trio_send.SocketAsyncEventArgs().set_range(), "SocketAsyncEventArgs.set_range()"),
        (lambda: trio_send.ManualResetEvent().wait_one(1, 2), "WaitHandle.wait_one() takes"),
    ],
)
def test_wrong_numbers_of_arguments_are_complained_of_in_public_names(
    call: Callable[[], object], complaint: str
) -> None:
    with pytest.raises(TypeError) as caught:
        call()
    assert str(caught.value).startswith(complaint)


#: A page of the reference that is told to explain a class with all that is in it.
WITH_MEMBERS = re.compile(r"^\.\. autoclass:: +([\w.]+).*\n(?: +:.*\n)* +:members:", re.MULTILINE)

EXPLAINED = re.compile(
    r"^\.\. auto(?:class|exception|function|data|method|property):: +([\w.]+)", re.MULTILINE
)

REFERENCE = sorted((Path(__file__).parents[2] / "docs" / "reference").glob("*.rst"))


def in_full(name: str) -> str:
    return f"{PACKAGE}.{name.removeprefix(PACKAGE + '.')}"


def test_the_reference_and_the_package_agree() -> None:
    if not REFERENCE:
        pytest.skip("the documentation is not here")
    text = "\n".join(path.read_text("utf-8") for path in REFERENCE)
    explained = [in_full(name) for name in EXPLAINED.findall(text)]
    absent = set(NEEDS) - {namespace.__name__ for namespace in public_namespaces()}
    explained = [name for name in explained if name.rpartition(".")[0] not in absent]
    exported = {
        f"{namespace.__name__}.{name}": value
        for namespace in public_namespaces()
        for name, value in public_names(namespace).items()
    }
    # What belongs together stands together, so the members of the largest class are on many pages.
    exported |= {f"{PACKAGE}.Socket.{name}": value for name, value in members(trio_send.Socket)}
    exported = {name: value for name, value in exported.items() if "._" not in name}
    assert "trio_send.Socket" not in map(in_full, WITH_MEMBERS.findall(text))
    assert sorted(exported.keys() - set(explained)) == [], "public, but not in docs/reference"
    assert sorted(set(explained) - exported.keys()) == [], "in docs/reference, but not public"
    assert len(explained) == len(set(explained)), "explained twice in docs/reference"


@pytest.mark.parametrize("path", REFERENCE, ids=lambda path: path.stem)
def test_a_page_of_the_reference_opens_with_an_example_and_a_table(path: Path) -> None:
    beginning, found, _ = path.read_text("utf-8").partition("\n.. members-here::\n")
    assert found
    assert "\n.. code-block:: python\n" in beginning
    assert not EXPLAINED.search(beginning)
    index = path.parents[1].joinpath("reference.rst").read_text("utf-8")
    assert f"\n   reference/{path.stem}\n" in index


# The rules themselves -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("doc", "faults"),
    [
        ("Send all of it.", 0),
        ("Send all of it.\n\n    And then some. More here", 0),
        (None, 1),
        ("   ", 1),
        ("Send all of it", 1),
        ("Send all of it. Then stop.", 1),
        ("Send all\n    of it.", 2),
    ],
)
def test_the_docstring_rule_bites(doc: str | None, faults: int) -> None:
    assert len(doc_faults("it", doc)) == faults


def test_the_heading_rule_bites() -> None:
    assert heading_faults("it", " ".join(HEADINGS)) == []
    assert len(heading_faults("it", "**Checkpoints**: never.")) == 2
    assert len(heading_faults("it", None)) == 3


def test_the_annotation_rule_bites() -> None:
    def bare(self, a, *, b=1): ...

    def full(a: int, *rest: int, **more: int) -> None: ...

    assert len(annotation_faults("bare", bare, is_method=True)) == 3
    assert len(annotation_faults("bare", bare, is_method=False)) == 4
    assert annotation_faults("full", full, is_method=False) == []


@pytest.mark.parametrize(
    ("name", "held"),
    [
        ("trio_send.Socket.send_async", True),
        ("trio_send.Socket.try_begin_send", True),
        ("trio_send.Socket.try_end_send_nowait", True),
        ("trio_send.Socket.connect_async", True),
        ("trio_send.Socket.close", True),
        ("trio_send.SocketAsyncEventArgs.cancel", True),
        ("trio_send.Socket.fileno", False),
        ("trio_send.Socket.bind", False),
        ("trio_send.SocketAsyncEventArgs.set_buffer", False),
        ("trio_send.socketpair", False),
    ],
)
def test_the_methods_that_start_or_end_are_recognised(name: str, held: bool) -> None:
    assert starts_or_ends_an_operation(name) is held
