"""Hold every form of sending to what it checks, in which order, and that a refused call has changed nothing.

A table says for each form what can be wrong with a call, in the order in which it is looked at. Each call is made with
one thing wrong, and again with that and everything behind it wrong at once: either way the error names the first. None
of it is about what the kernel says, for the kernel is not asked.

Modules: _socket.starts.
"""

from __future__ import annotations

import socket as stdlib_socket
from collections.abc import Callable, Coroutine
from contextlib import ExitStack, closing, nullcontext
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.datagrams import receiver
from tests.helpers import never_called, nothing_to_read, scripted, values_of
from trio_send import (
    AsyncResult,
    DatagramBatch,
    InvalidOperationError,
    ObjectDisposedError,
    OperationInProgressError,
    Socket,
    SocketAsyncEventArgs,
    SocketError,
    SocketException,
    SocketFlags,
    add_instrument,
    open_initiator,
)
from trio_send._base.errors import SocketClosedError
from trio_send.abc import Instrument
from trio_send.testing import Blocked, ScriptedPort

DGRAM = stdlib_socket.SOCK_DGRAM


@attrs.define
class Call:
    """What a call is made with; as it is made, nothing is wrong with it."""

    socket: Socket
    args: Any
    address: Any
    buffer: Any = attrs.Factory(lambda: bytearray(b"abc"))
    offset: Any = 1
    size: Any = 2
    flags: Any = SocketFlags.NONE
    callback: Any = None
    datagrams: Any = attrs.Factory(lambda: [bytearray(b"abc")])
    in_thread: bool = False
    has_initiator: bool = True


@attrs.frozen
class Fault:
    """One thing that can be wrong with a call.

    Attributes:
      spoil: makes it so.
      error: what the call raises then.
      sentence: how that begins.
    """

    spoil: Callable[[Call, Odd], object]
    error: type[Exception]
    sentence: str


@attrs.frozen
class Odd:
    """Args and batches that no call may be made with."""

    in_use: SocketAsyncEventArgs
    closed: SocketAsyncEventArgs
    batch_in_use: DatagramBatch


def setting(**values: Any) -> Callable[[Call, Odd], None]:
    def spoil(call: Call, odd: Odd) -> None:
        for name, value in values.items():
            setattr(call, name, value)

    return spoil


def set_end_point(address: Any) -> Callable[[Call, Odd], None]:
    def spoil(call: Call, odd: Odd) -> None:
        call.args.remote_end_point = address

    return spoil


GAPS = memoryview(b"abcdef")[::2]

