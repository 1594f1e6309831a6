"""NextToken: where the next page of a list begins, as text that says nothing to the caller."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any


def token_of(place: Sequence[Any]) -> str:
    """The token of a place, of which JSON can carry the parts."""
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode("ascii")


def place_of(token: str) -> Any:
    """What a token was made of; from a caller it may be any document. Raises ValueError for what is no token."""
    try:
        return json.loads(base64.b64decode(token, altchars=b"-_", validate=True))
    except RecursionError:
        raise ValueError("nested too deeply") from None
