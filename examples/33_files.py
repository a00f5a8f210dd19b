"""A header and a file as one message. It is cut inside the file, and resumed."""

from __future__ import annotations

import tempfile
from pathlib import Path

import trio

import trio_send
from trio_send import SendPacketsElement, Socket, SocketAsyncEventArgs

CONTENT = bytes(range(256)) * 8000  # 2,048,000 bytes


async def read_all(peer: Socket, received: bytearray) -> None:
    while data := await peer.receive():
        received += data


async def send_all_of_it(sender: Socket, path: Path) -> None:
    """Send a whole file. It needs no initiator, and returns when all was accepted."""
    print("send_file:", await sender.send_file(path), "bytes")


async def send_with_a_header(
    sender: Socket, path: Path, header: bytes
) -> SocketAsyncEventArgs:
    """Send a header and a file as one message, and give up, because nobody reads."""
    args = SocketAsyncEventArgs()
    args.send_packets_elements = [SendPacketsElement(header), SendPacketsElement(path)]
    async with trio_send.open_initiator():
        sender.send_packets_async(args)
    print("header and file:", args.socket_error.name)
    [rest] = args.remaining_elements
    in_the_middle = 0 < rest.offset < len(CONTENT)
    print("left is a part of the file:", rest.file_path == path, in_the_middle)
    return args


async def main(path: Path) -> None:
    sender, peer = trio_send.socketpair()
    received = bytearray()
    header = b"%d\n" % len(CONTENT)

    args = await send_with_a_header(sender, path, header)
    async with peer, trio.open_nursery() as nursery:
        nursery.start_soon(read_all, peer, received)
        async with trio_send.open_initiator():
            if sender.resume(args):
                await args.wait()
        is_whole = args.bytes_transferred == len(header + CONTENT)
        print("resumed:", args.socket_error.name, is_whole)
        await send_all_of_it(sender, path)
        await sender.aclose()

    print("the peer has read it all:", bytes(received) == header + CONTENT + CONTENT)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        content = Path(folder, "content.bin")
        content.write_bytes(CONTENT)
        trio.run(main, content)
