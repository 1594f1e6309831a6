"""The services beside Lambda in memory, for tests of what stands before them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

from lambdad.ports.backends import NeighbourAnswer, NeighbourRequest
from lambdad.ports.neighbours import NeighbourUnavailable


def nothing(request: NeighbourRequest) -> NeighbourAnswer:
    """The answer 200, with nothing in it."""
    return NeighbourAnswer(200, [])


class MemoryBackends:
    """`Backends` whose answers a test makes. `requests` are those that came, with their bodies read."""

    def __init__(
        self,
        services: Collection[str] = (),
        answer: Callable[[NeighbourRequest], NeighbourAnswer] = nothing,
        inspections: Mapping[str, Callable[[Mapping[str, Any]], Any]] | None = None,
        external: Collection[str] = (),
    ) -> None:
        self.requests: list[NeighbourRequest] = []
        self.failure: NeighbourUnavailable | None = None
        self._services = frozenset(services)
        self._external = frozenset(external)
        self._answer = answer
        self._inspections = dict(inspections or {})

    def has(self, service: str) -> bool:
        return service in self._services or service in self._external

    def is_embedded(self, service: str) -> bool:
        return service in self._services - self._external

    async def forward(self, request: NeighbourRequest) -> NeighbourAnswer:
        if not self.has(request.service):
            raise NeighbourUnavailable(f"{request.service} has no endpoint")
        if self.failure is not None:
            raise self.failure
        if not isinstance(request.body, bytes):
            request = replace(request, body=b"".join([part async for part in request.body]))
        self.requests.append(request)
        return self._answer(request)

    async def inspect(self, what: str, parameters: Mapping[str, Any]) -> Any:
        if self.failure is not None:
            raise self.failure
        if what not in self._inspections:
            raise NeighbourUnavailable(f"{what} cannot be inspected: there is no inspection {what!r}")
        return self._inspections[what](parameters)
