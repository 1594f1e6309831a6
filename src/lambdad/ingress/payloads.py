"""Payloads of invocations: they pass through as bytes, checked to be JSON and never built."""

from __future__ import annotations

import json
import re
from typing import Final, NoReturn

import msgspec

from lambdad.domain.errors import InvalidRequestContentException

_JSON: Final = msgspec.json.Decoder(type=msgspec.Raw)
_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")


def check_json(payload: bytes) -> None:
    """Refuse what is not JSON in UTF-8. Raises InvalidRequestContentException."""
    try:
        _JSON.decode(payload)
        if not payload.isascii():
            payload.decode("utf-8")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if _SURROGATE.search(payload) is not None and _has_half_pairs(payload):
            return
        raise InvalidRequestContentException(
            f"Could not parse request body into json: Could not parse payload into json: {error}"
        ) from None


def _has_half_pairs(payload: bytes) -> bool:
    """Whether it is JSON but for what the quick parser refuses: the escape of half a surrogate pair is JSON, too.

    https://www.rfc-editor.org/rfc/rfc8259#section-8.2
    """
    try:
        json.loads(payload.decode("utf-8"), parse_constant=_refuse)
    except (ValueError, RecursionError):
        return False
    return True


def _refuse(constant: str) -> NoReturn:
    """`json` reads NaN and Infinity, which are no JSON."""
    raise ValueError(constant)
