"""Change the core in small ways, one at a time, and say which changes no test has noticed.

Run in the checkout as ``python -m tests.mutants [--seed N] [--count N] [--only KIND] [--jobs N] [MODULE ...]``. A
module is a file or a folder of the package, such as ``trio_send/_socket/send.py`` or ``_operations``. Without one the
folders of the core are meant. What was not noticed is printed with its file and line, and with what it reads before
and after. The exit status says whether there was any.

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

Each change is made in a temporary copy of the checkout. Of the tests those run that come to the line: first the nearest
and quickest, then all others, until one fails. A run that takes far longer than without the change hangs, and has
noticed it as well. Which tests come to which lines is found by running them all once, and kept in the folder ``build``.
Everything runs without the accelerator, which is not what is changed.

The same seed chooses the same changes. Which they are depends on what each of them reads and not on what is around it,
so an edit elsewhere leaves the choice as it was. ``python -m tests.mutants --count 20`` is a sample that is always the
same.

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
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

import attrs

from tests.clones import PACKAGE, Clone
from tests.mutations import KINDS, Mutation, mutations
from tests.reached_lines import Reach, Records, near

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent

#: What is changed if nothing else is asked for.
CORE = ("_messages", "_operations", "_owners", "_socket")

#: A run hangs after so many times what it takes without a change, and so many seconds.
_PATIENCE = 3, 20.0

NEAREST, OTHERS = STAGES = ("the nearest tests", "all others")


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


# Trying ---------------------------------------------------------------------------------------


@attrs.frozen
class Result:
    """What became of one change.

    Attributes:
      mutation: the change.
      stage: one of `STAGES`; None if nothing has noticed it.
      line: how it was noticed, or by how many tests it was not.
    """

    mutation: Mutation
    stage: str | None
    line: str


class Trial:
    """Runs tests in clones, each of which one thread at a time has.

    Args:
      root: the checkout.
      clones: copies of it.
      seconds: how long tests may run for one change, by what they take without; None if all may.
    """

    def __init__(self, root: Path, clones: Iterable[Clone], seconds: float | None = None) -> None:
        self._root = root
        self._seconds = float("inf") if seconds is None else seconds
        self._free: SimpleQueue[Clone] = SimpleQueue()
        for clone in clones:
            self._free.put(clone)
        self._records = Records(root)
        self._reach = Reach(root)

    def missing(self) -> list[str]:
        """The files of tests of which it is not known what they reach."""
        return self._records.missing()

    def record(self, file: str) -> tuple[str, int]:
        """Find out what the tests of a file reach; return its name and how many there are."""
        clone = self._free.get()
        try:
            tests = clone.record([file], 3600)
        finally:
            self._free.put(clone)
        self._records.keep(file, tests)
        return file, len(tests)

    def begin(self) -> None:
        """Make use of what is known of all files."""
        self._reach = self._records.read()

    def result(self, mutation: Mutation) -> Result:
        """Try a change."""
        source = (self._root / PACKAGE / mutation.module).read_bytes()
        nearest, others = near(self._reach.tests_of(mutation))
        left = self._seconds - sum(test.seconds for test in nearest)
        within = []
        for test in others:
            if left > test.seconds:
                within.append(test)
                left -= test.seconds
        times, more = _PATIENCE
        clone = self._free.get()
        try:
            for stage, tests in zip(STAGES, (nearest, within), strict=True):
                if tests:
                    limit = sum(test.seconds for test in tests) * times + more
                    answer = clone.run_changed(
                        mutation.module,
                        mutation.applied(source),
                        [test.name for test in tests],
                        self._records.files,
                        limit,
                    )
                    if not answer.passed:
                        return Result(mutation, stage, answer.line)
        finally:
            self._free.put(clone)
        ran = len(nearest) + len(within)
        return Result(
            mutation, None, f"by {ran} of {len(nearest) + len(others)} tests that come there"
        )


# The command line -----------------------------------------------------------------------------


def table(equivalent: Iterable[Mutation], results: Sequence[Result]) -> str:
    """How many changes of each kind were noticed, and by what."""
    count = Counter((result.mutation.kind, str(result.stage)) for result in results)
    count.update((each.kind, "equivalent") for each in equivalent)
    columns = ("equivalent", *STAGES, str(None))
    lines = [
        f"{'':12}{'made':>6}{'equivalent':>12}{'nearest':>9}{'others':>8}{'not noticed':>13}{'':>10}"
    ]
    for kind in (*KINDS, "all"):
        same, nearest, others, none = (
            sum(n for (k, s), n in count.items() if s == column and kind in (k, "all"))
            for column in columns
        )
        tried = nearest + others + none
        if same + tried:
            share = f"{(nearest + others) / tried:.1%}" if tried else ""
            lines.append(
                f"{kind:12}{same + tried:>6}{same:>12}{nearest:>9}{others:>8}{none:>13}{share:>10}"
            )
    return "\n".join(lines)


def number_or_all(text: str) -> int | None:
    return None if text == "all" else int(text)


def parser() -> argparse.ArgumentParser:
    assert __doc__ is not None
    made = argparse.ArgumentParser(
        prog="python -m tests.mutants",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("modules", nargs="*", metavar="MODULE", default=CORE)
    made.add_argument("--seed", type=int, default=0, help="chooses the changes (0)")
    made.add_argument(
        "--count", type=number_or_all, default=20, help='how many changes, or "all" (20)'
    )
    made.add_argument(
        "--only", action="append", choices=KINDS, help="a kind of change; may be repeated"
    )
    made.add_argument(
        "--jobs", type=int, default=os.cpu_count(), help="how many at the same time (the cores)"
    )
    made.add_argument(
        "--seconds", type=float, help="how long tests may run for one change (as long as all take)"
    )
    return made


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Try changes; return the exit status: 0 if all were noticed, 1 if not."""
    made = parser()
    options = made.parse_args(arguments)
    if sys.version_info < (3, 12) or sys.platform == "win32":
        made.error(
            "this takes Python 3.12 or later, which tells of each line, and a system with fork"
        )
    try:
        modules = modules_of(root, options.modules)
    except ValueError as error:
        made.error(str(error))
    found = [
        mutation
        for module in modules
        for mutation in mutations(root / PACKAGE, module)
        if mutation.kind in (options.only or KINDS)
    ]
    judged = {each.identity for each in equivalents(root)}
    sample = chosen(found, options.seed, options.count)
    equivalent = [each for each in sample if each.identity in judged]
    tried = [each for each in sample if each.identity not in judged]
    print(
        f"{len(found)} possible changes, {len(sample)} of them with seed {options.seed}, "
        f"of which {len(equivalent)} are judged equivalent",
        flush=True,
    )
    results: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        clones = [Clone(root, Path(folder, f"clone{n}")) for n in range(max(1, options.jobs))]
        trial = Trial(root, clones, options.seconds)
        threads = ThreadPoolExecutor(len(clones))
        try:
            for file, number in threads.map(trial.record, trial.missing()):
                print(f"{file}: {number} tests", flush=True)
            trial.begin()
            for result in threads.map(trial.result, tried):
                results.append(result)
                print(
                    f"{result.mutation}\n    {result.stage or 'NOT NOTICED'}: {result.line}",
                    flush=True,
                )
        finally:
            threads.shutdown(cancel_futures=True)
            for clone in clones:
                clone.close()
    print(table(equivalent, results))
    missed = [result.mutation for result in results if result.stage is None]
    if missed:
        print("\nnot noticed:")
        for mutation in missed:
            print(f"{PACKAGE}/{mutation}")
            if mutation.nth > 1:
                print(f"    nth = {mutation.nth}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
