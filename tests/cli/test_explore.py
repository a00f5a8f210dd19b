"""``trio-send explore``: run, replay, shrink, show and compare.

Modules: _cli.explore.command, _cli.explore.compare, _cli.explore.findings.
"""

from __future__ import annotations

import csv
import multiprocessing
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from tests.accelerator import go_in_python
from trio_send import SocketAsyncEventArgs
from trio_send._cli import main, meter as _meter
from trio_send._cli.explore import command as _command
from trio_send._cli.interruption import hearing_as_before
from trio_send.testing import Finding

#: Windows has none.
KILL = getattr(signal, "SIGKILL", 9)

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def control(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Have every event raised twice."""
    real = SocketAsyncEventArgs.on_completed

    def twice(self: SocketAsyncEventArgs) -> object:
        result = real(self)
        return real(self) if result is None else result  # an asynchronous handler is told once

    with monkeypatch.context() as patch:
        go_in_python(patch)  # what is compiled calls the handler without that method
        patch.setattr(SocketAsyncEventArgs, "on_completed", twice)
        yield patch


def test_random_worlds(capsys: Capture) -> None:
    assert main(["explore", "run", "--seeds", "0:30", "--cancels", "2", "--jobs", "1"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("random_world: 30 runs of ")
    assert "something is wrong in 0 runs, findings: 0" in out
    assert err == ""


def test_many_processes_find_the_same(capsys: Capture) -> None:
    outputs = []
    for jobs in ("1", "2"):
        assert main(["explore", "run", "--seeds", "0:120", "--orders", "2", "--jobs", jobs]) == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1]


def test_small_worlds_are_tried_in_turn(capsys: Capture) -> None:
    assert main(["explore", "run", "small", "--most-runs", "40"]) == 0
    out = capsys.readouterr().out
    assert re.match("small_world: 40 runs of .*, not exhausted\n", out)
    assert "0 of kind order, 1 of kind kernel" in out


def test_findings_are_saved_and_run_again_and_made_small(
    control: pytest.MonkeyPatch, tmp_path: Path, capsys: Capture
) -> None:
    directory = tmp_path / "found"
    arguments = ["explore", "run", "--seeds", "0:40", "--jobs", "1", "--findings", str(directory)]
    assert main(arguments) == 1
    out, err = capsys.readouterr()
    assert "was told of 2 times, not 1" in out
    assert re.fullmatch(r"trio-send explore: something is wrong in \d+ of 40 runs\n", err)
    file = directory / "finding-1.json"
    finding = Finding.load(file)

    assert main(["explore", "replay", str(file)]) == 0
    out = capsys.readouterr().out
    assert "was told of 2 times" in out
    assert out.endswith("It is found again, and all runs are the same, step for step.\n")

    small = tmp_path / "small.json"
    assert main(["explore", "shrink", str(file), str(small)]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^\d+ decisions before, \d+ now, after \d+ runs$", out, re.MULTILINE)
    assert len(Finding.load(small).decisions) < len(finding.decisions)
    assert Finding.load(file) == finding
    assert main(["explore", "shrink", str(file)]) == 0
    assert Finding.load(file) == Finding.load(small)

    # The same with other versions need not be the same run.
    other = attrs.evolve(Finding.load(small), trace="0" * 32, versions={"trio": "0.1"})
    other.save(small)
    capsys.readouterr()
    assert main(["explore", "replay", str(small)]) == 1
    assert "the run is not the one that was found with trio 0.1" in capsys.readouterr().err

    control.undo()
    assert main(["explore", "replay", str(file)]) == 1
    assert "it is not found again: send" in capsys.readouterr().err
    assert main(["explore", "shrink", str(file)]) == 1
    assert "is not found again, so there is nothing to shrink" in capsys.readouterr().err


def test_findings_are_drawn(control: pytest.MonkeyPatch, tmp_path: Path, capsys: Capture) -> None:
    directory = tmp_path / "found"
    arguments = ["explore", "run", "--seeds", "0:20", "--jobs", "1", "--findings", str(directory)]
    assert main(arguments) == 1
    file = str(directory / "finding-1.json")
    capsys.readouterr()

    assert main(["explore", "show", file]) == 0
    out, err = capsys.readouterr()
    assert "was told of 2 times, not 1" in out.splitlines()[0]
    assert re.search(r"^initiator 1, [A-Z_]+", out, re.MULTILINE)
    assert err == ""
    for name, start in (
        ("picture.svg", "<svg "),
        ("page.html", "<!DOCTYPE html>"),
        ("text.txt", out.splitlines()[0]),
        ("events.json", "[\n{"),
    ):
        assert main(["explore", "show", file, str(tmp_path / name)]) == 0
        assert (tmp_path / name).read_text("utf-8").startswith(start)
        assert capsys.readouterr() == ("", "")

    other = attrs.evolve(Finding.load(file), trace="0" * 32)
    other.save(file)
    assert main(["explore", "show", file]) == 0
    assert "what is drawn is not the run that was found" in capsys.readouterr().err
    control.undo()
    assert main(["explore", "show", file]) == 0
    assert "with somebody who looks on it is not found again" in capsys.readouterr().err
    assert main(["explore", "show", file, str(tmp_path)]) == 1
    assert f"{str(tmp_path)!r} cannot be written: " in capsys.readouterr().err


@pytest.mark.parametrize("action", ["replay", "shrink", "show"])
def test_what_is_no_finding_is_refused(action: str, tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "file"
    assert main(["explore", action, str(file)]) == 1
    assert f"{str(file)!r} cannot be read: " in capsys.readouterr().err
    file.write_text("[]")
    assert main(["explore", action, str(file)]) == 1
    assert f"{file} holds no finding: " in capsys.readouterr().err
    Finding("mine", "wrong", "", None, (), (), 1, 1, {"cancel": 1}, (), 1, "0", {"trio": "1"}).save(
        file
    )
    assert main(["explore", action, str(file)]) == 1
    assert "was found in 'mine', which is not one of small_world" in capsys.readouterr().err


def test_findings_that_cannot_be_written(tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "file"
    file.touch()
    arguments = ["explore", "run", "--seeds", "0:2", "--jobs", "1", "--findings", str(file)]
    assert main(arguments) == 1
    assert f"findings cannot be written to {str(file)!r}" in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "total"), [(["--seeds", "0:30"], " of 30"), (["small"], "")])
def test_progress_on_a_terminal(
    arguments: list[str], total: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(_meter, "is_terminal", lambda stream: True)
    monkeypatch.setitem(sys.modules, "rich.console", None)
    assert main(["explore", "run", *arguments, "--jobs", "1", "--most-runs", "30"]) == 0
    out, err = capsys.readouterr()
    # It begins to be shown before anything was done, and nothing of it is left.
    assert err.startswith(f"\rruns: 0{total}, 0/s")
    assert err.rpartition("\r")[2] == ""
    assert "0/s" not in out


@pytest.mark.skipif(os.name != "posix", reason="a signal to oneself")
def test_a_stop_leaves_what_was_done(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    real = _command._Progress.__call__
    pressed: list[int] = []

    def press(self: _command._Progress, runs: int) -> bool:
        if runs >= 5 and not pressed:
            pressed.append(runs)
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            self.stop.wait()
        return real(self, runs)

    monkeypatch.setattr(_command._Progress, "__call__", press)
    with hearing_as_before():
        assert main(["explore", "run", "--seeds", "0:100000", "--jobs", "1"]) == 130
    out, err = capsys.readouterr()
    assert out.startswith(f"random_world: {pressed[0]} runs of ")
    assert err == f"trio-send explore: stopped by Ctrl-C after {pressed[0]} runs\n"


@pytest.mark.skipif(os.name != "posix", reason="signals to processes")
@pytest.mark.parametrize(
    ("number", "status", "words"),
    [
        # A signal for the whole group, as from a terminal: the command stops, and hears what its processes have done.
        (signal.SIGTERM, 130, "stopped by Ctrl-C after 50 runs"),
        (KILL, 1, "one of the processes that draw worlds was killed"),
    ],
)
def test_signals_to_its_processes(
    number: int, status: int, words: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    real = _command._Progress.__call__

    def press(self: _command._Progress, runs: int) -> bool:
        for process in multiprocessing.active_children():
            os.kill(process.pid or 0, number)
        if number != KILL:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            self.stop.wait()
        return real(self, runs)

    monkeypatch.setattr(_command._Progress, "__call__", press)
    with hearing_as_before():
        assert main(["explore", "run", "--seeds", "0:100000", "--jobs", "2"]) == status
    assert words in capsys.readouterr().err


@pytest.mark.skipif(os.name != "posix", reason="signals to processes")
def test_one_of_its_processes_is_killed(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    real = _command._Progress.__call__

    def press(self: _command._Progress, runs: int) -> bool:
        for process in multiprocessing.active_children()[:1]:
            os.kill(process.pid or 0, KILL)
        return real(self, runs)

    monkeypatch.setattr(_command._Progress, "__call__", press)
    assert main(["explore", "run", "--seeds", "0:100000", "--jobs", "2"]) == 1
    assert "one of the processes that draw worlds was killed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "the following arguments are required: ACTION"),
        (["run", "--seeds", "5"], "'5' is no range of seeds"),
        (["run", "--seeds", "5:5"], "'5:5' is no range of seeds"),
        (["run", "--cancels", "x"], "'x' is not a whole number, from 0 on"),
        (["run", "--jobs", "0"], "argument --jobs"),
        (["run", "--most-runs", "0"], "it must be at least 1"),
        (["run", "huge"], "invalid choice: 'huge'"),
    ],
)
def test_usage(arguments: list[str], words: str, capsys: Capture) -> None:
    assert main(["explore", *arguments]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("action", [[], ["run"], ["replay"], ["shrink"], ["show"], ["compare"]])
def test_help(action: list[str], capsys: Capture) -> None:
    assert main(["explore", *action, "--help"]) == 0
    assert capsys.readouterr().out.startswith(" ".join(["usage: trio-send explore", *action]))


# Compare --------------------------------------------------------------------------------------

DOCS = Path(__file__).parents[2] / "docs"


def test_policies_are_compared(tmp_path: Path, capsys: Capture) -> None:
    table, picture = tmp_path / "table.csv", tmp_path / "picture.html"
    arguments = ["--seeds", "0:4", "--csv", str(table), "--picture", str(picture)]
    assert main(["explore", "compare", *arguments]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert re.search(r"^stopped by +bytes after the stop +seconds to the end", out)
    assert re.search(r"^ABORT +0\.0 \(0\) +0\.0 \(0\) +\d+\.\d \(\d+\) .* none$", out, re.MULTILINE)
    assert "\n4 runs of each; in brackets the most in one run.\n" in out
    head, *rows = csv.DictReader(table.read_text("utf-8").splitlines())
    assert (head["stopped by"], head["runs"], head["after stop most"]) == ("ABORT", "4", "0")
    assert rows[-1]["stopped by"] == "control: abandon"
    assert "counts_are_exact 4" in rows[-1]["rules broken"]
    assert picture.read_text("utf-8").startswith("<!DOCTYPE html>")
    assert main(["explore", "compare", "--seeds", "0:1", "--csv", str(tmp_path)]) == 1
    assert f"{str(tmp_path)!r} cannot be written: " in capsys.readouterr().err


@pytest.mark.skipif(not DOCS.exists(), reason="the documentation is not here")
def test_the_table_of_the_page_is_what_the_command_writes(tmp_path: Path) -> None:
    table, picture = tmp_path / "compared.csv", tmp_path / "compared.svg"
    assert main(["explore", "compare", "--csv", str(table), "--picture", str(picture)]) == 0
    for file in (table, picture):
        assert file.read_text("utf-8") == (DOCS / file.name).read_text("utf-8"), (
            "trio-send explore compare --csv docs/compared.csv --picture docs/compared.svg"
        )
