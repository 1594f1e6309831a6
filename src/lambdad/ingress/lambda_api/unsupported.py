"""The operations of the Lambda model that lambdad does not have yet. Each answers one explicit error.

A test holds that these and the implemented ones together are the operations of the installed service model.
"""

from __future__ import annotations

from typing import Final

from lambdad.domain.errors import NotImplementedException

UNSUPPORTED: Final = frozenset(
    {
        "AddLayerVersionPermission",
        "CheckpointDurableExecution",
        "CreateCapacityProvider",
        "CreateCodeSigningConfig",
        "CreateEventSourceMapping",
        "CreateFunctionUrlConfig",
        "DeleteCapacityProvider",
        "DeleteCodeSigningConfig",
        "DeleteDurableExecution",
        "DeleteEventSourceMapping",
        "DeleteFunctionCodeSigningConfig",
        "DeleteFunctionUrlConfig",
        "DeleteLayerVersion",
        "DeleteProvisionedConcurrencyConfig",
        "DeleteResourcePolicy",
        "GetCapacityProvider",
        "GetCodeSigningConfig",
        "GetDurableExecution",
        "GetDurableExecutionHistory",
        "GetDurableExecutionState",
        "GetEventSourceMapping",
        "GetFunctionCodeSigningConfig",
        "GetFunctionScalingConfig",
        "GetFunctionUrlConfig",
        "GetLayerVersion",
        "GetLayerVersionByArn",
        "GetLayerVersionPolicy",
        "GetProvisionedConcurrencyConfig",
        "GetResourcePolicy",
        "GetRuntimeManagementConfig",
        "ListCapacityProviders",
        "ListCodeSigningConfigs",
        "ListDurableExecutionsByFunction",
        "ListEventSourceMappings",
        "ListFunctionUrlConfigs",
        "ListFunctionVersionsByCapacityProvider",
        "ListFunctionsByCodeSigningConfig",
        "ListLayerVersions",
        "ListLayers",
        "ListProvisionedConcurrencyConfigs",
        "PauseDurableExecution",
        "PublishLayerVersion",
        "PutFunctionCodeSigningConfig",
        "PutFunctionScalingConfig",
        "PutProvisionedConcurrencyConfig",
        "PutResourcePolicy",
        "PutRuntimeManagementConfig",
        "RemoveLayerVersionPermission",
        "ResumeDurableExecution",
        "SendDurableExecutionCallbackFailure",
        "SendDurableExecutionCallbackHeartbeat",
        "SendDurableExecutionCallbackSuccess",
        "StopDurableExecution",
        "UpdateCapacityProvider",
        "UpdateCodeSigningConfig",
        "UpdateEventSourceMapping",
        "UpdateFunctionUrlConfig",
    }
)


def not_implemented(service: str, operation: str) -> NotImplementedException:
    return NotImplementedException(f"The operation {service}:{operation} is not implemented by lambdad.")
