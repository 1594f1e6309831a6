"""What the daemon asks of the embedded services beyond their APIs: what no single call tells.

Each inspection takes parameters and gives a document, both as JSON can carry them. moto is imported when it is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

Inspection = Callable[[Mapping[str, Any]], Any]


def _sns_subscriptions(parameters: Mapping[str, Any]) -> Any:
    """Of the topic `topic_arn`: its attributes and its subscriptions; None when there is no such topic."""
    from lambdad_neighbours import topics

    return topics.described(parameters["topic_arn"])


INSPECTIONS: Final[Mapping[str, Inspection]] = {"sns-subscriptions": _sns_subscriptions}
"""By the name that `Backends.inspect` takes."""
