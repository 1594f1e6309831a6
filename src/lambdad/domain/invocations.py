"""One invocation: what goes in, what comes out, and the errors that the platform itself answers with."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from lambdad.domain import quotas
from lambdad.domain.provisioned_concurrency import ProvisionedUse

INVALID_ENTRYPOINT: Final = "Runtime.InvalidEntrypoint"
"""The runtime could not be started at all, as when a custom runtime has no executable `bootstrap`."""
OUT_OF_MEMORY: Final = "Runtime.OutOfMemory"
"""What REPORT says of a runtime that was killed for its memory; the caller reads that it has exited."""
_UNKNOWN: Final = "Runtime.Unknown"
_REPORTABLE: Final = re.compile(r"(?:Runtime|Function)\.[A-Z][a-zA-Z]+")


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

    `exceeded_memory`: it was killed because its function had used all its memory.
    `problem` says why there never was a program to end: "fork/exec /opt/extensions/NAME: permission denied".
    """

    code: int | None = None
    signal: str | None = None
    problem: str = ""
    exceeded_memory: bool = False

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

    `reported_as` is the type that the platform's own lines give the error where it is another.
    `duration_ms` is what REPORT says of it; None when it was never given to the function. `provisioned` is there when
    the version has provisioned environments, `extensions` when it has those.
    """

    payload: bytes
    error_type: str | None = None
    content_type: str = "application/json"
    reported_as: str | None = None
    log_tail: bytes = b""
    duration_ms: float | None = None
    extensions: ExtensionsTime | None = None
    provisioned: ProvisionedUse | None = None

    @property
    def failed(self) -> bool:
        return self.error_type is not None

    @property
    def reported_type(self) -> str | None:
        """The type of the error in REPORT and in the platform's events."""
        return self.reported_as or self.error_type

    @property
    def is_of_platform(self) -> bool:
        """Whether REPORT calls it an error: the runtime failed, rather than the function's own code."""
        if self.reported_as is not None:
            return True
        return self.error_type is not None and self.error_type.split(".")[0] in ("Runtime", "Sandbox", "Extension")


@dataclass(frozen=True, slots=True)
class PlatformError:
    """An error that the platform reports in the function's place.

    The types and messages are those that Lambda returns; see "Troubleshoot invocation issues" in its developer guide.
    """

    error_type: str
    message: str
    extra: dict[str, object] = field(default_factory=dict)
    reported_as: str | None = None

    def outcome(self) -> Outcome:
        body = {"errorType": self.error_type, "errorMessage": self.message, **self.extra}
        payload = json.dumps(body, separators=(",", ":")).encode()
        return Outcome(payload, self.error_type, reported_as=self.reported_as)


def init_failure(payload: bytes, error_type: str) -> Outcome:
    """The runtime says that it could not initialize. INIT_REPORT and REPORT name only types of Lambda's own form.

    https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html#runtimes-api-initerror
    """
    # Where AWS's own emulator (and what is seen in logs of Lambda) finds that form anywhere in the type, so does this.
    known = error_type if _REPORTABLE.search(error_type) else _UNKNOWN
    return Outcome(payload, error_type, reported_as=known)


def timed_out(request_id: str, timeout_s: float) -> PlatformError:
    return PlatformError(
        "Sandbox.Timedout", f"RequestId: {request_id} Error: Task timed out after {timeout_s:.2f} seconds"
    )


def exited(request_id: str, status: ExitStatus) -> PlatformError:
    """The runtime's process ended before it answered."""
    reason = "Runtime exited without providing a reason"
    if status.code != 0:
        reason = f"Runtime exited with error: {status}"
    reported_as = OUT_OF_MEMORY if status.exceeded_memory else None
    return PlatformError("Runtime.ExitError", f"RequestId: {request_id} Error: {reason}", reported_as=reported_as)


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
