"""Actions on what there is: sockets, args, scopes, instruments and flags are made, set, asked and closed."""

from __future__ import annotations

import math
import socket as stdlib_socket
from typing import Any

import outcome
import trio

import trio_send
from tests.fuzz_toolbox import FuzzWorld, sync
from tests.fuzz_world import Pick, elements_of
from trio_send import ExitPolicy, SocketAsyncEventArgs, SocketShutdown, open_initiator
from trio_send.testing import Blocked, ScriptedPort

# -- sockets and peers -------------------------------------------------------------------------------------------------


LINES = (
    3,
    Blocked(1),
    0,
    1,
    100,
    Blocked(),
    "ENOBUFS",
    "EACCES",
    "ECONNRESET",
    "EPIPE",
    "EMSGSIZE",
)


@sync
def make_socket(world: FuzzWorld, pick: Pick) -> None:
    world.add_socket(pick.number(256), [pick.of(LINES) for _ in range(pick.number(5))])


@sync
def extend_script(world: FuzzWorld, pick: Pick) -> None:
    port = world.a_socket(pick).port
    if isinstance(port, ScriptedPort):
        port.add(*(pick.of(LINES) for _ in range(3)))


@sync
def unblock(world: FuzzWorld, pick: Pick) -> None:
    port = world.a_socket(pick).port
    if isinstance(port, ScriptedPort):
        port.unblock()


@sync
def peer_reads(world: FuzzWorld, pick: Pick) -> None:
    peer = world.a_socket(pick).peer
    if peer is not None:
        try:
            while peer.recv(65536) and pick.number(2):
                pass
        except OSError:
            pass


@sync
def peer_writes(world: FuzzWorld, pick: Pick) -> None:
    watched = world.a_socket(pick)
    if watched.peer is not None:
        try:
            watched.peer.sendto(b"hello", watched.socket.local_end_point)
        except (OSError, trio.ClosedResourceError):
            pass


@sync
def peer_closes(world: FuzzWorld, pick: Pick) -> None:
    peer = world.a_socket(pick).peer
    if peer is not None:
        peer.close()


@sync
def bind(world: FuzzWorld, pick: Pick) -> None:
    address = pick.of((("127.0.0.1", 0), ("127.0.0.1", 0), world.address(pick), ("localhost", 0)))
    pick.wrong_type = True
    world.call("Socket.bind", pick, world.a_socket(pick).socket.bind, address)


@sync
def listen(world: FuzzWorld, pick: Pick) -> None:
    socket = world.a_socket(pick).socket
    world.call("Socket.listen", pick, socket.listen, pick.or_wrong(pick.of((1, 0, 100))))


@sync
def shutdown(world: FuzzWorld, pick: Pick) -> None:
    socket = world.a_socket(pick).socket
    how = pick.or_wrong(pick.of((*SocketShutdown, 0, 7)))
    if pick.number(2):
        world.call("Socket.shutdown", pick, socket.shutdown, how)


@sync
def close(world: FuzzWorld, pick: Pick) -> None:
    socket = world.a_socket(pick).socket
    if pick.number(3) == 0:
        world.call("Socket.close", pick, socket.close, reset=pick.of((None, True, False)))


@sync
def forget_torn(world: FuzzWorld, pick: Pick) -> None:
    world.call("Socket.forget_torn", pick, world.a_socket(pick).socket.forget_torn)


#: What may be set while the args are in use.
ANY_TIME = ("socket_flags", "remote_end_point")


def assign(world: FuzzWorld, pick: Pick, thing: Any, name: str, value: Any) -> None:
    if isinstance(thing, SocketAsyncEventArgs) and name not in ANY_TIME:
        world.configure(pick, f"SocketAsyncEventArgs.{name} =", thing, value)
        return
    kind = SocketAsyncEventArgs if isinstance(thing, SocketAsyncEventArgs) else type(thing)
    world.call(f"{kind.__name__}.{name} =", pick, setattr, thing, name, value)


@sync
def set_water(world: FuzzWorld, pick: Pick) -> None:
    name = pick.of(("high_water", "low_water"))
    assign(
        world, pick, world.a_socket(pick).socket, name, pick.or_wrong(pick.of((10, 0, 70000, -1)))
    )


@sync
def set_when_full(world: FuzzWorld, pick: Pick) -> None:
    ways = ("queue", "queue", "refuse", "wait")
    assign(world, pick, world.a_socket(pick).socket, "when_full", pick.or_wrong(pick.of(ways)))


@sync
def options(world: FuzzWorld, pick: Pick) -> None:
    socket = world.a_socket(pick).socket
    level = stdlib_socket.SOL_SOCKET
    option = pick.of((stdlib_socket.SO_SNDBUF, stdlib_socket.SO_ERROR, 9999))
    if pick.number(2):
        value = pick.or_wrong(pick.of((1, 5000)))
        world.call("Socket.setsockopt", pick, socket.setsockopt, level, option, value)
    else:
        world.call("Socket.getsockopt", pick, socket.getsockopt, level, option, pick.of((None, 4)))


@sync
def read_socket(world: FuzzWorld, pick: Pick) -> None:
    socket = world.a_socket(pick).socket
    for name in ("local_end_point", "remote_end_point", "family", "type", "connected", "torn"):
        world.call(f"Socket.{name}", pick, getattr, socket, name)
    world.call("Socket.audit", pick, socket.audit)
    world.call("Socket.statistics", pick, socket.statistics)
    torn = socket.torn
    if torn is not None:
        for name in ("operation", "bytes_transferred", "size", "reason"):
            world.call(f"TornMessage.{name}", pick, getattr, torn, name)
        world.call(
            "TornMessage.remaining", pick, lambda: sum(view.nbytes for view in torn.remaining)
        )
    repr(socket)
    repr(torn)


