"""Posts to web servers with aiohttp, which is imported with the first of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from lambdad.adapters.late_imports import loaded
from lambdad.ports.neighbours import NeighbourUnavailable

ANSWER_TIMEOUT_S: Final = 15.0
"""As SNS waits: https://docs.aws.amazon.com/sns/latest/dg/SendMessageToHttp.prepare.html"""


class HttpWeb:
    """`Web` for the real one, with a connection for each post: one that was kept may be closed by the time of the next.

    TLS certificates are verified.
    """

    def __init__(self, answer_timeout_s: float = ANSWER_TIMEOUT_S) -> None:
        self._answer_timeout_s = answer_timeout_s
        self._session: Any = None
        self._closed = False

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        aiohttp = await loaded("aiohttp")
        if self._closed:
            raise NeighbourUnavailable("lambdad is stopping")
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(force_close=True),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=self._answer_timeout_s),
            )
        try:
            async with self._session.post(url, headers=headers, data=body, allow_redirects=False) as answer:
                return int(answer.status)
        except TimeoutError as error:
            raise NeighbourUnavailable(f"{url} did not answer in {self._answer_timeout_s:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise NeighbourUnavailable(f"{url} does not answer: {' '.join(str(error).split())}") from error

    async def close(self) -> None:
        self._closed = True
        if self._session is not None:
            await self._session.close()
