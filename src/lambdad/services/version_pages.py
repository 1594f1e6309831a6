"""Parts of lists of versions, and the markers at which they go on."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from lambdad.domain import quotas
from lambdad.domain.arns import LATEST
from lambdad.domain.errors import InvalidParameterValueException
from lambdad.domain.functions import FunctionVersion

INVALID_MARKER = "Invalid marker"
MARKER_NUMBER_END = 10**18
"""Beyond every version number; a marker comes back from clients, who may have written it themselves."""


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list of versions, and the marker of the next part."""

    versions: Sequence[FunctionVersion]
    next_marker: str | None


def encode_marker(version: FunctionVersion) -> str:
    number = 0 if version.version == LATEST else int(version.version)
    return base64.urlsafe_b64encode(f"{version.key.name}:{number}".encode()).decode("ascii")


def decode_marker(marker: str | None) -> tuple[str, int]:
    """Where a list goes on: after this name and version number. Raises InvalidParameterValueException."""
    if not marker:
        return "", -1
    try:
        name, _, number = base64.b64decode(marker, altchars=b"-_", validate=True).decode().rpartition(":")
        after = int(number)
    except ValueError:
        raise InvalidParameterValueException(INVALID_MARKER) from None
    if not 0 <= after < MARKER_NUMBER_END:
        raise InvalidParameterValueException(INVALID_MARKER)
    return name, after


def page_of(versions: Sequence[FunctionVersion], limit: int) -> Page:
    shown = versions[:limit]
    return Page(shown, encode_marker(shown[-1]) if len(versions) > limit else None)


def page_limit(requested: int | None) -> int:
    """`MaxItems`: at most 50 a page, as the service does."""
    return min(requested or quotas.LIST_PAGE, quotas.LIST_PAGE)
