"""Which calls the accelerator takes, and that it is left alone where it does not fit."""

from __future__ import annotations

import gc
import inspect
import os
import socket as stdlib_socket
import subprocess
import sys
import weakref
from binascii import crc32
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio.testing

import trio_send
from tests.accelerator import COMPILED, go_in_python, needs_accelerator
from trio_send import Socket, SocketAsyncEventArgs, SocketFlags, open_initiator
from trio_send._owners.exiting_owner import STARTS_PER_LOOK
from trio_send._socket import accelerate as accelerating

PACKAGE = str(Path(trio_send.__file__).parent)


def python_functions(call: Callable[[], object]) -> list[str]:
    """The functions of the package that run in Python during a call."""
    names: list[str] = []

    def profile(frame: Any, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(PACKAGE):
            names.append(frame.f_code.co_name)

    sys.setprofile(profile)
    try:
        call()
    finally:
        sys.setprofile(None)
    return names


class Scene:
    """A pair of sockets, warmed up, in an initiator."""

    def __init__(self, socket: Socket, peer: Socket) -> None:
        self.socket = socket
        self.peer = peer
        assert socket.send_async(SocketAsyncEventArgs(b"")) is False


Start = Callable[[Scene], Callable[[], object]]


def started(*buffer: Any) -> Start:
    def prepare(scene: Scene) -> Callable[[], object]:
        args = SocketAsyncEventArgs(*buffer)
        return lambda: scene.socket.send_async(args)

    return prepare


def begun(*arguments: Any) -> Start:
    return lambda scene: lambda: scene.socket.begin_send(*arguments)


def ended(scene: Scene) -> Callable[[], object]:
    result = scene.socket.begin_send(b"data")
    return lambda: scene.socket.end_send_nowait(result)


def full(call: Start) -> Start:
    def prepare(scene: Scene) -> Callable[[], object]:
        while not scene.socket.begin_send(bytes(100_000)).completed_synchronously:
            pass
        while scene.socket.begin_send(bytes(100_000)).completed_synchronously:
            pass
        return call(scene)

    return prepare


def one_of_many(make: Callable[[], SocketAsyncEventArgs]) -> Start:
    """A start each time with other args, for those before are pending."""

    def prepare(scene: Scene) -> Callable[[], object]:
        many = [make() for _ in range(200)]
        return lambda: scene.socket.send_async(many.pop())

    return prepare


def listened_to() -> SocketAsyncEventArgs:
    args = SocketAsyncEventArgs(b"data")
    args.completed += lambda socket, args: None
    return args


def set_again(*buffer: Any) -> Start:
    def prepare(scene: Scene) -> Callable[[], object]:
        args = SocketAsyncEventArgs(b"before")
        return lambda: args.set_buffer(*buffer)

    return prepare


def set_list(buffers: Any) -> Start:
    """What setting `buffer_list` does."""
    return lambda scene: partial(SocketAsyncEventArgs()._set_list, buffers)


NONE = SocketFlags.NONE

#: What is compiled, all of it.
SHORT: dict[str, Start] = {
    "send_async, bytes": started(b"data"),
    "send_async, a range of bytes": started(b"<<data>>", 2, 4),
    "send_async, a bytearray": started(bytearray(b"data")),
    "send_async, a range of a bytearray": started(bytearray(b"<<data>>"), 2, 4),
    "send_async, a memoryview": started(memoryview(b"data")),
    "send_async, a range of a memoryview": started(memoryview(bytearray(b"<<data>>")), 2, 4),
    "send_async, nothing": started(b""),
    "send_async, much": started(bytes(100_000)),
    "begin_send, bytes": begun(b"data"),
    "begin_send, a bytearray": begun(bytearray(b"data")),
    "begin_send, a memoryview": begun(memoryview(b"data")),
    "begin_send, from an offset on": begun(b"<<data", 2),
    "begin_send, a range": begun(bytearray(b"<<data>>"), 2, 4),
    "begin_send, everything but a callback": begun(b"data", 0, None, NONE, None, "state"),
    "begin_send, much": begun(bytes(100_000)),
    "end_send_nowait": ended,
    "send_async, behind others": full(one_of_many(lambda: SocketAsyncEventArgs(b"data"))),
    "send_async, behind others, a buffer that can change": full(
        one_of_many(lambda: SocketAsyncEventArgs(bytearray(b"data")))
    ),
    "send_async, behind others, with a handler": full(one_of_many(listened_to)),
    "set_buffer, bytes": set_again(b"data"),
    "_set_list, a list of bytes": set_list([b"da", b"ta"]),
    "_set_list, a tuple of one": set_list((b"data",)),
}


class Bytes(bytes):
    pass


def named(scene: Scene) -> Callable[[], object]:
    args = SocketAsyncEventArgs(b"data")
    return lambda: scene.socket.send_async(args=args)


#: What is handed over.
LONG: dict[str, Start] = {
    "send_async, args by name": named,
    "send_async, bytes of a class of their own": started(Bytes(b"data")),
    "send_async, numbers that are no bytes": started(memoryview(b"data").cast("H")),
    "begin_send, state by name": lambda scene: (
        lambda: scene.socket.begin_send(b"data", state="state")
    ),
    "begin_send, bytes of a class of their own": begun(Bytes(b"data")),
    "begin_send, a list": begun([b"data"]),
    "begin_send, a callback": begun(b"data", 0, None, NONE, print),
    "begin_send, flags": begun(b"data", 0, None, SocketFlags.DONT_ROUTE),
    "begin_send, an offset that is no int": begun(b"data", False),
    "begin_send, behind others, a buffer that can change": full(begun(bytearray(b"data"))),
    "begin_send, behind others, a range": full(begun(b"data", 1)),
    "set_buffer, a bytearray": set_again(bytearray(b"data")),
    "set_buffer, a range": set_again(b"data", 1),
    "set_buffer, nothing": set_again(None),
    "_set_list, with a bytearray": set_list([b"da", bytearray(b"ta")]),
    "_set_list, no list": set_list(iter([b"data"])),
    "_set_list, nothing": set_list(None),
}


@pytest.fixture
async def scene() -> Any:
    left, right = stdlib_socket.socketpair()
    left.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_SNDBUF, 300_000)
    socket, peer = Socket.from_stdlib(left), Socket.from_stdlib(right)
    async with open_initiator(), socket, peer:
        yield Scene(socket, peer)


