"""Build the accelerator, or leave it out, as an installation does."""

from __future__ import annotations

import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import types
from pathlib import Path
from typing import Any

import pytest

import trio_send

ROOT = Path(__file__).parents[2]
SUFFIX = str(sysconfig.get_config_var("EXT_SUFFIX"))
COMPILER = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")

#: What hatchling calls an installed wheel, and one that leads to a checkout.
STANDARD, EDITABLE = "standard", "editable"

needs_compiler = pytest.mark.skipif(
    sys.platform not in ("linux", "darwin")
    or platform.python_implementation() != "CPython"
    or bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
    or shutil.which(COMPILER[0]) is None
    or not Path(sysconfig.get_path("include"), "Python.h").exists(),
    reason="there is no compiler, or it is not for this Python",
)


class Build:
    """One build of a wheel, as far as the hook has a part in it."""

    def __init__(self, hooks: Any, root: Path) -> None:
        self.hook = hooks.CustomBuildHook()
        self.hook.root = str(root)
        self.beside = root / "trio_send" / f"_accelerator{SUFFIX}"
        self.data: dict[str, Any] = {"force_include": {}, "pure_python": True, "infer_tag": False}

    def run(self, version: str = STANDARD) -> list[str]:
        """Build; return what the wheel holds besides the package."""
        self.hook.initialize(version, self.data)
        for path in self.data["force_include"]:
            assert Path(path).stat().st_size
        self.hook.finalize(version, self.data, "a.whl")
        for path in self.data["force_include"]:
            assert not Path(path).exists()
        return list(self.data["force_include"].values())

    @property
    def is_pure(self) -> bool:
        return bool(self.data["pure_python"]) and not self.data["infer_tag"]


@pytest.fixture
def hooks(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The project's hook, without hatchling, which only a build brings along."""
    interface = types.ModuleType("hatchling.builders.hooks.plugin.interface")
    interface.BuildHookInterface = object  # type: ignore[attr-defined]
    for variable in ("TRIO_SEND_ACCELERATOR", "CFLAGS", "ARCHFLAGS"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setitem(sys.modules, interface.__name__, interface)
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def build(hooks: Any, tmp_path: Path) -> Build:
    (tmp_path / "trio_send").mkdir()
    shutil.copy(ROOT / "trio_send" / "_accelerator.c", tmp_path / "trio_send")
    return Build(hooks, tmp_path)


# With a compiler ------------------------------------------------------------------------------


@needs_compiler
@pytest.mark.parametrize("switch", ["", "1"])
def test_a_wheel_has_it(build: Build, monkeypatch: pytest.MonkeyPatch, switch: str) -> None:
    monkeypatch.setenv("TRIO_SEND_ACCELERATOR", switch)
    assert build.run() == [f"trio_send/_accelerator{SUFFIX}"]
    assert not build.is_pure
    assert not build.beside.exists()


@needs_compiler
def test_a_checkout_has_it_beside_its_source(build: Build) -> None:
    assert build.run(EDITABLE) == []
    assert build.is_pure
    assert build.beside.exists()


@needs_compiler
def test_the_compiler_has_nothing_to_say_about_it(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIO_SEND_ACCELERATOR", "1")
    monkeypatch.setenv("CFLAGS", "-Wall -Wextra -Werror")
    build.run()


@needs_compiler
def test_it_says_of_which_source_it_is(build: Build, tmp_path: Path) -> None:
    with build.beside.with_suffix("").with_name("_accelerator.c").open("a") as source:
        source.write("/* another */\n")
    build.run(EDITABLE)
    program = "import _accelerator; print(_accelerator.SOURCE)"
    said = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path / "trio_send",
        capture_output=True,
        text=True,
        check=True,
    )
    text = (tmp_path / "trio_send" / "_accelerator.c").read_bytes()
    assert said.stdout.strip() == f"{build.hook.initialize.__globals__['crc32'](text):08x}"


# Without one ----------------------------------------------------------------------------------


@pytest.mark.parametrize("compiler", ["false", "no-such-compiler"])
@pytest.mark.parametrize("version", [STANDARD, EDITABLE])
def test_without_a_compiler_it_is_left_out_without_a_word(
    build: Build,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    compiler: str,
    version: str,
) -> None:
    monkeypatch.setenv("CC", compiler)
    build.beside.write_bytes(b"of an earlier build")
    assert build.run(version) == []
    assert build.is_pure
    assert build.beside.exists() == (version == STANDARD)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("compiler", ["false", "no-such-compiler"])
def test_it_can_be_asked_for(build: Build, monkeypatch: pytest.MonkeyPatch, compiler: str) -> None:
    monkeypatch.setenv("CC", compiler)
    monkeypatch.setenv("TRIO_SEND_ACCELERATOR", "1")
    with pytest.raises(RuntimeError, match="TRIO_SEND_ACCELERATOR=1 asks for the accelerator, but"):
        build.run()


@pytest.mark.parametrize("version", [STANDARD, EDITABLE])
def test_it_can_be_left_out(build: Build, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    monkeypatch.setenv("TRIO_SEND_ACCELERATOR", "0")
    build.beside.write_bytes(b"of an earlier build")
    assert build.run(version) == []
    assert build.is_pure
    assert build.beside.exists() == (version == STANDARD)


def test_another_switch_is_refused(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIO_SEND_ACCELERATOR", "yes")
    with pytest.raises(ValueError, match="is 'yes', but must be 0, 1 or not set"):
        build.run()


def test_it_is_left_out_for_other_pythons(
    build: Build, hooks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told() -> str:
        with pytest.raises(hooks.CannotBuild) as caught:
            hooks.require_python()
        assert build.run() == []
        assert build.is_pure
        return str(caught.value)

    with monkeypatch.context() as patched:
        patched.setattr(hooks.sys, "platform", "win32")
        assert told() == "it was never tried on win32"
    monkeypatch.setattr(hooks.sys, "platform", "linux")
    with monkeypatch.context() as patched:
        patched.setattr(platform, "python_implementation", lambda: "PyPy")
        assert told() == "it is for CPython, not for PyPy"
    monkeypatch.setattr(platform, "python_implementation", lambda: "CPython")
    monkeypatch.setattr(sysconfig, "get_config_var", lambda name: name == "Py_GIL_DISABLED" or None)
    assert told() == "it needs the GIL, which this Python can be without"


def test_the_checkout_has_one_that_is_used() -> None:
    """One that was built by an installation is of the source as it stands, or should be built anew."""
    built = Path(trio_send.__file__).with_name(f"_accelerator{SUFFIX}")
    if not built.exists() or os.environ.get("TRIO_SEND_ACCELERATOR") == "0":
        pytest.skip("there is none, or it is switched off")
    assert trio_send.__accelerated__, "install the package anew, for the accelerator has changed"
