"""A compute host: where environments live. Today it is this process; nothing above it assumes so.

Code goes by content hash, payloads as bytes, logs and usage through ports. A remote host has the same face.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from lambdad.domain.functions import FunctionVersion
from lambdad.domain.invocations import Invocation, Outcome
from lambdad.domain.provisioned_concurrency import Allocation


class Chunks(Protocol):
    """The parts of a response, and its content type, which is known once the response has begun."""

    content_type: str

    def __aiter__(self) -> AsyncGenerator[bytes, None]: ...


@dataclass(frozen=True, slots=True)
class ResponseStream:
    """An answer that comes in parts. A function that answers at once has an outcome with a payload and no chunks."""

    chunks: Chunks
    outcome: asyncio.Future[Outcome]


class ComputeHost(Protocol):
    """Runs invocations of function versions."""

    async def prepare(self, version: FunctionVersion) -> None:
        """Have the code at hand, and its runtime where that is installed, so that the first invocation need not wait.

        Raises ServiceError.
        """

    def begin(self, version: FunctionVersion, invocation: Invocation, finish: Callable[[Outcome], None]) -> bool:
        """Run an invocation if an environment is free this instant; `finish` is called with its outcome.

        False when none is: `invoke` has one started.
        """

    async def invoke(self, version: FunctionVersion, invocation: Invocation) -> Outcome:
        """Run an invocation to its end. A failing function is an Outcome; raises ServiceError for anything else,
        and BlobNotFound when the code of the version is gone.
        """

    async def invoke_stream(self, version: FunctionVersion, invocation: Invocation) -> ResponseStream:
        """The same, answering as soon as the function has begun to respond."""

    def set_provisioned(self, version: FunctionVersion, count: int) -> None:
        """Have so many environments of a version initialized from now on, and replaced when they end; 0 for none.

        They are started in the background. Beyond them invocations start environments as ever.
        """

    def provisioned(self, version: FunctionVersion) -> Allocation:
        """What there is this instant of a version's provisioned environments."""

    def retire(self, version: FunctionVersion) -> None:
        """Its configuration or code is no longer current: stop idle environments, and busy ones when they finish.

        Invocations that wait for one already still get one.
        """

    def unused(self, code_sha256: str) -> asyncio.Future[None]:
        """Done when no environment runs this package, or is being started with it."""

    def status(self) -> Mapping[str, Any]:
        """What the host holds, for people."""

    async def drain(self, seconds: float) -> None:
        """Let running invocations finish for so long, then stop every environment."""
