"""Request bodies that SDKs have compressed, as they do of PutMetricData when it is long.

https://smithy.io/2.0/spec/behavior-traits.html#requestcompression-trait
"""

from __future__ import annotations

import zlib
from typing import Final

from lambdad.domain.errors import RequestEntityTooLargeException, SerializationException
from lambdad.ingress.messages import Request

PLAIN_BYTES_MAX: Final = 10 * 1024 * 1024
"""A body may not become longer than this: few bytes can be made into any number."""
_GZIP: Final = 16 + zlib.MAX_WBITS


def plain(request: Request, body: bytes) -> bytes:
    """The body as it was before it was compressed.

    Raises SerializationException when it is not what its Content-Encoding says, and RequestEntityTooLargeException.
    """
    if request.headers.get("content-encoding", "").strip().lower() != "gzip":
        return body
    stream = zlib.decompressobj(_GZIP)
    try:
        found = stream.decompress(body, PLAIN_BYTES_MAX + 1)
    except zlib.error:
        raise _not_gzip() from None
    if len(found) > PLAIN_BYTES_MAX:
        raise RequestEntityTooLargeException(f"Request must be smaller than {PLAIN_BYTES_MAX} bytes")
    if not stream.eof:
        raise _not_gzip()
    return found


def _not_gzip() -> SerializationException:
    return SerializationException("The body is not in the encoding that Content-Encoding names")
