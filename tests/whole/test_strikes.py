"""Hold every public call to being one step for Ctrl-C: it changes everything that it is about, or nothing.

The table of the calls is in `tests.public_calls`, with one for threads that run no Trio in `tests.striking_threads`. A
public call that stands in neither fails the first test. `python -m tests.stress strikes` strikes at every instant there
is; here those are left out at which Trio keeps Ctrl-C for later, but for a few of each call.
"""

from __future__ import annotations

import inspect
from contextlib import suppress
from typing import Any

import pytest
import trio

from tests import public_calls, striking
from tests.accelerator import go_in_python, is_compiled
from tests.helpers import python_handles_ctrl_c as python_handles_ctrl_c
from tests.house.test_public_names import (
    functions_of,
    is_written_here,
    members,
    public_names,
    public_namespaces,
)
from tests.public_calls import CALLS, CHANGES_NOTHING, STEP_INSIDE, Call
from tests.stress_strikes import instants_of, thread_instants_of
from tests.striking import Scene, Strike, Watch, run_scene
from tests.striking_threads import THREAD_CALLS, ThreadCall, run_thread_scene
from trio_send import Socket, SocketException
from trio_send._base import interrupts
from trio_send._owners.scope import _OpenInitiator
from trio_send._socket.event_args_operation import EventArgsOperation
from trio_send._socket.stream import SocketStream
from trio_send._socket.trio_face import TrioFace
from trio_send._threads.scope import _ThreadScope
from trio_send._tracing.instruments import _Registration
from trio_send.abc import Instrument

pytestmark = [
    pytest.mark.usefixtures("python_handles_ctrl_c"),
    # A coroutine that is struck between its making and its first step never begins.
    pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning"),
]

#: Of classes without a public name, which users hold all the same.
HELD = (_OpenInitiator, SocketStream, TrioFace, _ThreadScope, _Registration)

#: Namespaces in which there is nothing to be left in the middle: users write it, or it watches, or it serves tests.
LEFT_OUT = ("abc.", "otel.", "testing.", "timeline.")

#: What reads, whatever it is of, and gives a picture of it or its number.
READING = {"__repr__", "__str__", "__len__", "__bool__", "__iter__", "__eq__", "__hash__"}

#: What Python or the library itself calls.
CALLED_BY_OTHERS = {
    "__reduce__",
    "__reduce_ex__",
    "__copy__",
    "__deepcopy__",
    "__del__",
    "__init_subclass__",
}


def every_call() -> tuple[set[str], set[str]]:
    """The names of all public calls, and of all properties that are read, as the table has them."""
    calls: set[str] = set()
    properties: set[str] = set()

    def look(full: str, kind: type) -> None:
        left_out = READING | CALLED_BY_OTHERS
        if issubclass(kind, Instrument):
            left_out |= vars(Instrument).keys()  # the library calls them
        for name, member in members(kind):
            is_special = name.startswith("__") and name.endswith("__")
            if (name.startswith("_") and not is_special) or name in left_out:
                continue
            if "<locals>" in getattr(member, "__qualname__", ""):
                continue  # handed on to a trio socket
            if isinstance(member, property):
                properties.add(f"{full}.{name}")
                if member.fset is not None:
                    calls.add(f"{full}.{name}.setter")
            else:
                calls.add(f"{full}.{name}")

    for namespace in public_namespaces():
        for name, value in public_names(namespace).items():
            full = f"{namespace.__name__}.{name}".removeprefix("trio_send.")
            if full.startswith(LEFT_OUT):
                continue
            if isinstance(value, type):
                look(full, value)
            elif inspect.isfunction(value) and is_written_here(value):
                calls.add(full)
    for kind in HELD:
        look(kind.__name__, kind)
    return calls, properties


CALL_NAMES, PROPERTY_NAMES = every_call()

DRIVEN = {call.name for call in CALLS} | {call.name for call in THREAD_CALLS}


def test_every_public_call_has_a_row() -> None:
    """Add the missing one to `tests/public_calls.py`, with a function that makes the call and looks what came of it."""
    missing = CALL_NAMES - DRIVEN - CHANGES_NOTHING
    assert not missing, f"{len(missing)} public calls have no row in tests/public_calls.py"
    unknown = (DRIVEN | CHANGES_NOTHING) - CALL_NAMES - PROPERTY_NAMES
    assert not unknown, "these rows are of no public call"
    assert not DRIVEN & CHANGES_NOTHING


def named(calls: list[Call]) -> dict[str, list[Call]]:
    found: dict[str, list[Call]] = {}
    for call in calls:
        found.setdefault(call.name, []).append(call)
    return found


@pytest.mark.parametrize("name", sorted(named(CALLS)))
def test_what_is_changed_is_changed_where_ctrl_c_cannot_come_between(name: str) -> None:
    """Called by a function that nothing protects: as the first start on its socket, and as a later one."""
    changed: set[str] = set()
    unmarked: set[str] = set()
    for call in named(CALLS)[name]:
        for warm in (False, True):
            watch = Watch()
            assert run_scene(call.drive, watch, warm=warm) is None, call
            assert watch.exposed == [], call
            changed |= watch.changed
            unmarked |= watch.unmarked
        assert changed <= call.changes, call
    assert changed == call.changes, "the row says that more is changed than was"
    own = name.removesuffix(".setter").rpartition(".")[2]
    assert (own in unmarked) is (name in STEP_INSIDE), "it should be marked, or be in STEP_INSIDE"


