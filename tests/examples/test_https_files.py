"""The HTTPS server of ``examples/``, asked by curl, which shares no code with it."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.served import served

pytestmark = [
    pytest.mark.skipif(os.name == "nt", reason="it is stopped by a signal, as on Unix"),
    pytest.mark.skipif(shutil.which("curl") is None, reason="it is asked by curl"),
]

GIB = 1 << 30
STEP = 1 << 20


def fetch(authority: Path, *urls: str) -> list[str]:
    """Fetch pages by one call of curl; return what it printed, with the status and how many connections it made."""
    form = "%{http_code} %{num_connects}\n"
    done = subprocess.run(
        ["curl", "-sS", "--path-as-is", "--cacert", str(authority), *urls, "-w", form],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.stdout.splitlines()


def test_files_those_that_are_not_there_and_a_connection_that_goes_on(tmp_path: Path) -> None:
    directory = tmp_path / "public"
    directory.mkdir()
    (directory / "hello").write_text("hello\n")
    (directory / "empty").write_text("")
    (tmp_path / "secret").write_text("secret\n")
    authority = tmp_path / "authority.pem"
    with served("https_files.py", str(directory), str(authority)) as port:
        names = ("hello", "empty", "none", "../secret", "hello")
        urls = [f"https://localhost:{port}/{name}" for name in names]
        assert fetch(authority, *urls) == [
            "hello",
            "200 1",
            "200 0",
            "404 0",
            "404 0",
            "hello",
            "200 0",
        ]


def test_a_file_of_one_gibibyte_arrives_whole(tmp_path: Path) -> None:
    """Its pieces differ, so none of them can be lost, doubled or swapped without being noticed."""
    file = tmp_path / "large"
    expected = hashlib.sha256()
    with file.open("wb") as out:
        for number in range(GIB // STEP):
            piece = number.to_bytes(8, "big")
            out.seek(number * STEP)  # what lies between takes no room on the disk
            out.write(piece)
            expected.update(piece + bytes(STEP - len(piece)))
        out.truncate(GIB)
    authority = tmp_path / "authority.pem"
    with (
        served("https_files.py", str(tmp_path), str(authority)) as port,
        subprocess.Popen(
            ["curl", "-sS", "--cacert", str(authority), f"https://localhost:{port}/large"],
            stdout=subprocess.PIPE,
        ) as curl,
    ):
        assert curl.stdout is not None
        arrived, size = hashlib.sha256(), 0
        while piece := curl.stdout.read(STEP):
            arrived.update(piece)
            size += len(piece)
    assert curl.returncode == 0
    assert size == GIB
    assert arrived.hexdigest() == expected.hexdigest()
