"""Send the same bytes through each of the three faces, and leave an initiator.

A slow reader on the other end makes sure that not everything fits into the kernel at
once.
"""

import trio

import trio_send
from trio_send import SocketAsyncEventArgs, SocketError


async def read_slowly(peer: trio_send.Socket, wanted: int) -> None:
    received = 0
    while received < wanted:
        received += len(await peer.receive(4096))
    print(f"the peer has read {received} bytes")


def on_completed(socket: trio_send.Socket, args: SocketAsyncEventArgs) -> None:
    print(f"Completed: {args.bytes_transferred} bytes")


async def main() -> None:
    message = bytes(300_000)
    sender, peer = trio_send.socketpair()

    async with trio_send.open_initiator(), trio.open_nursery() as nursery:
        nursery.start_soon(read_slowly, peer, 3 * len(message))

        # 1. Event args: a reusable operation. False means that it is done already and
        # nothing will be raised.
        args = SocketAsyncEventArgs(message)
        args.completed += on_completed
        if sender.send_async(args):
            print("event args: pending")
            await args.wait()

        # 2. Begin and end: a single-use result, and a callback that takes it.
        result = sender.begin_send(
            message, callback=lambda ar: print("callback:", ar.bytes_transferred)
        )
        print("begin and end:", await sender.end_send(result))

        # 3. Await: no initiator needed, the calling task owns the send.
        print("await:", await sender.send(message))

    # Now nobody reads, and the initiator is left while the send is pending: it ends,
    # and says how far it came.
    async with trio_send.open_initiator():
        assert sender.send_async(args)
    assert args.socket_error == SocketError.OPERATION_ABORTED
    accepted = args.bytes_transferred
    print("left with a send pending:", args.socket_error.name)

    # The message was cut, so the stream is torn: nothing can be written behind it by
    # mistake.
    try:
        await sender.send(b"the next message")
    except trio_send.SocketException as error:
        print("behind it:", error.socket_error_code.name)

    # Sending the rest makes it whole again. The peer never knows.
    async with trio.open_nursery() as nursery:
        nursery.start_soon(read_slowly, peer, len(message))
        rest = await sender.send_rest()
    assert accepted + rest == args.bytes_transferred == len(message)
    print("accepted then and now add up to", args.bytes_transferred)

    await sender.aclose()
    peer.close()


trio.run(main)
