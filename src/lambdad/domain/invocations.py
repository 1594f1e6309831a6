"""One invocation: what goes in, what comes out, and the errors that the platform itself answers with."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from lambdad.domain import quotas
from lambdad.domain.provisioned_concurrency import ProvisionedUse

INVALID_ENTRYPOINT: Final = "Runtime.InvalidEntrypoint"
"""The runtime could not be started at all, as when a custom runtime has no executable `bootstrap`."""


@dataclass(slots=True)
class Invocation:
    """An event for a function. `payload` passes through unparsed; `begun` is called when the function is given it."""

    request_id: str
    invoked_arn: str
    payload: bytes
    trace_header: str
    client_context: str | None = None
    tail_log: bool = False
    begun: Callable[[], None] | None = None


@dataclass(frozen=True, slots=True)
class ExitStatus:
    """How a process ended: a code, or the signal that killed it.

    `problem` says why there never was a program to end: "fork/exec /opt/extensions/NAME: permission denied".
    """

    code: int | None = None
    signal: str | None = None
    problem: str = ""

    def __str__(self) -> str:
        return f"signal: {self.signal}" if self.signal else f"exit status {self.code}"


@dataclass(slots=True)
class ExtensionsTime:
    """How long extensions go on after the runtime is done with an invocation, which is known later than its answer."""

    took_ms: float | None = None
    tell: Callable[[float], None] | None = None

    def when_over(self, tell: Callable[[float], None]) -> None:
        """`tell` is called with the milliseconds, or never when the environment was reset before."""
        self.tell = tell
        if self.took_ms is not None:
            tell(self.took_ms)

    def over(self, took_ms: float) -> None:
        self.took_ms = took_ms
        if self.tell is not None:
            self.tell(took_ms)


@dataclass(slots=True)
class Outcome:
    """How an invocation ended. `error_type` is None for success; `log_tail` is filled when it was asked for.

    `duration_ms` is what REPORT says of it; None when it was never given to the function. `provisioned` is there when
    the version has provisioned environments, `extensions` when it has those.
    """

    payload: bytes
    error_type: str | None = None
    content_type: str = "application/json"
    log_tail: bytes = b""
    duration_ms: float | None = None
    extensions: ExtensionsTime | None = None
    provisioned: ProvisionedUse | None = None

    @property
    def failed(self) -> bool:
        return self.error_type is not None

    @property
    def is_of_platform(self) -> bool:
        """Whether REPORT calls it an error: the runtime failed, rather than the function's own code."""
        return self.error_type is not None and self.error_type.split(".")[0] in ("Runtime", "Sandbox", "Extension")


@dataclass(frozen=True, slots=True)
class PlatformError:
    """An error that the platform reports in the function's place.

    The types and messages are those that Lambda returns; see "Troubleshoot invocation issues" in its developer guide.
    """

    error_type: str
    message: str
    extra: dict[str, object] = field(default_factory=dict)

    def outcome(self) -> Outcome:
        body = {"errorType": self.error_type, "errorMessage": self.message, **self.extra}
        return Outcome(json.dumps(body, separators=(",", ":")).encode(), self.error_type)


def timed_out(request_id: str, timeout_s: float) -> PlatformError:
    return PlatformError(
        "Sandbox.Timedout", f"RequestId: {request_id} Error: Task timed out after {timeout_s:.2f} seconds"
    )


def exited(request_id: str, status: ExitStatus) -> PlatformError:
    """The runtime's process ended before it answered."""
    reason = "Runtime exited without providing a reason"
    if status.code != 0:
        reason = f"Runtime exited with error: {status}"
    return PlatformError("Runtime.ExitError", f"RequestId: {request_id} Error: {reason}")


def failed(request_id: str, error_type: str, detail: str) -> PlatformError:
    """An error that is told in AWS's usual form."""
    return PlatformError(error_type, f"RequestId: {request_id} Error: {detail}")


def response_too_large(limit: int = quotas.RESPONSE_BYTES) -> PlatformError:
    return PlatformError(
        "Function.ResponseSizeTooLarge", f"Response payload size exceeded maximum allowed payload size ({limit} bytes)."
    )


def billed_ms(duration_ms: float) -> int:
    """Billed time: rounded up to the millisecond (https://aws.amazon.com/lambda/pricing/)."""
    return math.ceil(duration_ms)
