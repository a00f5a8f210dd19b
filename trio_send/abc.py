"""Abstract classes: what an implementation of your own has to offer."""

from __future__ import annotations

from ._kernel.port import Port as Port
from ._tracing.instrument import Instrument as Instrument
