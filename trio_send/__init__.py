"""Sends on Trio as operations: counted exactly, in order, completed once, and owned by who started them.

.NET's asynchronous socket send model (``Socket.BeginSend``/``EndSend`` and ``Socket.SendAsync``) on structured
concurrency. The rooms import downward only: codes, exceptions and buffers; port and operation; queue, engine and
dispatcher; initiator; operation objects; socket; and what stands on it.
"""

from __future__ import annotations

from . import abc as abc, from_thread as from_thread
from ._async_result import AsyncResult as AsyncResult
from ._audience import (
    add_instrument as add_instrument,
    remove_instrument as remove_instrument,
)
from ._audit import Audit as Audit
from ._codes import (
    SocketAsyncOperation as SocketAsyncOperation,
    SocketError as SocketError,
    SocketFlags as SocketFlags,
    SocketShutdown as SocketShutdown,
)
from ._completed_event import CompletedEvent as CompletedEvent
from ._counting_instrument import (
    Counters as Counters,
    CountingInstrument as CountingInstrument,
)
from ._event_args import SocketAsyncEventArgs as SocketAsyncEventArgs
from ._exceptions import (
    InvalidOperationError as InvalidOperationError,
    ObjectDisposedError as ObjectDisposedError,
    OperationInProgressError as OperationInProgressError,
    SocketException as SocketException,
)
from ._initiator import (
    Initiator as Initiator,
    current_initiator as current_initiator,
    open_initiator as open_initiator,
)
from ._instruments import TracedOperation as TracedOperation
from ._leaving import ExitPolicy as ExitPolicy
from ._logging_instrument import LoggingInstrument as LoggingInstrument
from ._packet_elements import SendPacketsElement as SendPacketsElement
from ._pool import (
    BufferManager as BufferManager,
    SocketAsyncEventArgsPool as SocketAsyncEventArgsPool,
)
from ._sending_datagrams import DatagramBatch as DatagramBatch
from ._socket import Socket as Socket, socketpair as socketpair
from ._statistics import (
    InitiatorStatistics as InitiatorStatistics,
    SocketStatistics as SocketStatistics,
)
from ._torn import TornMessage as TornMessage
from ._util import fixup_module_metadata
from ._version import __version__ as __version__
from ._wait_handle import ManualResetEvent as ManualResetEvent, WaitHandle as WaitHandle

fixup_module_metadata(__name__, globals())
fixup_module_metadata(abc.__name__, vars(abc))
fixup_module_metadata(from_thread.__name__, vars(from_thread))
del fixup_module_metadata
