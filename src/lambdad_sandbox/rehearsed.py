"""The function of a rehearsal: see `lambdad_sandbox.zygote.rehearse`."""

from __future__ import annotations

import json


def handler(event: object, context: object) -> str:
    """Return the event as text."""
    return json.dumps({"event": event})
