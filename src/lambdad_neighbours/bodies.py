"""The bodies of requests: in memory while small, in a file beyond; out of the chunks that SDKs wrap around uploads."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import IO, Final, NamedTuple

from lambdad.domain.aws_chunked import Chunks, IncompleteBody, is_chunked
from lambdad.ingress.messages import Request
from lambdad_neighbours.integrity import Integrity

# The largest body that is kept in memory: what is larger goes to a file, however large it gets.
IN_MEMORY_BYTES: Final = 1024 * 1024


class ReceivedBody(NamedTuple):
    """A body as the client meant it. `trailers` are the headers that came after it; `file` is at its beginning."""

    file: IO[bytes]
    length: int
    trailers: dict[str, str]


async def receive(request: Request, directory: Path | None, integrity: Integrity | None = None) -> ReceivedBody:
    """The whole body; `directory` is where a large one is written, in a file without a name.

    Raises IncompleteBody, what `integrity` raises, ClientGone and OSError.
    """
    chunks = Chunks() if is_chunked(request.headers) else None
    if chunks is None and integrity is None and request.body.complete:
        whole = request.body.whole()
        if whole is not None:
            return ReceivedBody(io.BytesIO(whole), len(whole), {})
    file: IO[bytes] = io.BytesIO()
    length = 0
    async for data in request.body.chunks():
        for part in (data,) if chunks is None else chunks.feed(data):
            length += len(part)
            if length > IN_MEMORY_BYTES and isinstance(file, io.BytesIO):
                small, file = file, tempfile.TemporaryFile(dir=directory)  # noqa: SIM115 (it is returned)
                file.write(small.getbuffer())
            file.write(part)
            if integrity is not None:
                integrity.update(part)
    trailers = {} if chunks is None else chunks.trailers
    if chunks is not None:
        chunks.finish()
        said = request.headers.get("x-amz-decoded-content-length", "")
        if said.isdigit() and int(said) != length:
            raise IncompleteBody(f"{length} bytes came where {said} were announced")
    if integrity is not None:
        integrity.finish(trailers)
    file.seek(0)
    return ReceivedBody(file, length, trailers)
