"""The operations of the Lambda model that lambdad does not have: durable executions and capacity providers.

Each answers one explicit error.

A test holds that these and the implemented ones together are the operations of the installed service model.
"""

from __future__ import annotations

from typing import Final

from lambdad.domain.errors import NotImplementedException

UNSUPPORTED: Final = frozenset(
    {
        "CheckpointDurableExecution",
        "CreateCapacityProvider",
        "DeleteCapacityProvider",
        "DeleteDurableExecution",
        "GetCapacityProvider",
        "GetDurableExecution",
        "GetDurableExecutionHistory",
        "GetDurableExecutionState",
        "ListCapacityProviders",
        "ListDurableExecutionsByFunction",
        "ListFunctionVersionsByCapacityProvider",
        "PauseDurableExecution",
        "ResumeDurableExecution",
        "SendDurableExecutionCallbackFailure",
        "SendDurableExecutionCallbackHeartbeat",
        "SendDurableExecutionCallbackSuccess",
        "StopDurableExecution",
        "UpdateCapacityProvider",
    }
)


def not_implemented(service: str, operation: str) -> NotImplementedException:
    return NotImplementedException(f"The operation {service}:{operation} is not implemented by lambdad yet.")