@needs_accelerator
@pytest.mark.parametrize("name", SHORT)
async def test_an_ordinary_call_runs_no_python(scene: Scene, name: str) -> None:
    assert python_functions(SHORT[name](scene)) == []


@needs_accelerator
@pytest.mark.parametrize("name", LONG)
async def test_any_other_call_is_pythons(scene: Scene, name: str) -> None:
    assert python_functions(LONG[name](scene))[0] == name.partition(",")[0]


@needs_accelerator
@pytest.mark.parametrize("arguments", [(b"data",), (b"data", 0, None, NONE, None, "state")])
async def test_a_result_that_has_to_wait_is_made_in_python(scene: Scene, arguments: Any) -> None:
    """And that is all: it is put into the queue without."""
    begin = full(begun(*arguments))(scene)
    results: list[Any] = []
    assert python_functions(lambda: results.append(begin())) == ["__init__"] * 3
    assert not results[0].is_completed
    assert results[0].async_state == (arguments[-1] if len(arguments) > 1 else None)


@needs_accelerator
@pytest.mark.parametrize(
    "name", [name for name in SHORT if "much" not in name and "behind" not in name]
)
async def test_no_reference_is_kept_or_given_away(scene: Scene, name: str) -> None:
    call = SHORT[name](scene)
    held = (scene.socket, trio_send.current_initiator(), b"data", SocketFlags.NONE, call)

    def references() -> list[int]:
        gc.collect()
        found = {id(thing): thing for thing in held}
        for thing in (*held, *gc.get_referents(*held)):
            found.update((id(each), each) for each in gc.get_referents(thing))
            found[id(thing)] = thing
        kept = [each for each in found.values() if gc.is_tracked(each) or isinstance(each, bytes)]
        return list(map(sys.getrefcount, kept))

    for _ in range(3):
        if name != "end_send_nowait":
            call()
    before = references()
    for _ in range(100):
        if name == "end_send_nowait":
            scene.socket.end_send_nowait(scene.socket.begin_send(b"data"))
        else:
            call()
    # A hundred calls would show. One or two may come and go with what else lives in this process.
    changes = [now - then for now, then in zip(references(), before, strict=True)]
    assert all(abs(change) < 50 for change in changes), changes


