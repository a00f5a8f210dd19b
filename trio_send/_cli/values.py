"""Sizes, numbers and times, as people write them and as they are shown to people."""

from __future__ import annotations

import argparse
import math
import re

#: What a letter behind a number stands for.
UNITS = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}

#: As it is printed as well: a fraction, a space, and the name of the unit in full.
_SIZE = re.compile(
    r"([0-9]+)(?: ?(?:B|bytes?))?|([0-9]+)(?:\.([0-9]+))? ?([KMGT])(?:iB)?", re.IGNORECASE
)

#: More than there are in any size; Python refuses to read numbers of thousands of digits.
_MOST_DIGITS = 20

#: File offsets are signed 64-bit numbers.
MAX_SIZE = 2**63 - 1


def parse_size(text: str) -> int:
    """Return the number of bytes that ``text`` stands for, such as ``4096``, ``64K``, ``1.5M`` or ``2 GiB``.

    A part of a byte is left out.

    Raises:
      argparse.ArgumentTypeError: it stands for none.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a size; write a whole number of bytes, or a number with K, M, G or T behind it for units "
            "of 1024",
        )
    in_bytes, whole, fraction, letter = match.groups()
    digits = (in_bytes or whole).lstrip("0")
    if len(digits) < _MOST_DIGITS:
        unit = UNITS[(letter or "").upper()]
        fraction = (fraction or "")[:_MOST_DIGITS]
        size: int = int(digits or "0") * unit + int(fraction or "0") * unit // 10 ** len(fraction)
    else:
        size = MAX_SIZE + 1
    if size > MAX_SIZE:
        raise argparse.ArgumentTypeError(
            f"{text[:40]!r} is too large a size; the largest is {MAX_SIZE} bytes"
        )
    return size


def parse_positive_size(text: str) -> int:
    """Return the number of bytes that ``text`` stands for, which must not be 0."""
    size = parse_size(text)
    if size == 0:
        raise argparse.ArgumentTypeError("the size must be at least 1 byte")
    return size


def parse_rate(text: str) -> int:
    """Return the number of bytes per second that ``text`` stands for, such as ``64K`` or ``1.5 MiB/s``."""
    return parse_positive_size(text.removesuffix("/s"))


def parse_count(text: str) -> int:
    """Return a whole number from 1 to 10,000."""
    if not re.fullmatch(r"0*[1-9][0-9]{0,4}", text) or int(text) > 10_000:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a whole number from 1 to 10000")
    return int(text)


def parse_seconds(text: str) -> float:
    """Return a time in seconds, finite and above 0."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(
            f"{text[:40]!r} is not a time in seconds, which is a number above 0"
        )
    return seconds


def show_size(size: float) -> str:
    """Show a number of bytes in a few digits, such as ``64 KiB`` or ``1.5 MiB``."""
    if size < 1023.5:
        return f"{size:.0f} B"
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        size /= 1024
        if size < 1023.95 or unit == "TiB":
            break
    return f"{size:.1f}".removesuffix(".0") + f" {unit}"


def show_bytes(count: int) -> str:
    """Show an exact number of bytes, such as ``1 byte`` or ``4096 bytes``."""
    return f"{count} byte" if count == 1 else f"{count} bytes"


def show_seconds(seconds: float) -> str:
    """Show a time as it was given, such as ``2 s`` or ``0.5 s``."""
    return f"{seconds:g} s"