@sync
def as_stream(world: FuzzWorld, pick: Pick) -> None:
    socket = world.a_socket(pick).socket
    came = world.call("Socket.as_stream", pick, socket.as_stream, shared=pick.of((False, True)))
    if isinstance(came, outcome.Value):
        world.streams.append((came.value, next(w for w in world.sockets if w.socket is socket)))


# -- args --------------------------------------------------------------------------------------------------------------


@sync
def make_args(world: FuzzWorld, pick: Pick) -> None:
    world.add_args(pick, world.handler(pick))


@sync
def set_buffer(world: FuzzWorld, pick: Pick) -> None:
    args = world.a_follower(pick).args
    buffer = world.a_buffer(pick)
    world.configure(pick, "SocketAsyncEventArgs.set_buffer", args, buffer, *world.a_range(pick))


@sync
def set_range(world: FuzzWorld, pick: Pick) -> None:
    args = world.a_follower(pick).args
    world.configure(pick, "SocketAsyncEventArgs.set_range", args, *world.a_range(pick))


@sync
def set_buffer_list(world: FuzzWorld, pick: Pick) -> None:
    args = world.a_follower(pick).args
    if args.buffer is not None and pick.number(3):
        world.call("SocketAsyncEventArgs.set_buffer", pick, args.set_buffer, None)
    many = [world.a_buffer(pick) for _ in range(pick.number(4))] * pick.of((1, 1, 1, 1, 300))
    assign(world, pick, args, "buffer_list", pick.of((many, many, tuple(many), None)))


@sync
def set_elements(world: FuzzWorld, pick: Pick) -> None:
    elements: Any = elements_of(world, pick)
    args = world.a_follower(pick).args
    assign(
        world,
        pick,
        args,
        "send_packets_elements",
        pick.of((elements, elements, elements, None, pick.or_wrong(elements))),
    )


@sync
def set_flags(world: FuzzWorld, pick: Pick) -> None:
    args = world.a_follower(pick).args
    assign(world, pick, args, "socket_flags", pick.or_wrong(world.flags(pick)))


@sync
def set_address(world: FuzzWorld, pick: Pick) -> None:
    assign(world, pick, world.a_follower(pick).args, "remote_end_point", world.address(pick))


@sync
def set_timeouts(world: FuzzWorld, pick: Pick) -> None:
    name = pick.of(("timeout", "stall_timeout"))
    seconds = pick.of((math.inf, 1, 0, 3, -1, math.nan))
    assign(world, pick, world.a_follower(pick).args, name, pick.or_wrong(seconds))


@sync
def clear_sockets(world: FuzzWorld, pick: Pick) -> None:
    args = world.a_follower(pick).args
    if args.accept_socket is not None:
        world.call("Socket.close", pick, args.accept_socket.close)
        args.accept_socket = None
    args.disconnect_reuse_socket = pick.number(2) == 1


@sync
def close_args(world: FuzzWorld, pick: Pick) -> None:
    follower = world.a_follower(pick)
    if pick.number(3) == 0:
        world.call("SocketAsyncEventArgs.close", pick, follower.args.close)


@sync
def read_args(world: FuzzWorld, pick: Pick) -> None:
    args = world.a_follower(pick).args
    world.call(
        "SocketAsyncEventArgs.remaining", pick, lambda: [view.nbytes for view in args.remaining]
    )
    world.call("SocketAsyncEventArgs.remaining_elements", pick, lambda: args.remaining_elements)
    for name in ("outcome", "connect_by_name_error", "pending", "socket_error"):
        world.call(f"SocketAsyncEventArgs.{name}", pick, getattr, args, name)
    repr(args)


@sync
def pool(world: FuzzWorld, pick: Pick) -> None:
    args = world.a_follower(pick).args
    which = pick.number(4)
    if which == 0:
        world.configure(pick, "SocketAsyncEventArgsPool.push", args, args)
    elif which == 1:
        world.call("SocketAsyncEventArgsPool.pop", pick, world.pool.pop)
    elif which == 2:
        world.configure(pick, "BufferManager.set_buffer", args, args)
        world.volatile.add(id(args.buffer))
    else:
        world.call(
            "BufferManager.free_buffer", pick, world.manager.free_buffer, pick.or_wrong(args)
        )


# -- scopes, instruments and flags -------------------------------------------------------------------------------------


@sync
def watch(world: FuzzWorld, pick: Pick) -> None:
    instrument = pick.or_wrong(pick.of(world.instruments))
    world.call("add_instrument", pick, trio_send.add_instrument, instrument)


@sync
def unwatch(world: FuzzWorld, pick: Pick) -> None:
    world.call("remove_instrument", pick, trio_send.remove_instrument, pick.of(world.instruments))


@sync
def look_at_initiators(world: FuzzWorld, pick: Pick) -> None:
    world.call("current_initiator", pick, trio_send.current_initiator)
    policy = pick.or_wrong(pick.of(tuple(ExitPolicy)))
    grace = pick.of((None, 1, -1, math.inf, math.nan))
    world.call("open_initiator", pick, open_initiator, policy, grace=grace)
    for initiator in world.initiators:
        initiator.statistics()
        repr(initiator)


@sync
def cancel_initiator(world: FuzzWorld, pick: Pick) -> None:
    if world.initiators and pick.number(2):
        pick.of(world.initiators).cancel_scope.cancel()


@sync
def cancel_scope(world: FuzzWorld, pick: Pick) -> None:
    if world.scopes:
        pick.of(world.scopes).cancel()


@sync
def flag(world: FuzzWorld, pick: Pick) -> None:
    if pick.number(2):
        world.event.set()
    else:
        world.event.reset()
