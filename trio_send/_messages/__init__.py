"""What is sent: buffers, datagrams, files and packets, each as pieces that an attempt hands to the kernel.

`SendPacketsElement` is public. The rest is for operations and the socket.
"""
