"""Change the core in small ways, one at a time, and say which changes no test has noticed.

Run in the checkout as ``python -m tests.mutants [--seed N] [--count N] [--only KIND] [--jobs N] [MODULE ...]``. A
module is a file or a folder of the package, such as ``trio_send/_socket/send.py`` or ``_operations``. Without one the
folders of the core are meant. Each change is made in a temporary copy of the checkout, where the tests then run: first
the nearest, then the rest of their folder, then all others but those of the house, until one fails. A run that takes
far longer than without the change hangs, and has noticed it as well. What was not noticed is printed with its file and
line, and with what it reads before and after. The exit status says whether there was any.

``condition``, ``comparison``, ``arithmetic``, ``constant``
    An expression says something else.
``statement``
    A statement is dropped.
``return``
    None is returned, or the opposite of a bool.
``decorator``
    A decorator is dropped.
``guard``
    A condition that would leave early is dropped with all it does, or a part of an ``and`` or ``or``.

The same seed chooses the same changes. Which they are depends on what each of them reads and not on what is around it,
so an edit elsewhere leaves the choice as it was. ``python -m tests.mutants --count 20`` is a sample that is always the
same, for a machine that has an hour.

A change that makes no difference to anybody is no fault of the tests. ``tests/mutants_equivalent.toml`` names those
that were judged so, each with its reason, by what is printed of them; they are not tried.

The tools that there are do not serve: mutmut 3 leaves out every function that has a decorator, and has a wrapper call
the others, which is where Trio looks for protection against Ctrl-C; cosmic-ray drops neither statements nor guards, and
runs one command for all changes, not the nearest tests first.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue

import attrs

from tests.mutations import KINDS, Mutation, mutations

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "trio_send"

#: What is changed if nothing else is asked for.
CORE = ("_messages", "_operations", "_owners", "_socket")

#: Where what is done by the package is tested, as opposed to how its text is kept.
_NO_TESTS_OF_WHAT_IT_DOES = "tests/house"

#: The test that drives every public call, and sees whether Ctrl-C could come in between.
_STRIKES = "tests/whole/test_strikes.py"

#: A run hangs after so many times what it takes without a change, and so many seconds.
_PATIENCE = 3, 20.0

NEAREST, FOLDER, SUITE = STAGES = ("the nearest tests", "their folder", "the suite")


class Broken(Exception):
    """The tests fail without any change, so they can notice none."""


# What is chosen -------------------------------------------------------------------------------


def modules_of(root: Path, names: Iterable[str]) -> list[str]:
    """The files that are meant, relative to the package; or raise ValueError."""
    found: set[str] = set()
    package = root / PACKAGE
    for name in names:
        below = name.replace(os.sep, "/").removeprefix("./").removeprefix(f"{PACKAGE}/").rstrip("/")
        path = package / below
        files = [path] if path.suffix == ".py" and path.is_file() else sorted(path.rglob("*.py"))
        if not files:
            raise ValueError(f"{name} is neither a file nor a folder of {PACKAGE}")
        found.update(file.relative_to(package).as_posix() for file in files)
    return sorted(found)


@attrs.frozen
class Equivalent:
    """A change that was judged to make no difference."""

    module: str
    function: str
    before: str
    after: str
    reason: str
    nth: int = 1

    @property
    def identity(self) -> tuple[str, str, str, str, int]:
        return self.module, self.function, self.before, self.after, self.nth


def equivalents(root: Path) -> list[Equivalent]:
    """The changes that `tests/mutants_equivalent.toml` names."""
    text = (root / "tests" / "mutants_equivalent.toml").read_text("utf-8")
    return [Equivalent(**row) for row in tomllib.loads(text).get("mutant", ())]


def chosen(found: Iterable[Mutation], seed: int, count: int | None) -> list[Mutation]:
    """So many changes, each by its own lot."""

    def lot(mutation: Mutation) -> bytes:
        return hashlib.sha256(repr((seed, mutation.identity)).encode()).digest()

    return sorted(found, key=lot)[:count]


def stages_of(root: Path, mutation: Mutation) -> list[tuple[str, list[str]]]:
    """The tests to run for a change, from the nearest on: the name of each stage, and arguments for pytest."""
    folder, _, name = mutation.module.removesuffix(".py").rpartition("/")
    place = f"tests/{folder.removeprefix('_')}"
    dotted = ".".join([PACKAGE, *folder.split("/"), name])
    same_name = root / place / f"test_{name}.py"
    near = [same_name] if same_name.exists() else []
    near += [
        file
        for file in sorted((root / place).glob("test_*.py"))
        if file != same_name and _imports(file, dotted)
    ]
    nearest = [file.relative_to(root).as_posix() for file in near]
    if mutation.kind == "decorator":
        nearest.append(_STRIKES)
    stages = []
    if nearest:
        stages.append((NEAREST, nearest))
    done = [f"--ignore={each}" for each in nearest]
    if any((root / place).glob("test_*.py")):
        stages.append((FOLDER, [place, *done]))
        done.append(f"--ignore={place}")
    stages.append((SUITE, ["tests", *done, f"--ignore={_NO_TESTS_OF_WHAT_IT_DOES}"]))
    return stages


def _imports(file: Path, module: str) -> bool:
    text = file.read_text("utf-8")
    package, _, name = module.rpartition(".")
    return f"from {module} import" in text or f"from {package} import {name}\n" in text


# The clones -----------------------------------------------------------------------------------


def copy_of(root: Path, target: Path) -> None:
    """Copy what the tests need: all that is there but what tools have left."""
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
    shutil.copytree(root, target, symlinks=True, ignore=left)


@attrs.define
class Clone:
    """A copy of the checkout, in which one change is made at a time."""

    root: Path

    @contextmanager
    def changed(self, mutation: Mutation) -> Iterator[None]:
        """Have the change in the copy for a while."""
        path = self.root / PACKAGE / mutation.module
        source = path.read_bytes()
        self._write(path, mutation.applied(source))
        try:
            yield
        finally:
            self._write(path, source)

    def _write(self, path: Path, source: bytes) -> None:
        path.write_bytes(source)
        # What Python keeps of a module it takes for good if size and second are the same.
        for kept in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
            kept.unlink()

    def run(self, arguments: Sequence[str], limit: float | None) -> tuple[bool, str]:
        """Run tests; return whether all pass, and else what is wrong, in a line."""
        # In the copy `-m` finds the copy's package, whatever is installed.
        command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "--tb=no"]
        environment = os.environ | {"PYTHONPATH": str(self.root), "PY_COLORS": "0"}
        with tempfile.TemporaryFile() as printed:
            process = subprocess.Popen(
                [*command, "-p", "no:cacheprovider", *arguments],
                cwd=self.root,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                status = process.wait(limit)
            except subprocess.TimeoutExpired:
                return False, "it hangs"
            finally:
                _end(process)
            printed.seek(0)
            lines = printed.read().decode(errors="replace").splitlines()
        # No tests at all notice nothing.
        if status in (0, 5):
            return True, ""
        failed = (line for line in lines if line.startswith(("FAILED ", "ERROR ")))
        return False, next(failed, lines[-1] if lines else f"exit status {status}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the tests and what they have started."""
    if sys.platform == "win32":
        process.kill()
    else:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    process.wait()


