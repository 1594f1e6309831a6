"""What requests for lambdad's own pages carry, by the members that a page declares as a msgspec.Struct."""

from __future__ import annotations

from typing import Final, TypeVar
from urllib.parse import parse_qsl

import msgspec

from lambdad.domain.errors import (
    RequestEntityTooLargeException,
    UnsupportedMediaTypeException,
    ValidationException,
)
from lambdad.ingress.messages import BodyTooLarge, Request

BODY_BYTES: Final = 1024 * 1024

MembersT = TypeVar("MembersT", bound=msgspec.Struct)


def from_query(request: Request, members: type[MembersT]) -> MembersT:
    """The members that the query has. Raises ValidationException for others, and for wrong types."""
    try:
        return msgspec.convert(dict(parse_qsl(request.query, keep_blank_values=True)), members, strict=False)
    except msgspec.ValidationError as error:
        raise ValidationException(f"In the query: {error}") from error


async def from_body(request: Request, members: type[MembersT]) -> MembersT:
    """The members of the JSON object in the body.

    It has to be declared as JSON, which a web page of another origin cannot do without being asked first. Raises
    UnsupportedMediaTypeException, RequestEntityTooLargeException and ValidationException.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise UnsupportedMediaTypeException("The Content-Type has to be application/json")
    try:
        body = await request.body.read(BODY_BYTES)
        return msgspec.json.decode(body, type=members)
    except BodyTooLarge:
        raise RequestEntityTooLargeException(f"The body has to be smaller than {BODY_BYTES} bytes") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValidationException(f"In the body: {error}") from error
