"""The first half of the demonstration: one file through each of the three faces."""

from __future__ import annotations

import hashlib

from ..failures import Failure
from ..output import say, say_paragraph, say_table
from ..transfer.faces import FACES
from ..transfer.source import open_source
from ..transfer.transmission import Transmission
from ..values import show_bytes, show_size
from .embedded import slow_connection

#: Large files are cut into some hundred operations, small ones into operations that often fit into the kernel's small
#: buffers at once, and often do not.
OPERATIONS = 512
SMALLEST_CHUNK = 8 * 1024
LARGEST_CHUNK = 1024 * 1024
IN_FLIGHT = 2

#: How many seconds each of the transfers is to take, if the file is not too large for that.
SECONDS = 0.8
SLOWEST = 64 * 1024

_PIECE_SIZE = 1024 * 1024


async def _measure(path: str) -> tuple[int, str]:
    """Return the size and the SHA-256 of a file, found without the code that is to be checked."""
    size = 0
    digest = hashlib.sha256()
    buffer = bytearray(_PIECE_SIZE)
    async with open_source(path) as source:
        while count := await source.read_into(buffer):
            size += count
            with memoryview(buffer) as view, view[:count] as piece:
                digest.update(piece)
    return size, digest.hexdigest()


async def show_three_faces(path: str, name: str) -> bool:
    """Send a file through each face to a slow reader, and show how it went.

    Args:
      path: the file.
      name: what to call it.

    Returns:
      Whether all counts and hashes agree.
    """
    size, digest = await _measure(path)
    chunk_size = min(max(size // OPERATIONS, SMALLEST_CHUNK), LARGEST_CHUNK)
    rate = max(round(size / SECONDS), SLOWEST)
    say_paragraph(
        f"1. One file, three faces. {name}, {show_bytes(size)}, goes over TCP to a sink that reads no faster than "
        f"{show_size(rate)}/s through small buffers. It is cut into operations of {show_size(chunk_size)}, of which "
        f"{IN_FLIGHT} are under way at once. An operation for which the kernel has room is finished when the call that "
        "starts it returns. The others are pending, and are finished bit by bit while the sink reads."
    )
    say()
    rows = []
    agreed = True
    for face, strategy in FACES.items():
        async with slow_connection(rate) as (socket, reception), open_source(path) as source:
            transmission = Transmission(
                socket,
                source,
                strategy,
                chunk_size=chunk_size,
                in_flight=IN_FLIGHT,
                label=face,
            )
            await transmission.run()
        transfer = transmission.transfer
        if transfer.stop_reason is not None:
            raise Failure(f"the transfer with the face {face} was stopped: {transfer.stop_reason}")
        agrees = (
            transfer.accepted == reception.count == size
            and transfer.digest() == reception.digest() == digest
            and reception.ended
        )
        agreed = agreed and agrees
        rows.append(
            [
                face,
                str(transfer.accepted),
                str(transfer.on_the_spot),
                str(transfer.pending),
                f"{transfer.seconds:.1f} s",
                str(reception.count),
                f"{reception.digest()[:16]}...",
                "yes" if agrees else "NO",
            ]
        )
    say_table(
        [
            "face",
            "accepted",
            "on the spot",
            "pending",
            "time",
            "received",
            "SHA-256",
            "as the file",
        ],
        rows,
    )
    say()
    say_paragraph(
        "Accepted is what the kernel took from the sender, received what the sink read, and the SHA-256 is of that."
    )
    return agreed
