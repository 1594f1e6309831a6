"""Running a function for a batch of records, and telling what came of it."""

from __future__ import annotations

import enum
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from lambdad.domain.arns import FunctionReference
from lambdad.domain.errors import (
    RecursiveInvocationException,
    ResourceNotFoundException,
    ServiceError,
    TooManyRequestsException,
)
from lambdad.domain.event_source_mappings import CALL_FAILED, OK, PROBLEM
from lambdad.domain.functions import FunctionVersion
from lambdad.domain.invocations import Outcome
from lambdad.domain.tracing import trace_header
from lambdad.ports.store import StoreUnavailable
from lambdad.services.identifiers import new_request_id, new_trace_digits
from lambdad.services.invoke import InvokeRequest, Target

logger = logging.getLogger(__name__)


class Invoker(Protocol):
    """`InvokeService`, as pollers need it."""

    async def invoke(self, request: InvokeRequest) -> tuple[FunctionVersion, Outcome]: ...

    async def target(self, reference: FunctionReference) -> Target: ...


class Ending(enum.Enum):
    """How the invocation for a batch has ended."""

    ANSWERED = "answered"
    FAILED = "failed"
    THROTTLED = "throttled"
    """It has not run, for now."""
    LOOPED = "looped"
    """It was stopped as one of a recursive loop."""


@dataclass(frozen=True, slots=True)
class BatchResult:
    """`told` is what LastProcessingResult says of it; `version` and `request_id` are of an invocation that has run."""

    ending: Ending
    told: str
    response: bytes = b""
    request_id: str = ""
    version: FunctionVersion | None = None


class BatchInvoker:
    """Invokes the function of one mapping."""

    def __init__(self, invoke: Invoker, function: FunctionReference) -> None:
        self._invoke = invoke
        self._function = function

    async def version(self) -> FunctionVersion:
        """What runs, or one of two. Raises ResourceNotFoundException and StoreUnavailable."""
        return (await self._invoke.target(self._function)).version

    async def run(self, payload: bytes, traces: Iterable[str] = ()) -> BatchResult:
        """Run the function. Raises nothing: what keeps it from running is a result too."""
        request_id = new_request_id()
        try:
            trace = await self._trace(traces)
            request = InvokeRequest(self._function, request_id, payload, trace=trace)
            version, outcome = await self._invoke.invoke(request)
        except TooManyRequestsException as error:
            return BatchResult(Ending.THROTTLED, f"{PROBLEM}{error.message}")
        except RecursiveInvocationException as error:
            return BatchResult(Ending.LOOPED, f"{PROBLEM}{error.message}")
        except ResourceNotFoundException as error:
            return BatchResult(Ending.THROTTLED, f"{PROBLEM}{error.message}")
        except (ServiceError, StoreUnavailable) as error:
            return BatchResult(Ending.THROTTLED, f"{PROBLEM}{error}")
        except Exception as error:  # a fault of ours must not end the poller, and the records are tried again
            logger.exception("%s could not be invoked", self._function.arn)
            return BatchResult(Ending.FAILED, f"{PROBLEM}{error!r}", request_id=request_id)
        if outcome.failed:
            return BatchResult(Ending.FAILED, CALL_FAILED, outcome.payload, request_id, version)
        return BatchResult(Ending.ANSWERED, OK, outcome.payload, request_id, version)

    async def _trace(self, traces: Iterable[str]) -> str | None:
        """Of the traces of a batch, that in which the function has come round most often."""
        known = [trace for trace in traces if trace]
        if len(known) < 2:
            return known[0] if known else None
        mark = (await self._invoke.target(self._function)).mark
        digits = new_trace_digits()
        return max(known, key=lambda trace: trace_header(0.0, trace, digits, active=False, mark=mark)[1])
