"""The answer of `send_async`: False, it is done; True, an event comes later."""

import trio

import trio_send
from trio_send import Socket, SocketAsyncEventArgs


def on_completed(socket: Socket, args: SocketAsyncEventArgs) -> None:
    """Take the result of a send that was pending."""
    print("  the event was raised:", args.user_token, args.bytes_transferred, "bytes")


async def read(peer: Socket, count: int) -> None:
    await trio_send.Receiver(peer).receive_exactly(count)


async def main() -> None:
    sender, peer = trio_send.socketpair()
    async with sender, peer, trio_send.open_initiator():
        for name, message in (("small", bytes(10)), ("large", bytes(1_000_000))):
            args = SocketAsyncEventArgs(message, user_token=name)
            args.completed += on_completed

            print(f"{name}: start")
            if sender.send_async(args):
                print("  True: it is pending, and its event will be raised")
            else:
                count = args.bytes_transferred
                print("  False: done, without an event:", count, "bytes")
            print(f"{name}: started")

            await read(peer, len(message))
            await args.wait()


if __name__ == "__main__":
    trio.run(main)
