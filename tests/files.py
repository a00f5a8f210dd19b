"""What the suites that send files share: where a file is open, and elements made of pieces."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from trio_send import SendPacketsElement

#: For tests that look at the process's descriptors.
needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="this system has no /proc/self/fd")

#: For tests of files that only Unix systems have.
needs_unix = pytest.mark.skipif(sys.platform == "win32", reason="this system has no such files")


def open_descriptors() -> set[str]:
    """The descriptors that this process has open, that of this look among them; none where nobody knows."""
    for folder in ("/proc/self/fd", "/dev/fd"):
        if os.path.isdir(folder):
            return set(os.listdir(folder))
    return set()


def times_open(path: Path) -> int:
    """How many descriptors this process has on a file; deleted ones count too."""
    found = 0
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{descriptor}")
        except OSError:
            continue  # the descriptor of the listing itself
        found += target.removesuffix(" (deleted)") == str(path)
    return found


def elements_of(pieces: Sequence[bytes], folder: Path) -> list[SendPacketsElement]:
    """Elements that make up the pieces in turn: every second one a range in the middle of a file of its own."""
    elements = []
    for index, piece in enumerate(pieces):
        if index % 2:
            path = folder / f"piece{index}"
            path.write_bytes(b"before" + piece + b"behind")
            # Of a file, a count of 0 would stand for the rest.
            elements.append(
                SendPacketsElement(path, 6, len(piece)) if piece else SendPacketsElement(b"")
            )
        else:
            elements.append(SendPacketsElement(piece))
    return elements
