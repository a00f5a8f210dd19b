"""OpenTelemetry: spans and metrics of the operations of all sockets; needs the extra ``otel``.

The extra brings the API of OpenTelemetry alone. Without a SDK, which the application chooses and sets up, all of this
does nothing.
"""

from __future__ import annotations

from ._base.checks import fixup_module_metadata
from ._tracing.open_telemetry import OpenTelemetryInstrument as OpenTelemetryInstrument

fixup_module_metadata(__name__, globals())
del fixup_module_metadata
