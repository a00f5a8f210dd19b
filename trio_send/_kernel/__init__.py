"""What is asked of the system: the port, the epoll set, addresses, names, TCP's own totals.

`Port` is public through `trio_send.abc`. The rest is for the folders above.
"""
