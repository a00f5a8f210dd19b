"""What it takes to test code that uses trio_send, and trio_send itself; needs no test framework."""

from __future__ import annotations

from .._base.checks import fixup_module_metadata
from ._scripted_port import Blocked as Blocked, ScriptedPort as ScriptedPort

fixup_module_metadata(__name__, globals())
del fixup_module_metadata
