"""What stands behind the endpoint beside Lambda: requests of clients go on to it as they came.

A neighbour is embedded, in a child process of the daemon, or a real endpoint that the settings name.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class NeighbourRequest:
    """A client's request to another service. Names are botocore's; header names are lower case."""

    service: str
    operation: str
    """Empty where the request does not say it and nobody needs it."""
    account_id: str
    region: str
    request_id: str
    method: str
    path: str
    """As it was sent, percent-encoded; of S3 in the path style, whatever style the client has used."""
    query: str
    headers: Mapping[str, str]
    body: bytes | AsyncIterator[bytes]


@dataclass(frozen=True, slots=True)
class NeighbourAnswer:
    """What goes back to the client. A body that is a generator is sent on as it comes."""

    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes | AsyncGenerator[bytes, None] = b""

    @property
    def succeeded(self) -> bool:
        return 200 <= self.status < 300

    def header(self, name: str) -> str | None:
        """The first header of that name, in whatever case."""
        return next((value for each, value in self.headers if each.lower() == name.lower()), None)


class Backends(Protocol):
    """The services that requests can go on to."""

    def has(self, service: str) -> bool:
        """Whether the service is embedded, or has an endpoint."""

    def is_embedded(self, service: str) -> bool: ...

    async def forward(self, request: NeighbourRequest) -> NeighbourAnswer:
        """Have a service answer. Raises NeighbourUnavailable when it cannot be reached, or is being started again."""

    async def inspect(self, what: str, parameters: Mapping[str, Any]) -> Any:
        """What an embedded service knows and its API does not tell in one call: see `lambdad_neighbours.inspections`.

        Raises NeighbourUnavailable.
        """


class Attention(enum.Enum):
    """What an observer wants of a request: nothing, its head and the head of the answer, or both bodies too."""

    NONE = "none"
    HEAD = "head"
    WHOLE = "whole"


class Observer(Protocol):
    """Sees the requests to a neighbour and their answers, and does what AWS would do beyond them."""

    def attention(self, request: NeighbourRequest) -> Attention:
        """Asked of every request to a neighbour, so it is quick. With WHOLE both bodies are bytes, else they pass."""

    async def before(self, request: NeighbourRequest) -> NeighbourAnswer | None:
        """Answer in the neighbour's place; None to let the request go on to it. Raises ServiceError."""

    async def after(self, request: NeighbourRequest, answer: NeighbourAnswer) -> None:
        """A request has succeeded; the client has its answer when this returns, so what it emits is on disk by then.

        Raises StoreUnavailable: the client is then told of a failure, and will try again.
        """
