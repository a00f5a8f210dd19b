"""Lay docstrings out for the reference, where hundreds of them stand below each other.

In the source each docstring says everything, because `help` shows it alone. On a page some things would be the same
again and again, so they are put more shortly there:

* **Checkpoints**, **If cancelled** and **Threads** stand in one line if they say nothing special;
* what every method raises is left to a section of its own, to which that line links;
* the numbers of facts stand in one line, *Source*, and each of them is a link.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

# Checkpoints, If cancelled, Threads -----------------------------------------------------------

HEADING = re.compile(r"\*\*(Checkpoints|If cancelled|Threads)\*\*: (.*)")

#: What the headings say most often, and what the line says instead; "" is for what need not be said.
SHORT = {
    "always.": "always",
    "never.": "never",
    "nothing is raised here.": "",
    "only from the Trio thread that uses the socket.": "the socket's",
    "only from the Trio thread that uses the args.": "the socket's",
    "only from the Trio thread that uses the sockets.": "the socket's",
    "only from the Trio thread.": "Trio's",
    "only from inside Trio.": "Trio's",
    "from any.": "any",
}

#: Such as "as `end_send`", or "nothing is raised here; see `send_async`".
AS_ANOTHER = re.compile(r"(?:nothing is raised here; |never, )?((?:see|as) `\w+`)\.")


def short_heading(paragraph: str) -> str | None:
    """Return a heading with what it says in a word or two; None for any other paragraph."""
    heading = HEADING.fullmatch(" ".join(paragraph.split()))
    if heading is None:
        return None
    name, text = heading.groups()
    reference = AS_ANOTHER.fullmatch(text)
    short = SHORT.get(text, reference[1] if reference else None)
    if short is None:
        return None
    return short and f"**{name}**: {short}"


# Raises ---------------------------------------------------------------------------------------

OTHER_THREAD = "the call comes from another thread"

#: What the section "What every method raises" says, so that it need not be said again.
COMMON = {
    "ObjectDisposedError: the socket was closed.",
    "ObjectDisposedError: the socket or ``args`` was closed.",
    f"InvalidOperationError: {OTHER_THREAD}.",
    f"InvalidOperationError: no initiator is open, or {OTHER_THREAD}.",
    f"InvalidOperationError: no initiator is open, {OTHER_THREAD}, or the message of ``args`` was cut and stands half "
    "sent on a torn stream.",
    "OperationInProgressError: ``args`` is in use.",
    "TypeError: ``args`` is None or something else.",
    "TypeError: ``ar`` is None.",
}

COMMON_ENDING = f", or {OTHER_THREAD}."

USUAL = ":ref:`what every method does <what-every-method-raises>`"


def without_common_errors(paragraph: str) -> str:
    """Drop the entries of a section ``Raises`` that hold for every method; return "" if no others are left."""
    head, *lines = paragraph.split("\n")
    if head != "Raises:":
        return paragraph
    kept = []
    for entry in re.split(r"\n(?=  \S)", "\n".join(lines)):
        text = " ".join(entry.split())
        if text not in COMMON:
            shorter = text.removesuffix(COMMON_ENDING)
            kept.append(entry if shorter == text else f"  {shorter}.")
    return "\n".join([head, *kept]) if kept else ""


# Sources --------------------------------------------------------------------------------------

NUMBERS = r"F\d{3}(?:(?:, | and | to )F\d{3})*"
IN_PARENTHESES = re.compile(rf"\s*\(({NUMBERS})\)")
IN_A_SOURCE = re.compile(rf"\s*\(({NUMBERS})\)|;? ?(?:\bfacts? )?({NUMBERS})")


def linked(number: re.Match[str]) -> str:
    return f":ref:`{number[0]} <{number[0].lower()}>`"


def gather_sources(paragraphs: list[str]) -> list[str]:
    """Take the numbers of facts out of the text, and tell all of them in the line *Source*."""
    kept = []
    source = ""
    numbers = []
    for paragraph in paragraphs:
        if paragraph.startswith("Source: "):
            source = " ".join(paragraph.split()).removeprefix("Source: ").rstrip(".")
        else:
            numbers += IN_PARENTHESES.findall(paragraph)
            kept.append(IN_PARENTHESES.sub("", paragraph))
    numbers = [one or other for one, other in IN_A_SOURCE.findall(source)] + numbers
    source = IN_A_SOURCE.sub("", source).strip()
    facts = re.sub(r"F\d{3}", linked, ", ".join(dict.fromkeys(numbers)))
    if source or facts:
        kept.append(f"*Source*: {'; '.join(filter(None, [source, facts]))}.")
    return kept


# All of it ------------------------------------------------------------------------------------


def shape(lines: Iterable[str]) -> list[str]:
    """Return the lines of a docstring as they stand in the reference.

    Args:
      lines: those of the source, without their indentation.
    """
    kept: list[str] = []
    in_one_line: list[str] = []
    place = None
    usual = ""
    for paragraph in gather_sources(re.split(r"\n[ \t]*\n", "\n".join(lines).strip("\n"))):
        short = short_heading(paragraph)
        if short is not None:
            place = len(kept) if place is None else place
            in_one_line.append(short)
            continue
        rest = without_common_errors(paragraph)
        if rest != paragraph:
            usual = f"**Raises** also {USUAL}" if rest else f"**Raises** {USUAL}"
        if rest:
            kept.append(rest)
    in_one_line = [part for part in (*in_one_line, usual) if part]
    if in_one_line:
        kept.insert(len(kept) if place is None else place, " · ".join(in_one_line))
    return [*"\n\n".join(kept).split("\n"), ""]
