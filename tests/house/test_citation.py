"""The file from which others cite the project says what the project says.

Modules: _version.
"""

from __future__ import annotations

from typing import Any

from tests.citation import FILE, citation, expected

PROJECT: dict[str, Any] = {
    "name": "thing",
    "description": 'Does "things": all of them',
    "authors": [{"name": "One"}, {"name": "Two"}],
    "license": "MIT OR Apache-2.0",
    "keywords": ["a", "b"],
}


def test_the_file_is_up_to_date() -> None:
    assert FILE.read_text("utf-8") == expected(), "run python -m tests.citation"


def test_a_home_is_named_once_there_is_one() -> None:
    without = citation(PROJECT, "1.2")
    home = "https://example.org/thing"
    assert citation({**PROJECT, "urls": {"Homepage": home}}, "1.2") == f'{without}url: "{home}"\n'


def test_all_of_it_is_said() -> None:
    text = citation(PROJECT, "1.2")
    for part in (
        'title: "thing"\n',
        'version: "1.2"\n',
        r'abstract: "Does \"things\": all of them"',
        '  - name: "One"\n  - name: "Two"\n',
        "license:\n  - MIT\n  - Apache-2.0\n",
        'keywords:\n  - "a"\n  - "b"\n',
    ):
        assert part in text