def send_args(scene: Scene, args: SocketAsyncEventArgs, message: bytes) -> Any:
    args.set_buffer(message)
    assert scene.socket.send_async(args)
    return args


@needs_accelerator
@pytest.mark.parametrize(
    "start",
    [
        lambda scene, message: send_args(scene, SocketAsyncEventArgs(), message),
        lambda scene, message: send_args(scene, listened_to(), message),
        lambda scene, message: scene.socket.begin_send(message),
    ],
)
async def test_no_reference_is_kept_of_what_has_waited(
    scene: Scene, start: Callable[[Scene, bytes], Any]
) -> None:
    message, owner = b"a message of its own", trio_send.current_initiator()

    async def pile_up() -> list[weakref.ref[Any]]:
        while scene.socket.begin_send(bytes(100_000)).completed_synchronously:
            pass
        many = [start(scene, message) for _ in range(300)]
        while scene.socket.statistics().queued_operations:
            await scene.peer.receive(1_000_000)
        await trio.testing.wait_all_tasks_blocked()
        return list(map(weakref.ref, many))

    def references() -> list[int]:
        gc.collect()
        return list(map(sys.getrefcount, (scene.socket, owner, message, None)))

    await pile_up()
    before = references()
    for _ in range(3):
        there = await pile_up()
    *kept, of_none = (now - then for now, then in zip(references(), before, strict=True))
    assert kept == [0, 0, 0]
    assert abs(of_none) < 300, of_none
    assert not any(each() for each in there)


