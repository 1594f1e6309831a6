"""NextToken: where the next page begins, as text that says nothing to the caller."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence

from lambdad.domain.errors import ValidationException


def token_after(*names: str) -> str:
    """The token of the page that follows these names."""
    return base64.urlsafe_b64encode(json.dumps(names).encode()).decode("ascii")


def place_of(token: str | None, names: int) -> Sequence[str]:
    """The names after which to go on, empty for the first page. Raises ValidationException."""
    if token is None:
        return [""] * names
    try:
        place = json.loads(base64.b64decode(token, altchars=b"-_", validate=True))
    except (ValueError, RecursionError):
        place = None
    if not isinstance(place, list) or len(place) != names or not all(isinstance(name, str) for name in place):
        raise ValidationException("Invalid NextToken.")
    return place
