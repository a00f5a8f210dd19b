"""Abstract classes: what an implementation of your own has to offer."""

from __future__ import annotations

from ._instruments import Instrument as Instrument
from ._port import Port as Port
