"""Operations for threads that do not run Trio: started without waiting, waited for by blocking.

The names are those of `Socket`, as `trio.from_thread` has the names of `trio`; the socket comes first. Sends have
functions of their own here. Everything else that a socket can start goes through `start` and `end`.

**Nobody waits to start.** A start looks at what can be seen from any thread, posts the send to the Trio side, and
answers "pending". It does not wait for the first attempt. A start that waited for the Trio thread's answer would be a
trap. Threaded code holds locks while it starts a send. Its callbacks want the same locks, and they run in the Trio
thread. So the two would wait for each other for ever. It would also be late whenever the Trio thread is busy. What a
post costs, and what a wait would, is in ``docs/explanations/threads.rst``.

So there are two times at which a mistake or an error is told. At once: wrong arguments, wrong thread or run, args in
use, a closed socket, and what the socket knows already: that it was never connected, is torn or broken, or that the
owner or its host is leaving. In the end: what the kernel says to the attempt, such as a message too long for a
datagram, and what became of the socket while the start was on its way. .NET tells of errors at these two times, too
(F055).

All posts of all threads go through one queue in the order in which they came. So starts of one thread keep their order,
and a stop that follows a start finds it.
"""

from __future__ import annotations

from ._owners.initiator import ThreadInitiator as ThreadInitiator
from ._threads.any_start import start as start
from ._threads.scope import initiator as initiator
from ._threads.starts import (
    begin_send as begin_send,
    cancel as cancel,
    send_async as send_async,
    try_begin_send as try_begin_send,
)
from ._threads.waits import end as end, end_send as end_send, wait_one as wait_one
