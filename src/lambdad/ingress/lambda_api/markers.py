"""Markers of lists that are ordered by a name: where the next page begins."""

from __future__ import annotations

import base64

from lambdad.domain.errors import InvalidParameterValueException
from lambdad.services.version_pages import INVALID_MARKER


def marker_after(name: str | None) -> str | None:
    """The marker of the page after this name; None when it is the last page."""
    return None if name is None else base64.urlsafe_b64encode(name.encode()).decode("ascii")


def place_of(marker: str | None) -> str:
    """The name after which to go on, empty for the first page. Raises InvalidParameterValueException."""
    try:
        return base64.b64decode(marker or "", altchars=b"-_", validate=True).decode()
    except ValueError:
        raise InvalidParameterValueException(INVALID_MARKER) from None
