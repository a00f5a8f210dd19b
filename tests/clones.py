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
    """A copy of a checkout, with processes that run its tests.

    Args:
      checkout: what to copy.
      root: where to.

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
        self._processes = {(): self._begin(())}

    def _begin(self, arguments: tuple[str, ...]) -> subprocess.Popen[str]:
        # Only what is written in Python can be changed, so it has to be what runs. The path goes before what is
        # installed, and without -P the names in this folder would go before those of the standard library.
        path = os.pathsep.join([str(self.root), str(Path(__file__).parents[1])])
        environment = {"PYTHONPATH": path, "TRIO_SEND_ACCELERATOR": "0", "PY_COLORS": "0"}
        return subprocess.Popen(
            [sys.executable, "-P", warm_tests.__file__, *arguments],
            cwd=self.root,
            env=os.environ | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def close(self) -> None:
        """End the processes."""
        for process in self._processes.values():
            process.kill()
            process.communicate()

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

    def run_changed(
        self, module: str, source: bytes, tests: list[str], files: Sequence[str], limit: float
    ) -> Answer:
        """Run tests, by their names, with a file of the package that reads something else, until one fails.

        Args:
          module: the file.
          source: what it reads.
          tests: the tests.
          files: those of all tests that may be asked for, which are collected once.
          limit: in seconds.
        """
        request = {"module": module, "source": source.decode(), "tests": tests, "limit": limit}
        answer = self._ask(tuple(files), request)
        if answer["status"] != warm_tests.CANNOT:
            return _answer(answer)
        with self.changed(module, source):
            return self.run(tests, limit)

    def run(self, arguments: Sequence[str], limit: float) -> Answer:
        """Run tests, as pytest takes them, until one fails; `limit` is in seconds."""
        arguments = ["-x", "--tb=short", *arguments]
        return _answer(self._ask((), {"arguments": arguments, "limit": limit, "reached": None}))

    def record(self, arguments: Sequence[str], limit: float) -> dict[str, Any]:
        """Run tests; return what `warm_tests.Reached` has written down of those that pass."""
        path = self.root.with_suffix(".reached")
        path.unlink(missing_ok=True)
        answer = self._ask((), {"arguments": arguments, "limit": limit, "reached": str(path)})
        if not path.exists():
            raise RuntimeError(f"no tests of {arguments} could be run: {answer}")
        return json.loads(path.read_text("utf-8"))

    def _ask(self, arguments: tuple[str, ...], request: dict[str, Any]) -> Any:
        process = self._processes.get(arguments)
        if process is None:
            process = self._processes[arguments] = self._begin(arguments)
        assert process.stdin is not None
        assert process.stdout is not None
        request["failure"] = str(self.root.with_suffix(".failure"))
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())


def _answer(told: dict[str, Any]) -> Answer:
    if told["status"] is None:
        return Answer(False, "it hangs")
    if told["status"] in warm_tests.PASSED:
        return Answer(True)
    return Answer(False, told["line"] or f"exit status {told['status']}")