FAULTS = {
    "thread": Fault(
        setting(in_thread=True), InvalidOperationError, "this socket belongs to another thread"
    ),
    "closed": Fault(
        lambda call, _: call.socket.close(), SocketClosedError, "this socket was closed"
    ),
    # One buffer, its range, where it goes.
    "no buffer": Fault(setting(buffer=None), TypeError, "{buffer} is None, but must be a bytes-li"),
    "text": Fault(setting(buffer="abc"), TypeError, "{buffer} must be a bytes-like object"),
    "gaps": Fault(setting(buffer=GAPS), TypeError, "{buffer} must be contiguous"),
    "empty list": Fault(
        setting(buffer=[], offset=0, size=None), ValueError, "{buffer} is an empty list"
    ),
    "member": Fault(
        setting(buffer=[b"abc", None], offset=0, size=None), TypeError, r"{buffer}\[1\] is None"
    ),
    "list range": Fault(
        setting(buffer=[b"abc"], offset=1), ValueError, "offset and size are for a single buffer"
    ),
    "list": Fault(
        setting(buffer=[b"abc"]), TypeError, "{buffer} must be a bytes-like .*, not list"
    ),
    "offset type": Fault(setting(offset="1"), TypeError, "offset must be a whole number"),
    "negative offset": Fault(setting(offset=-1), ValueError, "offset is -1, but must be from 0"),
    "offset": Fault(setting(offset=4), ValueError, "offset is 4, but must be from 0 to 3"),
    "size type": Fault(setting(size=1.5), TypeError, "size must be a whole number"),
    "negative size": Fault(setting(size=-1), ValueError, "size is -1, but must be from 0"),
    "size": Fault(setting(size=3), ValueError, "size is 3, but must be from 0 to 2"),
    "no address": Fault(setting(address=None), TypeError, "{address} is None, but must be the"),
    "address": Fault(setting(address="x"), TypeError, r"{address} must be \(host, port\)"),
    "port": Fault(setting(address=("127.0.0.1", -1)), ValueError, "{address} has the port -1"),
    "name": Fault(setting(address=("localhost", 9)), ValueError, "{address} has the host 'local"),
    "flags": Fault(setting(flags="0"), TypeError, "socket_flags must be SocketFlags"),
    "callback": Fault(setting(callback=7), TypeError, "callback must be a function"),
    # Args.
    "no args": Fault(setting(args=None), TypeError, "args must be a SocketAsyncEventArgs, not Non"),
    "bytes": Fault(setting(args=b"abc"), TypeError, "args must be a SocketAsyncEventArgs, not byt"),
    "args closed": Fault(
        lambda call, odd: setattr(call, "args", odd.closed),
        ObjectDisposedError,
        "these args were closed",
    ),
    "args in use": Fault(
        lambda call, odd: setattr(call, "args", odd.in_use),
        OperationInProgressError,
        "these args are in use",
    ),
    "args empty": Fault(
        lambda call, _: call.args.set_buffer(None), ValueError, "args has nothing to send"
    ),
    "no end point": Fault(set_end_point(None), TypeError, "remote_end_point is None, but must be"),
    "end point": Fault(set_end_point("x"), TypeError, r"remote_end_point must be \(host, port\)"),
    "end point name": Fault(
        set_end_point(("localhost", 9)), ValueError, "remote_end_point has the host 'localhost'"
    ),
    # Lists of datagrams.
    "no list": Fault(
        setting(datagrams=None), TypeError, "datagrams must be a list of bytes-like objects"
    ),
    "datagram": Fault(setting(datagrams=[b"", 7]), TypeError, r"datagrams\[1\] must be a bytes-li"),
    "batch in use": Fault(
        lambda call, odd: setattr(call, "datagrams", odd.batch_in_use),
        OperationInProgressError,
        "these datagrams are being sent already",
    ),
    "initiator": Fault(
        setting(has_initiator=False), InvalidOperationError, "no initiator is open here"
    ),
}


@attrs.frozen
class Form:
    """One form of sending.

    Attributes:
      call: makes the call.
      faults: what is checked, in order. Of those that stand together only one can be wrong at a time.
      names: what the parameters are called.
    """

    call: Callable[[Call], Any]
    faults: tuple[tuple[str, ...], ...]
    buffer: str = "buffer"
    address: str = "address"


FIRST = (("thread",), ("closed",))
OFFSETS = ("offset type", "negative offset", "offset")
SIZES = ("size type", "negative size", "size")
ONE_BUFFER = ("no buffer", "text", "gaps")
A_LIST = ("empty list", "member")
ADDRESSES = ("no address", "address", "port", "name")
ARGS = (("no args", "bytes"), ("args closed",), ("args in use",), ("args empty",))
END_POINTS = ("no end point", "end point", "end point name")
LAST = (("flags",), ("callback",), ("initiator",))

FORMS = {
    "send_async": Form(
        lambda c: c.socket.send_async(c.args),
        (*FIRST, *ARGS, ("initiator",)),
    ),
    "begin_send": Form(
        lambda c: c.socket.begin_send(c.buffer, c.offset, c.size, c.flags, c.callback),
        (*FIRST, (*ONE_BUFFER, *A_LIST, "list range"), OFFSETS, SIZES, *LAST),
        buffer="buffer_or_list",
    ),
    "try_begin_send": Form(
        lambda c: c.socket.try_begin_send(c.buffer, c.offset, c.size, c.flags, c.callback),
        (*FIRST, (*ONE_BUFFER, *A_LIST, "list range"), OFFSETS, SIZES, *LAST),
        buffer="buffer_or_list",
    ),
    "send": Form(
        lambda c: c.socket.send(c.buffer, c.flags),
        (*FIRST, (*ONE_BUFFER, *A_LIST), ("flags",)),
        buffer="data",
    ),
    "send args": Form(
        lambda c: c.socket.send(c.args),
        (*FIRST, *ARGS[1:]),
    ),
    "send_to_async": Form(
        lambda c: c.socket.send_to_async(c.args),
        (*FIRST, *ARGS, END_POINTS, ("initiator",)),
    ),
    "begin_send_to": Form(
        lambda c: c.socket.begin_send_to(
            c.buffer, c.offset, c.size, c.flags, c.address, c.callback
        ),
        (*FIRST, (*ONE_BUFFER, "list"), OFFSETS, SIZES, ADDRESSES, *LAST),
        address="remote_end_point",
    ),
    "send_to": Form(
        lambda c: c.socket.send_to(c.buffer, c.address, c.flags),
        (*FIRST, (*ONE_BUFFER, "list"), ADDRESSES, ("flags",)),
        buffer="data",
    ),
    "send_datagrams": Form(
        lambda c: c.socket.send_datagrams(c.datagrams, c.address, c.flags),
        (*FIRST, ("no list", "datagram", "batch in use"), ADDRESSES[1:], ("flags",)),
    ),
}