class Trial:
    """Tries changes in clones, each of which one thread at a time has.

    Args:
      root: the checkout.
      clones: where its copies are.
    """

    def __init__(self, root: Path, clones: Iterable[Clone]) -> None:
        self._root = root
        self._free: SimpleQueue[Clone] = SimpleQueue()
        for clone in clones:
            self._free.put(clone)
        self._lock = threading.Lock()
        self._limits: dict[tuple[str, ...], float] = {}

    def noticed(self, mutation: Mutation) -> tuple[str, str] | None:
        """Tell which stage notices a change, and how; None if none does."""
        clone = self._free.get()
        try:
            for name, arguments in stages_of(self._root, mutation):
                limit = self._limit(clone, arguments)
                with clone.changed(mutation):
                    passed, line = clone.run(arguments, limit)
                if not passed:
                    return name, line
            return None
        finally:
            self._free.put(clone)

    def _limit(self, clone: Clone, arguments: list[str]) -> float:
        """How long tests may take, after a run without a change, which must pass."""
        with self._lock:  # one at a time: the same tests are mostly needed by all
            limit = self._limits.get(tuple(arguments))
            if limit is None:
                begun = time.monotonic()
                passed, line = clone.run(arguments, None)
                if not passed:
                    raise Broken(line)
                times, more = _PATIENCE
                limit = (time.monotonic() - begun) * times + more
                self._limits[tuple(arguments)] = limit
        return limit


