"""A producer that is faster than its peer: with pauses, the queue does not grow."""

import trio

import trio_send
from trio_send import Socket

PIECE = bytes(10_000)
PIECES = 500


async def read(peer: Socket) -> int:
    """Read slowly, and return how many bytes came."""
    count = 0
    while data := await peer.receive(50_000):
        count += len(data)
        await trio.lowlevel.checkpoint()  # let the producer come in between
    return count


async def produce(sender: Socket, *, pause: bool) -> int:
    """Start all sends; return how many bytes waited at most."""
    most = 0
    for _ in range(PIECES):
        sender.begin_send(PIECE)
        most = max(most, sender.queued_bytes)
        if pause:
            await sender.wait_below_low_water()
    return most


async def attempt(*, pause: bool) -> None:
    sender, peer = trio_send.socketpair()
    sender.high_water, sender.low_water = 100_000, 25_000
    read_bytes = 0

    async def reading() -> None:
        nonlocal read_bytes
        read_bytes = await read(peer)

    async with peer, trio.open_nursery() as nursery:
        nursery.start_soon(reading)
        async with trio_send.open_initiator(trio_send.ExitPolicy.JOIN):
            most = await produce(sender, pause=pause)
        await sender.aclose()

    print("with a pause:" if pause else "without a pause:")
    print("  more than a million bytes waited:", most > 1_000_000)
    print("  never more than the mark and one piece:", most <= 100_000 + len(PIECE))
    print("  all was read:", read_bytes == PIECES * len(PIECE))


async def main() -> None:
    await attempt(pause=False)
    await attempt(pause=True)


if __name__ == "__main__":
    trio.run(main)
