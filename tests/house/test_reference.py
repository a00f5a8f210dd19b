"""How docstrings are laid out for the reference: shorter, and with nothing lost that is not said elsewhere."""

from __future__ import annotations

import importlib.util
import inspect
from pathlib import Path
from types import ModuleType

import pytest

from tests.house.test_public_names import everything

FILE = Path(__file__).parents[2] / "docs" / "docstrings.py"


@pytest.fixture(scope="module")
def layout() -> ModuleType:
    if not FILE.exists():
        pytest.skip("the documentation is not here")
    spec = importlib.util.spec_from_file_location("docstrings", FILE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


DOC = """\
Send it (F001).

Args:
  data: what to send (F002 to F004, F007).

Raises:
  ValueError: it is empty,
    or too long (F005).
  ObjectDisposedError: the socket was closed.
  InvalidOperationError: nobody is there, or the call comes from another thread.

**Checkpoints**: always.

**If cancelled**: nothing is sent (F001).

**Threads**: only from the Trio thread that uses
the socket.

Source: the `begin_send` page; facts F008 and F009.
"""

SHAPED = """\
Send it.

Args:
  data: what to send.

Raises:
  ValueError: it is empty,
    or too long.
  InvalidOperationError: nobody is there.

**Checkpoints**: always · **Threads**: the socket's · **Raises** also \
:ref:`what every method does <what-every-method-raises>`

**If cancelled**: nothing is sent.

*Source*: the `begin_send` page; :ref:`F008 <f008>` and :ref:`F009 <f009>`, :ref:`F001 <f001>`, \
:ref:`F002 <f002>` to :ref:`F004 <f004>`, :ref:`F007 <f007>`, :ref:`F005 <f005>`.
"""


def test_a_docstring_is_put_more_shortly(layout: ModuleType) -> None:
    assert "\n".join(layout.shape(DOC.split("\n"))) == SHAPED


@pytest.mark.parametrize(
    "text",
    ["Send it.", "Send it.\n\n.. code-block:: python\n\n   await socket.send(b'')\n\nMore of it."],
)
def test_what_has_nothing_to_put_more_shortly_stays(layout: ModuleType, text: str) -> None:
    assert "\n".join(layout.shape(text.split("\n"))) == f"{text}\n"


def test_what_holds_everywhere_is_left_to_one_section(layout: ModuleType) -> None:
    text = "Do it.\n\nRaises:\n  TypeError: ``ar`` is None.\n\n**Checkpoints**: never."
    assert layout.shape(text.split("\n")) == [
        "Do it.",
        "",
        "**Checkpoints**: never · **Raises** "
        ":ref:`what every method does <what-every-method-raises>`",
        "",
    ]


def test_what_is_put_more_shortly_is_said_somewhere(layout: ModuleType) -> None:
    """Or the docstrings say it in other words, and it stands there at length."""
    docs = [" ".join(inspect.cleandoc(item.doc or "").split()) for item in everything()]
    for text in [*layout.SHORT, *layout.COMMON]:
        assert any(text in doc for doc in docs), text
