"""NextToken: the names after which the next page begins."""

from __future__ import annotations

from collections.abc import Sequence

from lambdad.domain.errors import ValidationException
from lambdad.ingress import page_tokens


def place_of(token: str | None, names: int) -> Sequence[str]:
    """The names after which to go on, empty for the first page. Raises ValidationException."""
    if token is None:
        return [""] * names
    try:
        place = page_tokens.place_of(token)
    except ValueError:
        place = None
    if not isinstance(place, list) or len(place) != names or not all(isinstance(name, str) for name in place):
        raise ValidationException("Invalid NextToken.")
    return place
