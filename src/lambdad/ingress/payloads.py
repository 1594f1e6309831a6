"""Payloads of invocations: they pass through as bytes, checked to be JSON and never built."""

from __future__ import annotations

from typing import Final

import msgspec

from lambdad.domain.errors import InvalidRequestContentException

_JSON: Final = msgspec.json.Decoder(type=msgspec.Raw)


def check_json(payload: bytes) -> None:
    """Refuse what is not JSON in UTF-8. Raises InvalidRequestContentException."""
    try:
        _JSON.decode(payload)
        if not payload.isascii():
            payload.decode("utf-8")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequestContentException(
            f"Could not parse request body into json: Could not parse payload into json: {error}"
        ) from None
