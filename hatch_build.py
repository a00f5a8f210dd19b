"""Compile the accelerator where that is possible; everywhere else the package is complete without it.

``TRIO_SEND_ACCELERATOR=0`` leaves it out, ``TRIO_SEND_ACCELERATOR=1`` makes it an error if it cannot be built. ``CC``
and ``CFLAGS`` choose the compiler and what else it is told, ``ARCHFLAGS`` the processors of a Mac.
"""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from binascii import crc32
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SWITCH = "TRIO_SEND_ACCELERATOR"
SOURCE = Path("trio_send", "_accelerator.c")

#: How a compiled module is linked: its names are found in the Python that loads it.
LINK = {
    "linux": ["-shared"],
    "darwin": ["-bundle", "-undefined", "dynamic_lookup"],
}


class CannotBuild(Exception):
    """Why the accelerator cannot be built."""


def require_python() -> None:
    """Raise if the accelerator is not for this Python."""
    if sys.platform not in LINK:
        raise CannotBuild(f"it was never tried on {sys.platform}")
    if platform.python_implementation() != "CPython":
        raise CannotBuild(f"it is for CPython, not for {platform.python_implementation()}")
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        raise CannotBuild("it needs the GIL, which this Python can be without")


def words(variable: str, default: str = "") -> list[str]:
    return shlex.split(os.environ.get(variable) or default)


def compile_module(source: Path, target: Path) -> None:
    """Compile and link the module, or raise."""
    require_python()
    digest = f"{crc32(source.read_bytes()):08x}"
    command = [
        *words("CC", sysconfig.get_config_var("CC") or "cc"),
        *("-O3", "-DNDEBUG", "-fPIC", "-fvisibility=hidden", "-fno-strict-aliasing"),
        *words("ARCHFLAGS"),
        *words("CFLAGS"),
        f'-DSOURCE="{digest}"',
        f"-I{sysconfig.get_path('include')}",
        f"-I{sysconfig.get_path('platinclude')}",
        *LINK[sys.platform],
        str(source),
        *("-o", str(target)),
    ]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except OSError as error:
        raise CannotBuild(f"the compiler cannot be called: {error}") from None
    except subprocess.CalledProcessError as error:
        raise CannotBuild(f"{shlex.join(command)} says:\n{error.stderr}") from None


class CustomBuildHook(BuildHookInterface):
    """What hatchling calls before and after it builds a wheel."""

    folder: tempfile.TemporaryDirectory[str] | None = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        switch = os.environ.get(SWITCH, "")
        if switch not in ("", "0", "1"):
            raise ValueError(f"{SWITCH} is {switch!r}, but must be 0, 1 or not set")
        source = Path(self.root, SOURCE)
        name = "_accelerator" + (sysconfig.get_config_var("EXT_SUFFIX") or ".so")
        if version == "editable":
            # Such a wheel holds no more than the way to the checkout, so there it has to be.
            source.with_name(name).unlink(missing_ok=True)
        if switch == "0":
            return
        self.folder = tempfile.TemporaryDirectory()
        built = Path(self.folder.name, name)
        try:
            compile_module(source, built)
        except CannotBuild as error:
            self.folder.cleanup()
            if switch == "1":
                raise RuntimeError(f"{SWITCH}=1 asks for the accelerator, but {error}") from None
            return
        if version == "editable":
            shutil.copy2(built, source.with_name(name))
            return
        build_data["force_include"][str(built)] = str(SOURCE.with_name(name))
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if self.folder is not None:
            self.folder.cleanup()