@needs_accelerator
@pytest.mark.parametrize("is_deep", [False, True])
async def test_a_deep_stack_is_looked_at_in_python(scene: Scene, is_deep: bool) -> None:
    """How deep it may be is for Python to say; that it is not is seen without."""
    args = SocketAsyncEventArgs(b"x")

    def start_many(frames: int) -> list[str]:
        if frames:
            return start_many(frames - 1)
        return python_functions(
            lambda: [scene.socket.send_async(args) for _ in range(STARTS_PER_LOOK)]
        )

    names = start_many(sys.getrecursionlimit() // 2 if is_deep else 0)
    assert ("is_deep" in names) == args.pending == is_deep
    assert is_deep or not names


@needs_accelerator
async def test_a_port_is_asked_in_python(scene: Scene) -> None:
    """Whatever stands in the place of the system's own method, a socket of a class of its own too."""

    class OwnSocket(stdlib_socket.socket):
        def send(self, data: Any, flags: int = 0, /) -> int:
            return super().send(data, flags)

    left, right = stdlib_socket.socketpair()
    own = OwnSocket(left.family, left.type, left.proto, left.detach())
    async with Socket.from_stdlib(own) as socket:
        args = SocketAsyncEventArgs(b"data")
        socket.send_async(args)
        assert python_functions(lambda: socket.send_async(args))[0] == "send_async"
    right.close()


@needs_accelerator
@pytest.mark.parametrize(("cls", "name"), COMPILED)
def test_a_compiled_method_tells_what_the_one_in_python_is(cls: type, name: str) -> None:
    method = getattr(cls, name)
    assert not inspect.isfunction(method)
    assert name in repr(method)
    function = inspect.unwrap(method)
    assert inspect.isfunction(function)
    assert inspect.signature(method) == inspect.signature(function)
    assert method.__doc__ == function.__doc__
    assert method.__name__ == name
    assert method.__qualname__ == function.__qualname__
    assert method.__module__ == function.__module__


@needs_accelerator
@pytest.mark.parametrize(("cls", "name"), COMPILED)
def test_wrong_calls_are_complained_of_as_ever(cls: type, name: str) -> None:
    method = getattr(cls, name)
    with pytest.raises(TypeError, match=rf"{name}\(\) missing"):
        method()
    with pytest.raises(TypeError, match="positional argument"):
        method(1, 2, 3, 4, 5, 6, 7, 8, 9)
    parameters = list(inspect.signature(method).parameters.values())[1:]
    arguments = [
        SocketAsyncEventArgs(b"data")
        for each in parameters
        if each.default is inspect.Parameter.empty
    ]
    with pytest.raises(AttributeError):
        method("not a socket", *arguments)
    with pytest.raises(AttributeError):
        method.no_such_attribute  # noqa: B018


# Where it does not fit ------------------------------------------------------------------------


def run(program: str, switch: str | None) -> str:
    environment = {k: v for k, v in os.environ.items() if k != accelerating.SWITCH}
    if switch is not None:
        environment[accelerating.SWITCH] = switch
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


WHICH = "import trio_send; print(trio_send.__accelerated__, type(trio_send.Socket.__dict__.get('send_async')))"


def test_the_switch_leaves_it_out() -> None:
    assert run(WHICH, "0").startswith("False")


def test_what_is_told_is_so() -> None:
    answer = run(WHICH, None)
    assert answer.startswith("True") == ("_accelerator.Method" in answer)


ANEW = """
import os, socket, trio_send
from trio_send import _accelerator
from trio_send._socket import accelerate as accelerating
del os.environ["TRIO_SEND_ACCELERATOR"]
{change}
print(accelerating.accelerate(), trio_send.Socket.send_async)
"""

MISFITS = {
    "an attribute that is missing": "class Piece: __slots__ = ()\naccelerating.Piece = Piece",
    "an attribute that is no slot": "class Piece: buffer = 0\naccelerating.Piece = Piece",
    "a socket that sends otherwise": (
        "class Other: send = print\n"
        "accelerating.stdlib_socket = type('', (), {'SocketType': Other})"
    ),
    "a socket that begins otherwise": (
        "class Other(socket.SocketType):\n    def fileno(self): return 7\n"
        "accelerating.stdlib_socket = type('', (), {'SocketType': Other})"
    ),
    "a module of another source": "_accelerator.SOURCE = '00000000'",
}


@needs_accelerator
@pytest.mark.parametrize("name", MISFITS)
def test_it_is_left_out_where_something_does_not_fit(name: str) -> None:
    answer = run(ANEW.format(change=MISFITS[name]), "0")
    assert answer.startswith("False <function Socket.send_async")


def test_what_was_built_of_another_source_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source.c"
    source.write_bytes(b"text")
    other = SimpleNamespace(SOURCE="00000000", install=lambda **_: None)
    monkeypatch.setattr(trio_send, "_accelerator", other, raising=False)
    monkeypatch.setattr(accelerating, "_SOURCE", source)
    monkeypatch.delenv(accelerating.SWITCH, raising=False)
    assert accelerating.accelerate() is False


def test_where_none_was_built_everything_is_pythons(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Socket.send_async
    monkeypatch.setitem(sys.modules, "trio_send._accelerator", None)
    monkeypatch.delattr(trio_send, "_accelerator", raising=False)
    monkeypatch.delenv(accelerating.SWITCH, raising=False)
    assert accelerating.accelerate() is False
    assert Socket.send_async is before


@pytest.mark.parametrize("error", [AttributeError, TypeError, RuntimeError])
def test_one_that_cannot_be_installed_is_left_out(
    error: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looks first whether all of it fits, and says in one of these ways that it does not."""
    asked: list[set[str]] = []

    def install(**parts: object) -> None:
        asked.append(set(parts))
        raise error("it does not fit")

    other = SimpleNamespace(SOURCE="00000000", install=install)
    monkeypatch.setattr(trio_send, "_accelerator", other, raising=False)
    monkeypatch.setattr(accelerating, "_SOURCE", tmp_path / "not there")
    monkeypatch.delenv(accelerating.SWITCH, raising=False)
    assert accelerating.accelerate() is False
    assert len(asked) == 1
    assert {"socket", "args", "result"} <= asked[0]


@needs_accelerator
def test_it_is_put_in_place_where_all_fits() -> None:
    answer = run(ANEW.format(change=""), "0")
    assert answer.startswith("True <the compiled short way of <function Socket.send_async")


@needs_accelerator
def test_a_second_copy_of_the_package_is_not_accelerated() -> None:
    assert accelerating.accelerate() is False


def test_it_is_of_the_source_that_is_there(tmp_path: Path) -> None:
    source = tmp_path / "source.c"
    assert accelerating._is_of("00000000", source)
    source.write_bytes(b"text")
    assert not accelerating._is_of("00000000", source)
    assert accelerating._is_of(f"{crc32(b'text'):08x}", source)


@pytest.mark.parametrize("name", SHORT)
async def test_tests_can_have_it_done_in_python(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    go_in_python(monkeypatch)
    assert python_functions(SHORT[name](scene))[0] == name.partition(",")[0]
