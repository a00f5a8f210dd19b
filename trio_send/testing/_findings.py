"""Findings: a run that shows something wrong, as a small file that anybody can run again."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import attrs
import trio

from .._version import __version__
from ._places import Place
from ._tape import KINDS, Decision, choices_of

if TYPE_CHECKING:
    import os

#: What a file says that it is.
FORMAT = "trio_send finding"
FORMAT_VERSION = 1


def program_versions() -> dict[str, str]:
    """The versions of all that a trace may depend on."""
    return {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "trio": trio.__version__,
        "trio_send": __version__,
    }


@final
@attrs.frozen
class Finding:
    """Something that was wrong, with a run that shows it.

    Attributes:
      scenario: the name of the scenario.
      sentence: what was wrong.
      details: where tasks stood, if the program had to be ended.
      checked: where the program said so; None if it was the explorer that did.
      asked: what was cancelled and before which step, in words.
      struck: the places at which a task got `trio.Cancelled` from that; the one that breaks most reliably comes first.
      runs: in how many runs this was found.
      of_runs: of how many.
      limits: how many decisions of each kind could be other than 0.
      decisions: those of the run that were. All others were 0.
      steps: how many steps tasks took in the run.
      trace: the hash of the run.
      versions: of Python, Trio and this library.
    """

    scenario: str
    sentence: str
    details: str
    checked: Place | None
    asked: tuple[str, ...]
    struck: tuple[Place, ...]
    runs: int
    of_runs: int
    limits: dict[str, int]
    decisions: tuple[Decision, ...]
    steps: int
    trace: str
    versions: dict[str, str]

    @property
    def choices(self) -> dict[str, int]:
        """What to hand to `explore` as ``only``."""
        return choices_of(self.decisions)

    @property
    def in_words(self) -> list[str]:
        """The finding in lines for people."""
        lines = [f"{self.sentence} ({self.runs} of {self.of_runs} runs)"]
        if self.details:
            lines.append(self.details)
        if self.checked is not None:
            lines.append(f"said at {self.checked.in_words}")
        if self.struck:
            lines.append(f"a cancel struck {self.struck[0].in_words}")
        if len(self.struck) > 1:
            lines.append(f"and also {', '.join(place.in_words for place in self.struck[1:])}")
        if self.asked:
            lines.append(f"it was a cancel of {', then of '.join(self.asked)}")
        lines.append(f"again: only={self.choices!r}")
        return lines

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the finding to a file, as JSON."""
        content = {"format": FORMAT, "version": FORMAT_VERSION, **attrs.asdict(self)}
        Path(path).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Finding:
        """Read a finding from a file.

        Raises:
          OSError: the file cannot be read.
          ValueError: it holds no finding, or one that a later version wrote.
        """
        try:
            content = json.loads(Path(path).read_text("utf-8"))
        except ValueError as error:
            raise ValueError(f"{path} holds no finding: {error}") from None
        try:
            return _finding(content)
        except _SchemaError as error:
            raise ValueError(f"{path} holds no finding: {error}") from None


# The schema -----------------------------------------------------------------------------------


class _SchemaError(Exception):
    pass


def _get(content: Any, where: str, name: str, expected: type) -> Any:
    if not isinstance(content, dict):
        raise _SchemaError(f"{where} is no object")
    if name not in content:
        raise _SchemaError(f"{where} has no {name}")
    value = content[name]
    if type(value) is not expected:
        raise _SchemaError(
            f"{name} in {where} is {value!r}, but must be of type {expected.__name__}"
        )
    return value


def _map(content: Any, where: str, name: str, expected: type) -> dict[str, Any]:
    value: dict[str, Any] = _get(content, where, name, dict)
    return {key: _get(value, name, key, expected) for key in value}


def _words(content: Any, where: str, name: str) -> tuple[str, ...]:
    values = _get(content, where, name, list)
    for value in values:
        if not isinstance(value, str):
            raise _SchemaError(f"{name} has {value!r}, but may have nothing but strings")
    return tuple(values)


def _number(content: Any, where: str, name: str, least: int) -> int:
    value: int = _get(content, where, name, int)
    if value < least:
        raise _SchemaError(f"{name} in {where} is {value}, but must be {least} or more")
    return value


def _read_place(content: Any, where: str) -> Place:
    return Place(
        function=_get(content, where, "function", str),
        line=_number(content, where, "line", 0),
        file=_get(content, where, "file", str),
        call=_get(content, where, "call", str),
    )


def _read_decision(content: Any) -> Decision:
    where = "a decision"
    kind = _get(content, where, "kind", str)
    if kind not in KINDS:
        raise _SchemaError(f"a decision is of kind {kind!r}, but there are {', '.join(KINDS)}")
    options = _number(content, where, "options", 2)
    choice = _number(content, where, "choice", 1)
    if choice >= options:
        raise _SchemaError(f"a decision has choice {choice} of {options} options, from 0 on")
    return Decision(kind, _get(content, where, "name", str), choice, options)


def _finding(content: Any) -> Finding:
    where = "the file"
    if _get(content, where, "format", str) != FORMAT:
        raise _SchemaError(f"its format is not {FORMAT!r}")
    version = _get(content, where, "version", int)
    if version != FORMAT_VERSION:
        raise _SchemaError(f"its version is {version}, and this one reads {FORMAT_VERSION}")
    known = {"format", "version", *(field.name for field in attrs.fields(Finding))}
    if unknown := sorted(set(content) - known):
        raise _SchemaError(f"it has {', '.join(unknown)}, which is not known here")
    checked = None
    if content.get("checked", 0) is not None:
        checked = _read_place(_get(content, where, "checked", dict), "checked")
    limits = _map(content, where, "limits", int)
    for kind in limits:
        _number(limits, "limits", kind, 0)
    return Finding(
        scenario=_get(content, where, "scenario", str),
        sentence=_get(content, where, "sentence", str),
        details=_get(content, where, "details", str),
        checked=checked,
        asked=_words(content, where, "asked"),
        struck=tuple(
            _read_place(place, "a place") for place in _get(content, where, "struck", list)
        ),
        runs=_number(content, where, "runs", 0),
        of_runs=_number(content, where, "of_runs", 0),
        limits=limits,
        decisions=tuple(map(_read_decision, _get(content, where, "decisions", list))),
        steps=_number(content, where, "steps", 0),
        trace=_get(content, where, "trace", str),
        versions=_map(content, where, "versions", str),
    )