CASES = [
    pytest.param(form, stage, name, id=f"{form}-{name}")
    for form, described in FORMS.items()
    for stage, names in enumerate(described.faults)
    for name in names
]


def make(call: Callable[[Call], Any], made_with: Call) -> Any:
    """Make the call; an async one has to refuse before it yields for the first time."""
    answer = call(made_with)
    return answer.send(None) if isinstance(answer, Coroutine) else answer


@pytest.mark.page("B13", "B15", "B16", "B17", "B18", "B19", "S08", "S10", "S12")
@pytest.mark.fact("F001", "F003", "F004", "F006", "F007", "F025", "F081", "F087", "F088", "F249")
@pytest.mark.parametrize("with_all_behind_it", [False, True], ids=["alone", "and all behind it"])
@pytest.mark.parametrize(("form", "stage", "name"), CASES)
async def test_what_is_wrong_is_told_in_order_and_nothing_is_changed(
    form: str, stage: int, name: str, with_all_behind_it: bool
) -> None:
    described = FORMS[form]
    fault = FAULTS[name]
    with ExitStack() as stack:
        peer = stack.enter_context(receiver())
        socket = stack.enter_context(closing(Socket(type=DGRAM)))
        await socket.connect(peer.getsockname())
        blocked, _ = scripted(Blocked(), is_stream=False)
        stack.enter_context(closing(blocked))
        listener = stack.enter_context(closing(Socket()))
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        odd = Odd(SocketAsyncEventArgs(), SocketAsyncEventArgs(b"abc"), DatagramBatch([b"x"]))
        odd.closed.close()
        own = SocketAsyncEventArgs(bytearray(b"abc"), user_token="mine")
        own.remote_end_point = peer.getsockname()
        call = Call(socket, own, peer.getsockname())
        call.callback = never_called
        buffers = [call.buffer, own.buffer, call.datagrams[0]]

        async with trio.open_nursery() as nursery:

            async def keep_in_use(
                task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
            ) -> None:
                async with open_initiator():
                    assert listener.accept_async(odd.in_use) is True
                    task_status.started()
                    await trio.sleep_forever()

            await nursery.start(keep_in_use)
            nursery.start_soon(blocked.send_datagrams, odd.batch_in_use)
            await wait_all_tasks_blocked()
            assert odd.batch_in_use.pending
            if with_all_behind_it:
                for names in reversed(described.faults[stage + 1 :]):
                    FAULTS[names[0]].spoil(call, odd)
            fault.spoil(call, odd)
            args = call.args if isinstance(call.args, SocketAsyncEventArgs) else own

            async with open_initiator() as initiator:
                queue = socket._core.sends
                before: Any = None

                def state() -> Any:
                    return (
                        values_of(args),
                        values_of(own),
                        (queue.length, queue.gate, queue.accepted, queue.torn, queue.backoff),
                        (initiator._owner.budget, initiator.pending_operations),
                        odd.batch_in_use.datagrams_transferred,
                    )

                def refuse() -> None:
                    nonlocal before
                    before = state()
                    sentence = fault.sentence.format(
                        buffer=described.buffer, address=described.address
                    )
                    with pytest.raises(fault.error, match="^" + sentence) as caught:
                        make(described.call, call)
                    assert type(caught.value) is fault.error

                if call.in_thread:
                    await trio.to_thread.run_sync(refuse)
                elif call.has_initiator:
                    refuse()
                else:
                    await _outside_of_initiators(refuse)
                assert state() == before
            for buffer in buffers:
                buffer.append(0)  # BufferError, if anybody still looked at it
            assert nothing_to_read(peer)
            nursery.cancel_scope.cancel()


async def _outside_of_initiators(call: Callable[[], None]) -> None:
    """Call where no initiator is inherited."""
    done = trio.Event()
    errors: list[BaseException] = []

    async def run() -> None:
        try:
            call()
        except BaseException as error:
            errors.append(error)
        done.set()

    trio.lowlevel.spawn_system_task(run)
    await done.wait()
    if errors:
        raise errors[0]


