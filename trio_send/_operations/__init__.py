"""One operation, and the queue that it waits in. A state of an operation changes here and nowhere else.

The folders above start operations through a queue, stop them through it, and read an operation's results.
"""
