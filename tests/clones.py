"""Copies of the checkout, in which the code is changed and the tests run, without a trace in the checkout itself."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

from tests import warm_tests

#: The folder of the package in a checkout.
PACKAGE = "trio_send"


@attrs.frozen
class Answer:
    """What came of tests: whether all have passed, and else what is wrong, in a line."""

    passed: bool
    line: str = ""


class Clone:
    """A copy of a checkout, with a process that runs its tests.

    Attributes:
      root: where it is.
    """

    def __init__(self, checkout: Path, root: Path) -> None:
        left = shutil.ignore_patterns(
            ".git",
            ".venv*",
            ".tox",
            "__pycache__",
            ".*_cache",
            "_build",
            "build",
            "dist",
            ".hypothesis",
        )
        shutil.copytree(checkout, root, symlinks=True, ignore=left)
        self.root = root
        # Only what is written in Python can be changed, so it has to be what runs. The path goes before what is
        # installed, and without -P the names in this folder would go before those of the standard library.
        environment = {"PYTHONPATH": str(root), "TRIO_SEND_ACCELERATOR": "0", "PY_COLORS": "0"}
        self._process = subprocess.Popen(
            [sys.executable, "-P", warm_tests.__file__],
            cwd=root,
            env=os.environ | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()

    @contextmanager
    def changed(self, module: str, source: bytes) -> Iterator[None]:
        """Have a file of the package read something else for a while."""
        path = self.root / PACKAGE / module
        before = path.read_bytes()
        self._write(path, source)
        try:
            yield
        finally:
            self._write(path, before)

    def _write(self, path: Path, source: bytes) -> None:
        path.write_bytes(source)
        # What Python keeps of a module it takes for good if size and second are the same.
        for kept in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
            kept.unlink()

    def run(self, arguments: Sequence[str], limit: float) -> Answer:
        """Run tests until one fails; `limit` is in seconds."""
        answer = self._ask(["-x", "--tb=short", *arguments], limit)
        if answer["status"] is None:
            return Answer(False, "it hangs")
        if answer["status"] in warm_tests.PASSED:
            return Answer(True)
        return Answer(False, answer["line"] or f"exit status {answer['status']}")

    def record(self, arguments: Sequence[str], limit: float) -> dict[str, Any]:
        """Run tests; return what `warm_tests.Reached` has written down of those that pass."""
        path = self.root.with_suffix(".reached")
        path.unlink(missing_ok=True)
        answer = self._ask([*arguments], limit, str(path))
        if not path.exists():
            raise RuntimeError(f"no tests of {arguments} could be run: {answer}")
        return json.loads(path.read_text("utf-8"))

    def _ask(self, arguments: list[str], limit: float, reached: str | None = None) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = {
            "arguments": arguments,
            "limit": limit,
            "scratch": str(self.root),
            "reached": reached,
        }
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())
