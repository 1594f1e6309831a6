"""Lambda extensions: what they subscribe to, what they are told, and what may follow what in the life of one.

https://docs.aws.amazon.com/lambda/latest/dg/runtimes-extensions-api.html

An external extension is a program in `/opt/extensions`, started before the runtime; an internal one is a part of the
runtime's process, and registers while that initializes. The names of states and errors are those that Lambda writes
into logs and answers with.
"""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Final

from lambdad.domain.errors import IllegalTransition
from lambdad.domain.invocations import ExitStatus, Invocation, PlatformError, failed

DIRECTORY: Final = "extensions"
"""Where programs of external extensions are in a layer."""
MOST: Final = 10
"""Extensions of one function.

https://docs.aws.amazon.com/lambda/latest/dg/runtimes-extensions-api.html#runtimes-extensions-api-reg
"""
SHUTDOWN_MS: Final = 2000
"""How long an environment with external extensions may take to shut down.

https://docs.aws.amazon.com/lambda/latest/dg/runtimes-extensions-api.html#runtimes-lifecycle-shutdown
"""
RUNTIME_SHUTDOWN_MS: Final = 300
"""How much of that its runtime has, which comes first."""
INTERNAL_SHUTDOWN_MS: Final = 500
"""How long a runtime with an internal extension has to shut down."""

TOO_MANY: Final = "Extension.TooManyExtensions"
LIMIT_REACHED: Final = f"Extension limit ({MOST}) reached"


class EventType(StrEnum):
    """What an extension can register for."""

    INVOKE = "INVOKE"
    SHUTDOWN = "SHUTDOWN"


class ShutdownReason(StrEnum):
    """Why an environment shuts down: it is not needed any more, an invocation ran out of time, or something failed."""

    SPINDOWN = "spindown"
    TIMEOUT = "timeout"
    FAILURE = "failure"


class ExtensionState(StrEnum):
    """What an extension is doing, in the words of Lambda's logs."""

    STARTED = "Started"
    REGISTERED = "Registered"
    READY = "Ready"
    RUNNING = "Running"
    INIT_ERROR = "InitError"
    EXIT_ERROR = "ExitError"


_S = ExtensionState
TRANSITIONS: Final = frozenset(
    {
        (_S.STARTED, _S.REGISTERED),
        (_S.REGISTERED, _S.READY),
        (_S.READY, _S.RUNNING),
        (_S.RUNNING, _S.READY),
        # One that lost its connection asks again.
        (_S.READY, _S.READY),
        (_S.REGISTERED, _S.INIT_ERROR),
        (_S.REGISTERED, _S.EXIT_ERROR),
        (_S.READY, _S.EXIT_ERROR),
        (_S.RUNNING, _S.EXIT_ERROR),
    }
)


def enter(state: ExtensionState, following: ExtensionState) -> ExtensionState:
    """`following`, if that may come after `state`. Raises IllegalTransition."""
    if (state, following) not in TRANSITIONS:
        raise IllegalTransition("extension", state, following)
    return following


def invoke_event(invocation: Invocation, deadline_ms: int) -> bytes:
    """What extensions are told of an invocation; `deadline_ms` since the epoch."""
    event = {
        "eventType": EventType.INVOKE,
        "deadlineMs": deadline_ms,
        "requestId": invocation.request_id,
        "invokedFunctionArn": invocation.invoked_arn,
        "tracing": {"type": "X-Amzn-Trace-Id", "value": invocation.trace_header},
    }
    return json.dumps(event, separators=(",", ":")).encode()


def shutdown_event(reason: ShutdownReason, deadline_ms: int) -> bytes:
    """What external extensions are told at the end; `deadline_ms` since the epoch."""
    event = {"eventType": EventType.SHUTDOWN, "deadlineMs": deadline_ms, "shutdownReason": reason}
    return json.dumps(event, separators=(",", ":")).encode()


def _fatal_error_type(state: ExtensionState) -> str:
    """What an invocation is answered when an extension has ended in this state: it announced that, or it did not."""
    if state in (ExtensionState.INIT_ERROR, ExtensionState.EXIT_ERROR):
        return f"Extension.{state}"
    return "Extension.Crash"


def ended(request_id: str, state: ExtensionState, status: ExitStatus) -> PlatformError:
    """An extension's process has ended, or never began; none may end before it is told to, with a code of 0 neither."""
    if status.problem:
        return failed(request_id, "Extension.LaunchError", status.problem)
    return failed(request_id, _fatal_error_type(state), "exit code 0" if status.code == 0 else str(status))


def gave_up(request_id: str, state: ExtensionState, error_type: str) -> PlatformError:
    """An internal extension has said that it failed; the process that it is in goes on."""
    return failed(request_id, _fatal_error_type(state), error_type)