@pytest.mark.parametrize("name", sorted(named(CALLS)))
def test_a_call_that_is_struck_is_done_or_not_done(name: str) -> None:
    """At every instant at which Ctrl-C comes at once."""
    for call in named(CALLS)[name]:
        for warm in (False, True):
            struck, complaints = instants_of(call, warm=warm)
            assert complaints == [], call
            assert struck < 1000


@pytest.mark.parametrize("name", sorted(named(CALLS)))
def test_ctrl_c_that_is_kept_for_later_is_heard(name: str) -> None:
    """At the next checkpoint, which may be in the call."""
    for call in named(CALLS)[name][:4]:
        _, complaints = instants_of(call, warm=True, everywhere=True, at_most=6)
        assert complaints == [], call


@pytest.mark.parametrize("call", THREAD_CALLS, ids=str)
def test_a_call_that_is_struck_where_no_trio_runs_is_done_or_not_done(call: ThreadCall) -> None:
    struck, complaints = thread_instants_of(call, at_most=16)
    assert complaints == []
    assert struck > 0 or is_compiled(call.name)  # there is no instant then


@pytest.mark.parametrize("name", sorted(PROPERTY_NAMES))
def test_reading_changes_nothing_by_halves(name: str) -> None:
    """What a property does besides, such as having an end told, is out of reach of Ctrl-C."""
    kind_name, _, attribute = name.rpartition(".")
    value = next(
        (
            value
            for namespace in public_namespaces()
            for each, value in public_names(namespace).items()
            if f"{namespace.__name__}.{each}".removeprefix("trio_send.") == kind_name
        ),
        None,
    )
    if value is None:
        value = next(kind for kind in HELD if kind.__name__ == kind_name)
    exposed: list[str] = []

    async def drive(scene: Scene) -> None:
        scene.connect()
        args, _ = public_calls.start_until_paced(scene)
        result = scene.socket.begin_send(b"x" * striking.BIG)
        for thing in (scene.socket, args, result, striking.host_of_this_task()):
            if isinstance(thing, value):
                with suppress(SocketException):  # not every socket has it
                    await scene.call(getattr, thing, attribute, None)

    watch = Watch()
    assert run_scene(drive, watch, warm=True) is None
    exposed += watch.exposed
    assert exposed == []
    assert functions_of(inspect.getattr_static(value, attribute))


# The strikes find something -------------------------------------------------------------------


def row(name: str, case: str = "") -> Call:
    return next(call for call in CALLS if call.name == name and call.case.startswith(case))


def test_a_call_without_protection_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both by what it changes and by what becomes of that when it is struck."""
    go_in_python(monkeypatch)  # what is compiled needs no protection
    monkeypatch.setattr(striking, "LIMIT", 0.5)  # what is struck there may have no end
    call = row("Socket.begin_send", "bytes, in part")
    trio.lowlevel.disable_ki_protection(Socket.begin_send)
    try:
        watch = Watch()
        run_scene(call.drive, watch, warm=True)
        _, complaints = instants_of(call, warm=True)
    finally:
        trio.lowlevel.enable_ki_protection(Socket.begin_send)
    assert any(each.startswith("kernel: send") for each in watch.exposed)
    assert complaints
    assert instants_of(call, warm=True)[1] == []


HALVES = """
def size_of(message):
    return message.size

def assign(operation, buffer, buffers, message, direct, piece):
    operation.buffer = buffer
    operation.buffer_list = buffers
    size = size_of(message)
    operation.prepared = operation.message = message
    operation.size = size
    operation.direct = direct
    operation.piece = piece
"""


def test_a_setter_that_sets_one_thing_after_the_other_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With one call in between, in a file that counts as the library's."""
    go_in_python(monkeypatch)
    names: dict[str, Any] = {}
    exec(compile(HALVES, f"{striking.LIBRARY}/halves.py", "exec"), names)
    monkeypatch.setattr(EventArgsOperation, "assign", names["assign"])
    _, complaints = instants_of(row("SocketAsyncEventArgs.set_buffer", "bytes"), warm=True)
    assert any("what remains is" in each for each in complaints)


def test_a_thread_without_protection_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupts, "_handler_to_replace", lambda: None)
    call = next(each for each in THREAD_CALLS if str(each) == "ManualResetEvent.set")
    _, complaints = thread_instants_of(call, at_most=1000, stop_at=1)
    assert complaints


def test_a_mark_that_is_forgotten_is_found() -> None:
    """A setter whose last step wakes whoever waits."""
    setter = Socket.low_water.fset
    assert setter is not None
    call = row("Socket.low_water.setter")
    trio.lowlevel.disable_ki_protection(setter)
    try:
        watch = Watch()
        run_scene(call.drive, watch, warm=True)
    finally:
        trio.lowlevel.enable_ki_protection(setter)
    assert any(each.startswith("queue: set_low") for each in watch.exposed)


def test_a_thread_that_is_not_struck_has_nothing_to_complain_of() -> None:
    assert run_thread_scene(THREAD_CALLS[0], Strike(0)) is None


def test_every_call_of_a_thread_has_a_name_of_its_own() -> None:
    assert len({str(call) for call in THREAD_CALLS}) == len(THREAD_CALLS)