# The command line -----------------------------------------------------------------------------


@attrs.frozen
class Result:
    """What became of one change; ``stage`` is None if nothing has noticed it."""

    mutation: Mutation
    stage: str | None
    line: str = ""


def table(results: Sequence[Result]) -> str:
    """How many changes of each kind were noticed, and by what."""
    count = Counter((result.mutation.kind, result.stage) for result in results)
    columns = (*STAGES, None)
    lines = [f"{'':12}{'tried':>8}{'nearest':>9}{'folder':>9}{'suite':>9}{'not noticed':>13}"]
    for kind in (*KINDS, "all"):
        of_kind = [
            sum(n for (k, s), n in count.items() if s == stage and kind in (k, "all"))
            for stage in columns
        ]
        if sum(of_kind):
            near, folder, suite, none = of_kind
            lines.append(f"{kind:12}{sum(of_kind):>8}{near:>9}{folder:>9}{suite:>9}{none:>13}")
    return "\n".join(lines)


def number_or_all(text: str) -> int | None:
    return None if text == "all" else int(text)


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Try changes; return the exit status: 0 if all were noticed, 1 if not, 2 if that cannot be said."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutants",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("modules", nargs="*", metavar="MODULE", default=CORE)
    parser.add_argument("--seed", type=int, default=0, help="chooses the changes (0)")
    parser.add_argument(
        "--count", type=number_or_all, default=20, help='how many changes, or "all" (20)'
    )
    parser.add_argument(
        "--only", action="append", choices=KINDS, help="a kind of change; may be repeated"
    )
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count(), help="how many at the same time (the cores)"
    )
    options = parser.parse_args(arguments)
    try:
        modules = modules_of(root, options.modules)
    except ValueError as error:
        parser.error(str(error))
    kinds = options.only or KINDS
    found = [
        mutation
        for module in modules
        for mutation in mutations(root / PACKAGE, module)
        if mutation.kind in kinds
    ]
    judged = {each.identity for each in equivalents(root)}
    tried = chosen(
        (each for each in found if each.identity not in judged), options.seed, options.count
    )
    equivalent = sum(each.identity in judged for each in found)
    print(
        f"{len(found)} possible changes, {equivalent} of them judged equivalent; "
        f"{len(tried)} are tried, seed {options.seed}",
        flush=True,
    )
    results: list[Result] = []
    broken = ""
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        clones = [Clone(Path(folder, f"clone{number}")) for number in range(max(1, options.jobs))]
        for clone in clones:
            copy_of(root, clone.root)
        trial = Trial(root, clones)
        with ThreadPoolExecutor(len(clones)) as threads:
            try:
                for mutation, answer in zip(tried, threads.map(trial.noticed, tried), strict=True):
                    result = Result(mutation, *(answer or (None,)))
                    results.append(result)
                    what = f"{result.stage}: {result.line}" if result.stage else "NOT NOTICED"
                    print(f"{mutation}\n    {what}", flush=True)
            except Broken as error:
                broken = str(error)
            finally:
                threads.shutdown(cancel_futures=True)
    print(table(results))
    missed = [result.mutation for result in results if result.stage is None]
    if missed:
        print("\nnot noticed:")
        for mutation in missed:
            print(f"{PACKAGE}/{mutation}")
            if mutation.nth > 1:
                print(f"    nth = {mutation.nth}")
    if broken:
        print(f"\nthe tests fail without any change, so they can notice none: {broken}")
        return 2
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
