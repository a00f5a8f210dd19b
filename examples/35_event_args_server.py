"""The classic echo server of .NET, with `SocketAsyncEventArgs`, and three clients."""

from __future__ import annotations

import trio

import trio_send
from trio_send import Socket, SocketAsyncEventArgs, SocketAsyncOperation, SocketError


class EchoServer:
    def __init__(self, listener: Socket) -> None:
        self.listener = listener
        self.accept_args = SocketAsyncEventArgs()
        self.accept_args.completed += self.on_accepted

    def start_accept(self) -> None:
        while True:
            self.accept_args.accept_socket = None
            if self.listener.accept_async(self.accept_args):
                return
            if not self.process_accept(self.accept_args):
                return

    def on_accepted(self, listener: Socket, e: SocketAsyncEventArgs) -> None:
        if self.process_accept(e):
            self.start_accept()

    def process_accept(self, e: SocketAsyncEventArgs) -> bool:
        if e.socket_error is not SocketError.SUCCESS:
            return e.socket_error is not SocketError.OPERATION_ABORTED
        client = SocketAsyncEventArgs(user_token=e.accept_socket)
        client.set_buffer(bytearray(4096), 0, 4096)
        client.completed += self.on_completed
        if not self.start_receive(client):
            self.on_completed(client.user_token, client)
        return True

    def start_receive(self, e: SocketAsyncEventArgs) -> bool:
        e.set_range(0, 4096)
        client: Socket = e.user_token
        return client.receive_async(e)

    def on_completed(self, socket: Socket, e: SocketAsyncEventArgs) -> None:
        while not self.process(e):
            pass

    def process(self, e: SocketAsyncEventArgs) -> bool:
        if e.last_operation is SocketAsyncOperation.RECEIVE:
            if e.socket_error is SocketError.SUCCESS and e.bytes_transferred > 0:
                e.set_range(0, e.bytes_transferred)
                client: Socket = e.user_token
                return client.send_async(e)
        elif e.socket_error is SocketError.SUCCESS:
            return self.start_receive(e)
        e.user_token.close()
        e.close()
        return True


async def main() -> None:
    async with Socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(100)
        async with trio_send.open_initiator() as initiator:
            EchoServer(listener).start_accept()
            host, port = listener.local_end_point
            for message in (b"one", b"two", b"three"):
                async with await trio_send.connect_tcp(host, port) as client:
                    await client.send(message)
                    print("echo:", await client.receive())
        print("pending when the initiator was left:", initiator.pending_operations)


if __name__ == "__main__":
    trio.run(main)
