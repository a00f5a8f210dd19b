"""What it takes to test code that uses trio_send, and trio_send itself; needs no test framework."""

from __future__ import annotations

from .._base.checks import fixup_module_metadata
from ._cancel_everywhere import (
    ExplorationError as ExplorationError,
    cancel_everywhere as cancel_everywhere,
)
from ._case import Case as Case
from ._check_port import check_port as check_port
from ._check_sender import check_sender as check_sender
from ._comparison import (
    Compared as Compared,
    Comparison as Comparison,
    Share as Share,
    compare as compare,
)
from ._contract import ContractError as ContractError
from ._explore import Replay as Replay, explore as explore, replay as replay, shrink as shrink
from ._findings import Finding as Finding
from ._ledger import Ledger as Ledger
from ._places import Place as Place
from ._random_world import random_world as random_world
from ._read_slowly import read_slowly as read_slowly
from ._record import Sent as Sent
from ._recorded import Recorded as Recorded, record as record
from ._report import PlaceCount as PlaceCount, Report as Report
from ._scripted_port import Blocked as Blocked, ScriptedPort as ScriptedPort
from ._tape import Decision as Decision
from ._world import World as World
from ._worlds import small_world as small_world, smallest_world as smallest_world

fixup_module_metadata(__name__, globals())
del fixup_module_metadata
