"""Runs tests again and again, each time in a copy of a process that has begun already.

`tests.mutants` starts it in a checkout, as a file of its own. Each line that it reads is a request in JSON, and each
line that it writes an answer: the exit status of pytest, or None if the limit was passed, and what has failed first.

Without arguments the process has imported what the tests stand on, and nothing of the checkout, so a change to a file
of the checkout counts from then on. With files of tests as arguments it has collected them all; what it is asked to
change then is what has been imported, and that has to be the bodies of functions.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import sys
import time
import types
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import pytest

from tests.changed_code import CannotChange, LiveCode, functions_of

#: What takes long to import.
STOOD_ON = ("attrs", "hypothesis", "hypothesis.stateful", "outcome", "ssl", "trio", "trio.testing")

#: A test that comes to so many lines is long. To hear of them takes as long as to begin again, measured: 15 ms.
_MANY = 50_000

#: Tests that have these as exit status have found nothing: all passed, or there were none.
PASSED = (0, 5)

#: The exit status of a child that cannot make the change.
CANNOT = 71


class FirstFailure:
    """Writes down what fails first."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.is_told = False

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed:
            self._write(report)

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            self._write(report)

    def _write(self, report: Any) -> None:
        crash = getattr(report.longrepr, "reprcrash", None)
        self.is_told = True
        why = str(crash.message if crash else report.longrepr).splitlines() or [""]
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(f"{report.nodeid} - {why[0]}\n")


class Reached:
    """Writes down which lines of the package each test reaches, and how long it takes."""

    def __init__(self, package: str, path: str) -> None:
        self._package = package
        self._path = path
        self._lines: set[tuple[str, int]] = set()
        self._told = 0
        self._has_failed = False
        self._tests: dict[str, tuple[float, dict[str, list[int]]]] = {}

    def _codes(self) -> Iterator[types.CodeType]:
        """All code of the package."""
        seen = set()
        left = [each.__code__ for each in functions_of(self._package)]
        while left:
            code = left.pop()
            if id(code) not in seen:
                seen.add(id(code))
                yield code
                left += [each for each in code.co_consts if isinstance(each, types.CodeType)]

    def pytest_collection_finish(self) -> None:
        def line(code: types.CodeType, number: int) -> object:
            self._lines.add((code.co_filename, number))
            self._told += 1
            # To be told of a line once is cheap for a long test, and dear for a short one.
            return sys.monitoring.DISABLE if self._told > _MANY else None

        tool = sys.monitoring.COVERAGE_ID
        sys.monitoring.use_tool_id(tool, "tests.mutants")
        sys.monitoring.register_callback(tool, sys.monitoring.events.LINE, line)
        for code in self._codes():
            sys.monitoring.set_local_events(tool, code, sys.monitoring.events.LINE)

    def pytest_runtest_logreport(self, report: Any) -> None:
        self._has_failed |= report.failed

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        if self._told > _MANY:
            sys.monitoring.restart_events()
        self._lines.clear()
        self._told = 0
        self._has_failed = False
        begun = time.monotonic()
        try:
            return (yield)
        finally:
            took = time.monotonic() - begun
            if not self._has_failed:
                lines: dict[str, list[int]] = {}
                for name, number in sorted(self._lines):
                    module = Path(name).relative_to(self._package).as_posix()
                    lines.setdefault(module, []).append(number)
                self._tests[item.nodeid] = took, lines

    def pytest_sessionfinish(self) -> None:
        Path(self._path).write_text(json.dumps(self._tests), "utf-8")


def run(arguments: list[str], failure: str, reached: str | None) -> int:
    """Run tests in this process, which must not be used for anything else afterwards."""
    plugins: list[object] = [FirstFailure(failure)]
    if reached is not None:
        plugins.append(Reached(str(Path("trio_send").resolve()), reached))
    # Hypothesis and the plugins of pytest are imported already, so that an assertion of theirs would tell less.
    ignored = "ignore:Module already imported:pytest.PytestAssertRewriteWarning"
    return int(
        pytest.main(
            [
                "-q",
                "-W",
                ignored,
                "-p",
                "no:cacheprovider",
                "-o",
                "faulthandler_timeout=0",
                *arguments,
            ],
            plugins,
        )
    )


def in_child(work: Callable[[], int], limit: float) -> int | None:
    """Do something in a copy of this process, and end that with all that it has started; return its exit status."""
    child = os.fork()
    if not child:
        status = 70
        try:
            os.setsid()
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            status = work()
        finally:
            os._exit(status)
    until = time.monotonic() + limit
    ended, raw = 0, 0
    while not ended and time.monotonic() < until:
        time.sleep(0.01)
        ended, raw = os.waitpid(child, os.WNOHANG)
    for kill in (os.killpg, os.kill)[: 1 if ended else 2]:
        with suppress(ProcessLookupError, PermissionError):
            kill(child, signal.SIGKILL)
    if not ended:
        os.waitpid(child, 0)
        return None
    return os.waitstatus_to_exitcode(raw)


def answer(request: dict[str, Any], work: Callable[[], int]) -> dict[str, Any]:
    failure = Path(request["failure"])
    failure.unlink(missing_ok=True)
    status = in_child(work, request["limit"])
    line = failure.read_text("utf-8").partition("\n")[0] if failure.exists() else ""
    return {"status": status, "line": line}


class Served:
    """Runs tests that are collected already, with changes to functions that are imported already."""

    def __init__(self, answers: TextIO) -> None:
        self._answers = answers

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        items = {item.nodeid: item for item in session.items}
        # So that the children share it.
        session.config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]
        live = LiveCode(str(Path("trio_send").resolve()))
        for line in sys.stdin:
            request = json.loads(line)
            tests = [items.get(name) for name in request["tests"]]
            work = partial(self._try, live, request, tests)
            told = answer(request, work) if None not in tests else {"status": CANNOT, "line": ""}
            print(json.dumps(told), file=self._answers, flush=True)
        return True

    def _try(self, live: LiveCode, request: dict[str, Any], tests: list[pytest.Item]) -> int:
        path = Path("trio_send", request["module"]).resolve()
        try:
            live.change(str(path), path.read_bytes(), request["source"].encode())
        except CannotChange:
            return CANNOT
        first = FirstFailure(request["failure"])
        tests[0].config.pluginmanager.register(first)
        for test, following in zip(tests, [*tests[1:], None], strict=True):
            test.config.hook.pytest_runtest_protocol(item=test, nextitem=following)
            if first.is_told:
                return 1
        return 0


def serve_changes(answers: TextIO, files: list[str]) -> None:
    options = ["-q", "-s", "-p", "no:cacheprovider", "-o", "faulthandler_timeout=0"]
    pytest.main([*options, *files], [Served(answers)])


def serve_files(answers: TextIO) -> None:
    for name in STOOD_ON:
        with suppress(ImportError):
            importlib.import_module(name)
    gc.freeze()
    for line in sys.stdin:
        request = json.loads(line)
        work = partial(run, request["arguments"], request["failure"], request["reached"])
        print(json.dumps(answer(request, work)), file=answers, flush=True)


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nothing = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(nothing, descriptor)
    if len(sys.argv) > 1:
        serve_changes(answers, sys.argv[1:])
    else:
        serve_files(answers)


if __name__ == "__main__":
    main()
