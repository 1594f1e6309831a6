"""The EventBridge API: each operation is a function named after it. Those that are not here are declared unsupported.

https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_Operations.html
"""

from __future__ import annotations

from lambdad.ingress.events_api import patterns
from lambdad.ingress.operations import Handler


def operations() -> dict[str, Handler]:
    """The implemented operations of the EventBridge API by AWS's names."""
    return {"TestEventPattern": patterns.test_event_pattern}
