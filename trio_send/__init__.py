"""Sends on Trio as operations: counted exactly, in order, completed once, and owned by who started them.

.NET's asynchronous socket send model (``Socket.BeginSend``/``EndSend`` and ``Socket.SendAsync``) on structured
concurrency. The rooms import downward only: codes, exceptions and buffers; port and operation; queue, engine and
dispatcher; initiator; operation objects; socket; and what stands on it.
"""

from __future__ import annotations

from . import abc as abc, from_thread as from_thread
from ._base.checks import fixup_module_metadata
from ._base.codes import (
    SocketAsyncOperation as SocketAsyncOperation,
    SocketError as SocketError,
    SocketFlags as SocketFlags,
    SocketShutdown as SocketShutdown,
)
from ._base.errors import (
    InvalidOperationError as InvalidOperationError,
    ObjectDisposedError as ObjectDisposedError,
    OperationInProgressError as OperationInProgressError,
    SocketException as SocketException,
)
from ._base.statistics import (
    InitiatorStatistics as InitiatorStatistics,
    SocketStatistics as SocketStatistics,
)
from ._base.wait_handle import ManualResetEvent as ManualResetEvent, WaitHandle as WaitHandle
from ._kernel.received_message import IPPacketInformation as IPPacketInformation
from ._messages.packet_element import (
    SendPacketsElement as SendPacketsElement,
    TransmitFileOptions as TransmitFileOptions,
)
from ._owners.exit_policy import ExitPolicy as ExitPolicy
from ._owners.initiator import Initiator as Initiator
from ._owners.scope import current_initiator as current_initiator, open_initiator as open_initiator
from ._socket.accelerate import accelerate
from ._socket.async_result import AsyncResult as AsyncResult
from ._socket.audit import Audit as Audit
from ._socket.broadcast import BroadcastReport as BroadcastReport, broadcast as broadcast
from ._socket.completed_event import CompletedEvent as CompletedEvent
from ._socket.connect_by_name import connect_tcp as connect_tcp, connect_unix as connect_unix
from ._socket.event_args import SocketAsyncEventArgs as SocketAsyncEventArgs
from ._socket.listeners import (
    SocketListener as SocketListener,
    open_tcp_listeners as open_tcp_listeners,
    open_unix_listener as open_unix_listener,
    serve_tcp as serve_tcp,
)
from ._socket.pool import (
    BufferManager as BufferManager,
    SocketAsyncEventArgsPool as SocketAsyncEventArgsPool,
)
from ._socket.receive_from import ReceivedFrom as ReceivedFrom
from ._socket.receive_message_from import ReceivedMessageFrom as ReceivedMessageFrom
from ._socket.receiver import Receiver as Receiver
from ._socket.send_datagrams import DatagramBatch as DatagramBatch
from ._socket.send_report import SendReport as SendReport
from ._socket.socket import Socket as Socket, socketpair as socketpair
from ._socket.static_connect import connect_async as connect_async
from ._socket.torn_message import TornMessage as TornMessage
from ._tracing.chrome_trace import ChromeTrace as ChromeTrace
from ._tracing.counting_instrument import (
    Counters as Counters,
    CountingInstrument as CountingInstrument,
)
from ._tracing.instrument import TracedOperation as TracedOperation
from ._tracing.instruments import (
    add_instrument as add_instrument,
    remove_instrument as remove_instrument,
)
from ._tracing.logging_instrument import LoggingInstrument as LoggingInstrument
from ._version import __version__ as __version__

#: Whether the short ways of sending are compiled; see `docs/performance.rst`.
__accelerated__: bool = accelerate()

# What is abstract first, because what inherits from it keeps its names.
fixup_module_metadata(abc.__name__, vars(abc))
fixup_module_metadata(__name__, globals())
fixup_module_metadata(from_thread.__name__, vars(from_thread))
del accelerate, fixup_module_metadata