@pytest.mark.parametrize("form", FORMS)
async def test_the_call_that_is_spoilt_is_a_good_one(form: str) -> None:
    """Or every fault above would be found for another reason."""
    with receiver() as peer, closing(Socket(type=DGRAM)) as socket:
        await socket.connect(peer.getsockname())
        args = SocketAsyncEventArgs(bytearray(b"abc"))
        args.remote_end_point = peer.getsockname()
        call = Call(socket, args, peer.getsockname())
        async with open_initiator():
            answer = FORMS[form].call(call)
            if isinstance(answer, Coroutine):
                await answer
        assert peer.recv(9) in (b"abc", b"bc")


# The end methods ------------------------------------------------------------------------------

ENDS: dict[str, tuple[Callable[[Socket, Any], Any], str]] = {
    "end_send": (lambda socket, ar: socket.end_send(ar), "send"),
    "try_end_send": (lambda socket, ar: socket.try_end_send(ar), "send"),
    "end_send_nowait": (lambda socket, ar: socket.end_send_nowait(ar), "send"),
    "try_end_send_nowait": (lambda socket, ar: socket.try_end_send_nowait(ar), "send"),
    "end_send_to": (lambda socket, ar: socket.end_send_to(ar), "send_to"),
    "end_send_to_nowait": (lambda socket, ar: socket.end_send_to_nowait(ar), "send_to"),
}


@pytest.mark.fact("F033", "F034", "F035", "F037", "F038")
@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("name", ENDS)
async def test_what_cannot_be_taken_is_refused_in_order_and_left_as_it_was(
    name: str, closed: bool
) -> None:
    """None, no result, another socket's, another operation's; also on a closed socket, for results outlive it."""
    end, kind = ENDS[name]
    with (
        receiver() as peer,
        closing(Socket(type=DGRAM)) as socket,
        closing(Socket(type=DGRAM)) as other,
    ):
        await socket.connect(peer.getsockname())
        await other.connect(peer.getsockname())
        async with open_initiator():

            def begin(where: Socket, what: str) -> AsyncResult:
                if what == "send_to":
                    return where.begin_send_to(b"abc", remote_end_point=peer.getsockname())
                return where.begin_send(b"abc")

            good = begin(socket, kind)
            wrong_kind = begin(socket, "send" if kind == "send_to" else "send_to")
            foreign = begin(other, kind)
            foreign_and_wrong = begin(other, "send" if kind == "send_to" else "send_to")
            received = await _received(socket, peer)
            if closed:
                socket.close()

            def refuse(ar: Any, error: type[Exception], sentence: str) -> None:
                with pytest.raises(error, match="^" + sentence) as caught:
                    make(lambda _: end(socket, ar), None)  # type: ignore[arg-type]
                assert type(caught.value) is error

            refuse(None, TypeError, "ar is None, but must be what the begin method returned")
            refuse(7, ValueError, "ar must be what the begin method returned, not int")
            refuse(foreign_and_wrong, ValueError, "ar is the result of an operation on another so")
            refuse(foreign, ValueError, "ar is the result of an operation on another socket")
            refuse(wrong_kind, ValueError, "ar is the result of SEND")
            refuse(received, ValueError, "ar is the result of RECEIVE, not of SEND")

            async def take(where: Socket, ar: AsyncResult, by: Callable[[Socket, Any], Any]) -> int:
                answer = by(where, ar)
                answer = await answer if isinstance(answer, Coroutine) else answer
                return answer[0] if isinstance(answer, tuple) else answer

            ends = {"send": Socket.end_send, "send_to": Socket.end_send_to}
            assert await take(socket, good, end) == 3
            with pytest.raises(InvalidOperationError, match=r"^the end method was called"):
                await take(socket, good, end)
            other_end = ends["send" if kind == "send_to" else "send_to"]
            assert await take(socket, wrong_kind, other_end) == 3
            assert await take(other, foreign, end) == 3
            assert await take(other, foreign_and_wrong, other_end) == 3


async def _received(socket: Socket, peer: stdlib_socket.socket) -> AsyncResult:
    peer.sendto(b"x", socket.local_end_point)
    result = socket.begin_receive(bytearray(1))
    await socket.end_receive(result)
    return result


# Args, before they are started ----------------------------------------------------------------


