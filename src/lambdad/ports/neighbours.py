"""The AWS services beside Lambda, wherever they are: called through their own API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from lambdad.domain.errors import LambdadError


class NeighbourUnavailable(LambdadError):
    """The service has no endpoint, does not answer, throttles or fails (5xx): the same call may succeed later."""


class NeighbourRefused(LambdadError):
    """The service has refused the call. `code` is AWS's error code, `status` the HTTP status."""

    def __init__(self, code: str, message: str, status: int) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status


class Neighbours(Protocol):
    """Calls operations of other services as botocore's models name them."""

    def has(self, service: str) -> bool:
        """Whether the service has an endpoint."""

    async def call(
        self,
        service: str,
        operation: str,
        parameters: Mapping[str, Any],
        *,
        account_id: str,
        region: str,
        trace: str = "",
    ) -> Mapping[str, Any]:
        """Call an operation once, on behalf of an account; `trace` is sent as X-Amzn-Trace-Id.

        Raises NeighbourUnavailable and NeighbourRefused.
        """

    def describe(self) -> Mapping[str, str]:
        """The endpoint of each service that has one, for people."""

    async def close(self) -> None: ...
