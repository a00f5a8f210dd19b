"""A peer that is slow may take its time, and one that has stopped is given up."""

import trio

import trio_send
from trio_send import Socket, SocketAsyncEventArgs

MESSAGE = bytes(2_000_000)


async def read_slowly(peer: Socket) -> None:
    """Read a little each time, so that it takes longer than a second in all."""
    count = 0
    while count < len(MESSAGE):
        count += len(await peer.receive(30_000))
        await trio.sleep(0.02)


async def read_once_and_stop(peer: Socket) -> None:
    await peer.receive(30_000)
    await trio.sleep_forever()


async def send_to_a_slow_one() -> None:
    sender, peer = trio_send.socketpair()
    async with peer, trio.open_nursery() as nursery:
        nursery.start_soon(read_slowly, peer)
        await send("slow peer:   ", sender)
        await sender.aclose()


async def send_to_a_stopped_one() -> None:
    sender, peer = trio_send.socketpair()
    async with peer, trio.open_nursery() as nursery:
        nursery.start_soon(read_once_and_stop, peer)
        await send("stopped peer:", sender)
        sender.close()
        nursery.cancel_scope.cancel()


async def send(name: str, sender: Socket) -> None:
    """Send, and give up when a second has passed without one more byte accepted."""
    args = SocketAsyncEventArgs(MESSAGE)
    args.stall_timeout = 1
    start = trio.current_time()
    try:
        await sender.send(args)
    except trio_send.SocketException as error:
        print(name, error.socket_error_code.name)
    else:
        print(name, "sent; longer than a second:", trio.current_time() - start > 1)


async def main() -> None:
    await send_to_a_slow_one()
    await send_to_a_stopped_one()


if __name__ == "__main__":
    trio.run(main)
