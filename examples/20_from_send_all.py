"""A cancelled `send_all`: with a stream of Trio's, and with one of this library."""

import trio

import trio_send

MESSAGE = b"m" * 1_000_000
NEXT = b"next"


async def read_all(peer: trio_send.Socket, received: bytearray) -> None:
    while data := await peer.receive():
        received += data


async def before() -> None:
    """Show what Trio's own stream does."""
    left, right = trio.socket.socketpair()
    stream, received = trio.SocketStream(left), bytearray()
    with trio.move_on_after(0.1):
        await stream.send_all(MESSAGE)  # nobody reads yet
    # How much went out? Nobody knows, and nothing stops us from sending on.
    peer = trio_send.Socket.from_trio(right)
    async with peer, trio.open_nursery() as nursery:
        nursery.start_soon(read_all, peer, received)
        await stream.send_all(NEXT)
        await stream.aclose()
    print("before: the peer has read a part, and the next message behind it:")
    print("  ", 0 < received.count(b"m") < len(MESSAGE), received.endswith(b"mnext"))


async def after() -> None:
    """Show the same program with a stream of this library."""
    socket, peer = trio_send.socketpair()
    stream, received = socket.as_stream(), bytearray()
    with trio.move_on_after(0.1):
        await stream.send_all(MESSAGE)

    report = stream.last_send
    assert report is not None
    rest = sum(view.nbytes for view in report.remaining)
    print("after: accepted and rest are the message:")
    print("  ", report.bytes_transferred + rest == len(MESSAGE))
    try:
        await stream.send_all(NEXT)
    except trio.BrokenResourceError as error:
        print("after: the next message is refused:")
        # In front stands how much was accepted.
        print("  ", str(error).partition("; ")[2])

    async with peer, trio.open_nursery() as nursery:
        nursery.start_soon(read_all, peer, received)
        await socket.send_rest()
        await stream.send_all(NEXT)
        await socket.aclose()
    print("after: the peer has read both, each whole:")
    print("  ", bytes(received) == MESSAGE + NEXT)


async def main() -> None:
    await before()
    await after()


if __name__ == "__main__":
    trio.run(main)
