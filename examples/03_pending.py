"""A peer that does not read: the send waits, and its count is always there."""

import trio

import trio_send
from trio_send import SocketAsyncEventArgs

LARGE = bytes(1_000_000)


def share(args: SocketAsyncEventArgs) -> str:
    """Say how much was accepted. The exact number depends on the kernel."""
    accepted, size = args.bytes_transferred, args.count
    return "all" if accepted == size else "a part" if accepted else "nothing"


async def read(peer: trio_send.Socket, count: int) -> bytes:
    """Read so many bytes, and return the last five of them."""
    return (await trio_send.Receiver(peer).receive_exactly(count))[-5:]


async def main() -> None:
    sender, peer = trio_send.socketpair()
    async with sender, peer, trio_send.open_initiator():
        small = SocketAsyncEventArgs(b"first")
        print("first: pending?", sender.send_async(small))
        print("first:", small.socket_error.name, share(small))

        large = SocketAsyncEventArgs(LARGE)
        print("large: pending?", sender.send_async(large))
        print("large:", large.socket_error.name, share(large))

        last = SocketAsyncEventArgs(b"later")
        print("later: pending?", sender.send_async(last))
        print("later:", last.socket_error.name, share(last))
        print("operations in the queue:", sender.queued_operations)

        print("now the peer reads, and finds at the end:", await read(peer, 1_000_010))

        await last.wait()
        print("large:", large.socket_error.name, share(large))
        print("later:", last.socket_error.name, share(last))
        print("operations in the queue:", sender.queued_operations)


if __name__ == "__main__":
    trio.run(main)