def test_flags_of_args_are_flags() -> None:
    args = SocketAsyncEventArgs(b"abc")
    for wrong in ("0", None, 1.0):
        with pytest.raises(TypeError, match=r"^socket_flags must be SocketFlags"):
            args.socket_flags = wrong  # type: ignore[assignment]
        assert args.socket_flags is SocketFlags.NONE
    args.socket_flags = 4  # type: ignore[assignment]
    assert args.socket_flags is SocketFlags.DONT_ROUTE


@pytest.mark.parametrize("face", ["begin_send", "begin_connect", "begin_accept", "begin_receive"])
async def test_a_callback_is_a_function(face: str) -> None:
    with closing(Socket()) as socket:
        if face == "begin_accept":
            socket.bind(("127.0.0.1", 0))
            socket.listen()
        async with open_initiator() as initiator:
            first = {"begin_connect": ("127.0.0.1", 9), "begin_receive": bytearray(1)}
            args = () if face == "begin_accept" else (first.get(face, b"x"),)
            with pytest.raises(TypeError, match=r"^callback must be a function of the result, not"):
                getattr(socket, face)(*args, callback="x")
            assert initiator.pending_operations == 0
            assert not socket.connected


class Emptying:
    """A path that takes the message of args away when it is looked at, once.

    Args:
      path: the path.
      args: the args.
    """

    def __init__(self, path: str, args: SocketAsyncEventArgs) -> None:
        self._path = path
        self._args: SocketAsyncEventArgs | None = args

    def __fspath__(self) -> str:
        args, self._args = self._args, None
        if args is not None:
            args.set_buffer(None)
        return self._path


@pytest.mark.skipif(not hasattr(stdlib_socket, "AF_UNIX"), reason="needs Unix sockets")
async def test_a_message_that_is_taken_away_in_the_middle_of_the_checks_is_not_sent(
    tmp_path: Path,
) -> None:
    """The start is refused like any other without one, and the args are free."""
    path = str(tmp_path / "socket")
    with (
        receiver(stdlib_socket.AF_UNIX, path) as peer,
        closing(Socket(stdlib_socket.AF_UNIX, DGRAM)) as socket,
    ):
        async with open_initiator() as initiator:
            args = SocketAsyncEventArgs(b"first")
            args.completed += never_called
            args.remote_end_point = Emptying(path, args)
            with pytest.raises(ValueError, match=r"^args has nothing to send"):
                socket.send_to_async(args)
            assert not args.pending
            assert initiator.pending_operations == 0
            assert nothing_to_read(peer)
            args.set_buffer(b"second")
            assert socket.send_to_async(args) is False
            assert peer.recv(99) == b"second"


class AskedPort(ScriptedPort):
    """A port that does something when it is asked for the so many-th time whether it is a stream.

    Attributes:
      left: how many times are left; 0 when it is done.
      action: what to do.
    """

    left = 0
    action: Callable[[], object]

    @property
    def is_stream(self) -> bool:
        if self.left:
            self.left -= 1
            if not self.left:
                self.action()
        return True

    @is_stream.setter
    def is_stream(self, value: bool) -> None: ...


@pytest.mark.parametrize("face", ["send_async", "begin_send", "try_begin_send"])
@pytest.mark.parametrize("watched", [False, True])
async def test_a_start_whose_socket_is_closed_in_the_middle_sends_nothing(
    face: str, watched: bool
) -> None:
    """Wherever in the middle that is, it is refused, or ends as any other that a close has stopped."""
    instrument = Instrument()
    ends: set[tuple[SocketError, bytes]] = set()
    with add_instrument(instrument) if watched else nullcontext():
        for number in range(1, 100):
            port = AskedPort()
            async with open_initiator() as initiator:
                socket = Socket.from_port(port)
                port.action = socket.close
                args = SocketAsyncEventArgs(b"message")
                port.left = number
                error = SocketError.SUCCESS
                try:
                    if face == "send_async":
                        assert socket.send_async(args) is False
                        error = args.socket_error
                    elif face == "begin_send":
                        socket.begin_send(b"message")
                    else:
                        error = socket.try_begin_send(b"message")[1]
                except SocketException as caught:
                    error = caught.socket_error_code
                assert initiator.pending_operations == 0
                was_asked = not port.left
                port.left = 0
                if not was_asked:
                    assert port.accepted == b"message"
                    socket.close()
                    break
                ends.add((error, bytes(port.accepted)))
        else:
            pytest.fail("it is asked again and again")
    # Behind the call it comes too late.
    sent = {(SocketError.SUCCESS, b"message")}
    assert ends - sent == ({(SocketError.OPERATION_ABORTED, b"")} if watched else set())
