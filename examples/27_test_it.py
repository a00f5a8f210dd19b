"""Test without a network and without waiting: a scripted port, and a clock that jumps."""

import trio
import trio.testing

import trio_send
from trio_send import Socket
from trio_send.testing import Blocked, ScriptedPort

# The program
# --------------------------------------------------------------------------------


async def send_patiently(
    socket: Socket, message: bytes, patience: float, tries: int
) -> bool:
    """Send a message; say that it is late each time when some seconds have passed."""
    for _ in range(tries):
        with trio.move_on_after(patience):
            await (socket.send_rest() if socket.torn else socket.send(message))
            return True
        print("  still not sent at", trio.current_time(), "s")
    return False


# Its tests
# ----------------------------------------------------------------------------------


async def test_a_peer_that_wakes_up() -> None:
    port = ScriptedPort([4, Blocked(25)])  # takes 4 bytes, then nothing for 25 seconds
    async with Socket.from_port(port) as socket:
        assert await send_patiently(socket, b"0123456789", patience=10, tries=5)
        # Each byte once, though it was given up twice.
        assert port.accepted == b"0123456789"
        assert trio.current_time() == 25


async def test_a_peer_that_does_not() -> None:
    port = ScriptedPort([4, Blocked()])
    async with Socket.from_port(port) as socket:
        assert not await send_patiently(socket, b"0123456789", patience=10, tries=2)
        assert port.accepted == b"0123"
        assert socket.torn is not None


async def test_a_connection_that_breaks() -> None:
    port, accepted = ScriptedPort([4, "ECONNRESET"]), None
    async with Socket.from_port(port) as socket:
        try:
            await send_patiently(socket, b"0123456789", patience=10, tries=2)
        except trio_send.SocketException as error:
            print("  " + str(error))
            accepted = error.bytes_transferred
    assert accepted == 4


if __name__ == "__main__":
    for test in (
        test_a_peer_that_wakes_up,
        test_a_peer_that_does_not,
        test_a_connection_that_breaks,
    ):
        print(test.__name__)
        trio.run(test, clock=trio.testing.MockClock(autojump_threshold=0))
