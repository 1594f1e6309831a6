"""Web servers in memory, for tests: they answer with the status that they are told."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from lambdad.ports.neighbours import NeighbourUnavailable


@dataclass(frozen=True, slots=True)
class Post:
    """One post, as it was made."""

    url: str
    headers: Mapping[str, str]
    body: bytes


class MemoryWeb:
    """`Web` with a status by URL; others do not answer. Posts are kept in `posts`."""

    def __init__(self, statuses: Mapping[str, int] | None = None) -> None:
        self.statuses = dict(statuses or {})
        self.posts: list[Post] = []
        self._closed = False

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        await asyncio.sleep(0)  # as the real one does, let others run first
        if self._closed or url not in self.statuses:
            raise NeighbourUnavailable(f"{url} does not answer")
        self.posts.append(Post(url, dict(headers), body))
        return self.statuses[url]

    async def close(self) -> None:
        self._closed = True
