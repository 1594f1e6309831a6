"""Event patterns."""

from __future__ import annotations

import json
from typing import Any, Final

from lambdad.domain.errors import ValidationException
from lambdad.domain.event_patterns import compile_pattern
from lambdad.ingress.operations import Call, Output, Params

# The reference names `resources` too; the service does not insist on it.
_MANDATORY: Final = frozenset({"id", "account", "source", "time", "region", "detail-type"})


async def test_event_pattern(call: Call, params: Params) -> Output:
    pattern = compile_pattern(params["EventPattern"])
    return {"Result": pattern.matches(_event(params["Event"]))}


def _event(text: str) -> dict[str, Any]:
    """The event in a JSON text. Raises ValidationException."""
    try:
        event = json.loads(text)
    except (ValueError, RecursionError):
        event = None
    if not isinstance(event, dict) or not event.keys() >= _MANDATORY:
        raise ValidationException("Parameter Event is not valid.")
    return event
