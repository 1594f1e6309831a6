"""Where a service does not do what its botocore model says, or the model does not say what it does.

The protocol layer is the same for every service; all that is particular to one stands here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from lambdad.domain import quotas


@dataclass(frozen=True)
class Departures:
    """What is particular to one service.

    `constraints` gives, for a member (its structure's shape, its name), the constraints that rule instead of the
    model's: a key of botocore's `Shape.metadata` with another value, or with None when the member is not held to it.
    Operations have an input shape each, so this tells operations apart too.
    """

    constraints: Mapping[tuple[str, str], Mapping[str, Any]] = field(default_factory=dict)
    validation_code: str = "ValidationException"
    """The code under which the service reports that an input breaks a constraint."""
    internal_code: str = "ServiceException"
    """The code under which it reports a fault of its own."""
    payload_content_types: Mapping[str, str] = field(default_factory=dict)
    """The Content-Type of an operation whose output is a blob, where it is not application/octet-stream."""


_ROLE: Final = r"arn:(aws[a-zA-Z-]*)?:iam::(\d{12}|account):role/?[a-zA-Z_0-9+=,.@\-_/]+"


def _lambda_constraints() -> dict[tuple[str, str], Mapping[str, Any]]:
    constraints: dict[tuple[str, str], Mapping[str, Any]] = {
        # The documented quota is tighter than the model, which also covers managed instances.
        ("EphemeralStorage", "Size"): {"max": quotas.EPHEMERAL_STORAGE_MB_MAX},
    }
    for request in ("CreateFunctionRequest", "UpdateFunctionConfigurationRequest"):
        # The service itself answers an unknown runtime, with InvalidParameterValueException.
        constraints[request, "Runtime"] = {"enum": None}
        # The account may be the word that documentation has in its place: the seeds' commands work as written.
        constraints[request, "Role"] = {"pattern": _ROLE}
        constraints[request, "Timeout"] = {"max": quotas.TIMEOUT_S_MAX}
        constraints[request, "MemorySize"] = {"max": quotas.MEMORY_MB_MAX}
    return constraints


DEPARTURES: Final[Mapping[str, Departures]] = {
    "lambda": Departures(
        constraints=_lambda_constraints(),
        # An invoke answers in JSON, and says so: https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html
        payload_content_types={"Invoke": "application/json"},
    ),
    "cloudwatch": Departures(validation_code="InvalidParameterValue", internal_code="InternalServiceError"),
    "events": Departures(internal_code="InternalException"),
    "logs": Departures(validation_code="InvalidParameterException", internal_code="ServiceUnavailableException"),
    "scheduler": Departures(internal_code="InternalServerException"),
}
NONE: Final = Departures()
