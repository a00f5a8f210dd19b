"""A message that was cut: what went out, what is left, and how to send the rest."""

import trio

import trio_send

MESSAGE = bytes(range(256)) * 4000  # 1,024,000 bytes
NEXT = b"the next message"


async def read_all(peer: trio_send.Socket, received: bytearray) -> None:
    """Read until the sender has finished."""
    while data := await peer.receive():
        received += data


async def main() -> None:
    sender, peer = trio_send.socketpair()

    with trio.move_on_after(0.1) as scope:  # nobody reads, so time runs out
        await sender.send(MESSAGE)
    print("given up:", scope.cancelled_caught)

    torn = sender.torn
    assert torn is not None
    accepted = torn.bytes_transferred
    rest = sum(view.nbytes for view in torn.remaining)
    print("some bytes were accepted, and some were not:", accepted > 0 and rest > 0)
    print("together they are the message:", accepted + rest == len(MESSAGE))

    try:
        await sender.send(NEXT)
    except trio_send.SocketException as error:
        print("the next message:", error)

    received = bytearray()
    async with peer, trio.open_nursery() as nursery:
        nursery.start_soon(read_all, peer, received)
        print("sent the rest, and no more:", await sender.send_rest() == rest)
        print("sent the next message:", await sender.send(NEXT), "bytes")
        await sender.aclose()
    print("the peer has read both, each whole:", bytes(received) == MESSAGE + NEXT)


if __name__ == "__main__":
    trio.run(main)
