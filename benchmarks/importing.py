"""How long importing the package takes, beyond importing Trio."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import trio

from .records import Goal, Row, compare
from .works import Scale, Work

OURS = "trio_send"
TRIO = "trio"
#: As many modules in as many packages, with nothing in them.
EMPTY = "empty modules"

#: What is imported takes the place of {}; it prints the nanoseconds for Trio and for that, and which modules came.
PROGRAM = """
import sys, time
began = time.process_time_ns()
import trio
then = time.process_time_ns()
before = set(sys.modules)
import {}
print(then - began, time.process_time_ns() - then, *(set(sys.modules) - before))
"""


def write_empty(directory: Path, modules: list[str]) -> str:
    """Write a package of empty modules like those of another one; return its name."""
    own = [name.split(".")[1:] for name in sorted(modules) if name.startswith(f"{OURS}.")]
    packages = {tuple(parts[:-1]) for parts in own}
    names = []
    for parts in own:
        path = directory.joinpath("empty", *parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        if tuple(parts) in packages:
            path.mkdir(exist_ok=True)
            (path / "__init__.py").touch()
        else:
            path.with_suffix(".py").touch()
            names.append(".".join(parts))
    text = "".join(f"import empty.{name}\n" for name in names)
    (directory / "empty" / "__init__.py").write_text(text, "utf-8")
    return "empty"


async def measure(scale: Scale) -> list[Row]:
    """Measure in new interpreters."""
    measured: dict[str, list[float]] = {OURS: [], TRIO: [], EMPTY: []}
    with tempfile.TemporaryDirectory() as directory:
        # As an installed package has it. Compiling takes five times as long as all the rest.
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": f"{directory}/bytecode"}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        path = [directory, environment.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, path))

        async def run(name: str) -> list[str]:
            process = await trio.run_process(
                [sys.executable, "-c", PROGRAM.format(name)],
                capture_stdout=True,
                stderr=subprocess.DEVNULL,
                env=environment,
            )
            assert process.stdout is not None
            return process.stdout.decode().split()

        # The first import of each has the bytecode written.
        _, _, *modules = await run(OURS)
        empty = write_empty(Path(directory), modules)
        await run(empty)
        for _ in range(max(1, scale.rounds // 5)):
            for column, name in ((OURS, OURS), (EMPTY, empty)):
                theirs, took, *_ = await run(name)
                measured[column].append(int(took) / 1e6)
            measured[TRIO].append(int(theirs) / 1e6)
    return [compare("import", "", measured, [Goal(OURS, TRIO, 0.12, EMPTY)], unit="ms")]


WORKS = (Work("import", "importing trio_send, beyond trio", measure),)
