"""Pictures of what happened to the operations of a run."""

from __future__ import annotations

from .._base.checks import fixup_module_metadata
from ._chrome import to_chrome as to_chrome
from ._html import to_html as to_html
from ._recorder import Recorder as Recorder
from ._svg import to_svg as to_svg
from ._text import to_text as to_text
from ._trace import (
    Event as Event,
    Trace as Trace,
    TracedActivation as TracedActivation,
    TracedInitiator as TracedInitiator,
)

fixup_module_metadata(__name__, globals())
del fixup_module_metadata
