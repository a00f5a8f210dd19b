"""Fixtures for pytest, which you ask for with ``pytest_plugins = ["trio_send.testing.pytest_plugin"]``.

Nothing else in the library imports pytest.
"""

from __future__ import annotations

from ._pytest_fixtures import (
    scripted_socket as scripted_socket,
    send_ledger as send_ledger,
    slow_reader as slow_reader,
    small_pair as small_pair,
    socket_leaks as socket_leaks,
)
