"""Actions that start operations without waiting for them, stop them, and take their results."""

from __future__ import annotations

from typing import Any

import outcome

from tests.fuzz_toolbox import FuzzWorld, sync
from tests.fuzz_world import Pick
from trio_send import Socket
from trio_send._socket.results import kind_of, origin_of
from trio_send.testing import Blocked, ScriptedPort

# -- args --------------------------------------------------------------------------------------------------------------


@sync
def send_async(world: FuzzWorld, pick: Pick) -> None:
    world.start(pick, "send_async", world.a_socket(pick), world.a_follower(pick))


@sync
def send_to_async(world: FuzzWorld, pick: Pick) -> None:
    world.start(pick, "send_to_async", world.a_socket(pick), world.a_follower(pick))


@sync
def send_packets_async(world: FuzzWorld, pick: Pick) -> None:
    world.start(pick, "send_packets_async", world.a_socket(pick), world.a_follower(pick))


@sync
def connect_async(world: FuzzWorld, pick: Pick) -> None:
    world.start(pick, "connect_async", world.a_socket(pick), world.a_follower(pick))


@sync
def receive_async(world: FuzzWorld, pick: Pick) -> None:
    world.start(pick, "receive_async", world.a_socket(pick), world.a_follower(pick), sends=False)


@sync
def accept_async(world: FuzzWorld, pick: Pick) -> None:
    world.start(pick, "accept_async", world.a_socket(pick), world.a_follower(pick), sends=False)


@sync
def disconnect_async(world: FuzzWorld, pick: Pick) -> None:
    world.start(pick, "disconnect_async", world.a_socket(pick), world.a_follower(pick), sends=False)


@sync
def cancel_connect_async(world: FuzzWorld, pick: Pick) -> None:
    args = pick.or_wrong(world.a_follower(pick).args)
    world.call("Socket.cancel_connect_async", pick, Socket.cancel_connect_async, args)


@sync
def resume(world: FuzzWorld, pick: Pick) -> None:
    watched, follower = world.a_socket(pick), world.a_follower(pick)
    torn = watched.socket.torn
    if torn is not None and pick.number(4):
        for each in world.followers:
            if each.args is torn.operation:
                follower = each
    world.start(pick, "resume", watched, follower, sends=False, resumes=True)


@sync
def cut(world: FuzzWorld, pick: Pick) -> None:
    """Cut a message, if everything is in place for it."""
    streams = [each for each in world.sockets if isinstance(each.port, ScriptedPort)]
    follower = world.a_follower(pick)
    if streams and not follower.args._operation.in_flight:
        watched = pick.of(streams)
        watched.port.add(1, Blocked())
        world.start(pick, "send_async", watched, follower)
        if pick.number(3):
            world.call("SocketAsyncEventArgs.cancel", pick, follower.args.cancel)


@sync
def cancel_args(world: FuzzWorld, pick: Pick) -> None:
    args = world.a_follower(pick).args
    activation = pick.of((None, None, args.activation, args.activation - 1))
    meant = activation in (None, args.activation) and args._operation.in_flight
    came = world.call(
        "SocketAsyncEventArgs.cancel", pick, args.cancel, "fuzzed", activation=activation
    )
    if came.unwrap() and not meant:
        world.wrong(f"{args} were stopped by a cancel that was not for them")


# -- begin and end -----------------------------------------------------------------------------------------------------


def sliced(data: bytes | None, offset: int, size: int | None) -> bytes | None:
    return data if data is None or (size is None and not offset) else data[offset:][:size]


@sync
def begin_send(world: FuzzWorld, pick: Pick) -> None:
    watched = world.a_socket(pick)
    method = pick.of(("begin_send", "try_begin_send"))
    if pick.number(4) == 3:
        buffers = [world.a_buffer(pick) for _ in range(pick.number(4))]
        world.begin(pick, method, watched, world.content(buffers), buffers)
        return
    buffer = world.a_buffer(pick)
    offset, size = world.a_range(pick) if pick.number(2) else (0, None)
    flags = pick.or_wrong(world.flags(pick))
    data = sliced(world.content([buffer]), offset, size)
    world.begin(pick, method, watched, data, buffer, offset, size, flags)


@sync
def begin_send_to(world: FuzzWorld, pick: Pick) -> None:
    watched, buffer = world.a_socket(pick), world.a_buffer(pick)
    data = world.content([buffer])
    world.begin(pick, "begin_send_to", watched, data, buffer, remote_end_point=world.address(pick))


@sync
def begin_receive(world: FuzzWorld, pick: Pick) -> None:
    buffer = bytearray(pick.of((10, 0, 1000)))
    buffers = pick.of((buffer, [buffer, bytearray(5)], b"read-only", []))
    world.begin(
        pick,
        "begin_receive",
        world.a_socket(pick),
        None,
        buffers,
        socket_flags=world.flags(pick),
        sends=False,
    )


@sync
def begin_connect(world: FuzzWorld, pick: Pick) -> None:
    world.begin(pick, "begin_connect", world.a_socket(pick), None, world.address(pick), sends=False)


@sync
def begin_accept(world: FuzzWorld, pick: Pick) -> None:
    world.begin(pick, "begin_accept", world.a_socket(pick), None, sends=False)


KINDS = ("send", "send", "receive", "connect", "accept", "send_to")


def a_result(world: FuzzWorld, pick: Pick) -> tuple[Socket, Any, str]:
    """A result, the socket it came from, and the kind that it is of; or something that does not fit."""
    if not world.results:
        return world.a_socket(pick).socket, pick.or_wrong(None), pick.of(KINDS)
    result: Any = pick.of(world.results)
    if pick.number(4):
        return origin_of(result), result, kind_of(result).name.lower()
    return world.a_socket(pick).socket, pick.or_wrong(result), pick.of(KINDS)


@sync
def end_nowait(world: FuzzWorld, pick: Pick) -> None:
    socket, result, kind = a_result(world, pick)
    method = f"end_{kind}_nowait"
    if kind == "send" and pick.number(2):
        method = f"try_{method}"
    came = world.call(f"Socket.{method}", pick, getattr(socket, method), result)
    if isinstance(came, outcome.Value):
        world.take(result)
    if kind == "accept" and isinstance(came, outcome.Value):
        came.value.close()


@sync
def cancel_result(world: FuzzWorld, pick: Pick) -> None:
    if world.results:
        world.call("AsyncResult.cancel", pick, pick.of(world.results).cancel)


@sync
def read_result(world: FuzzWorld, pick: Pick) -> None:
    if world.results:
        result = pick.of(world.results)
        for name in ("async_state", "async_wait_handle", "outcome", "is_completed"):
            world.call(f"AsyncResult.{name}", pick, getattr, result, name)
        world.call(
            "AsyncResult.remaining", pick, lambda: [view.nbytes for view in result.remaining]
        )
        repr(result)
