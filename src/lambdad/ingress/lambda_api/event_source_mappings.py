"""Create-, Get-, List-, Update- and DeleteEventSourceMapping(s)."""

from __future__ import annotations

from typing import Any, Final, cast

from lambdad.domain.arns import parse_function_name
from lambdad.domain.errors import InvalidParameterValueException
from lambdad.domain.event_source_mappings import (
    EventSourceMapping,
    MappingSettings,
    MappingState,
    SourceKind,
    not_supported,
)
from lambdad.domain.tags import check as check_tags
from lambdad.ingress.lambda_api.markers import marker_after, place_of
from lambdad.ingress.operations import Call, Output, Params
from lambdad.services.event_source_mappings import EventSourceMappings

PAGE_MAX: Final = 100
"""https://docs.aws.amazon.com/lambda/latest/api/API_ListEventSourceMappings.html"""
_NOT_SUPPORTED: Final = (
    "AmazonManagedKafkaEventSourceConfig",
    "DocumentDBEventSourceConfig",
    "KMSKeyArn",
    "LoggingConfig",
    "MetricsConfig",
    "ProvisionedPollerConfig",
    "Queues",
    "SelfManagedEventSource",
    "SelfManagedKafkaEventSourceConfig",
    "SourceAccessConfigurations",
    "Topics",
)
_PLAIN: Final = {
    "Enabled": "enabled",
    "BatchSize": "batch_size",
    "MaximumBatchingWindowInSeconds": "batching_window_s",
    "ParallelizationFactor": "parallelization_factor",
    "BisectBatchOnFunctionError": "bisects_batch",
    "MaximumRetryAttempts": "maximum_retry_attempts",
    "MaximumRecordAgeInSeconds": "maximum_record_age_s",
    "TumblingWindowInSeconds": "tumbling_window_s",
    "StartingPosition": "starting_position",
}
"""Parameters that are a setting as they are."""


async def create_event_source_mapping(mappings: EventSourceMappings, call: Call, params: Params) -> Output:
    settings = _settings(params)
    if not params.get("EventSourceArn"):
        raise InvalidParameterValueException("Unrecognized event source.")
    tags = dict(params.get("Tags") or {})
    check_tags(tags)
    function = parse_function_name(params["FunctionName"], call.account_id, call.region, action=call.operation)
    return _output(*await mappings.create(function, params["EventSourceArn"], settings, tags))


async def get_event_source_mapping(mappings: EventSourceMappings, call: Call, params: Params) -> Output:
    return _output(*await mappings.get(call.account_id, call.region, params["UUID"]))


async def list_event_source_mappings(mappings: EventSourceMappings, call: Call, params: Params) -> Output:
    name = params.get("FunctionName")
    function = parse_function_name(name, call.account_id, call.region, action=call.operation) if name else None
    shown, following = await mappings.list(
        call.account_id,
        call.region,
        function=function,
        source_arn=params.get("EventSourceArn"),
        after=place_of(params.get("Marker")),
        limit=min(params.get("MaxItems") or PAGE_MAX, PAGE_MAX),
    )
    return {"EventSourceMappings": [_output(*each) for each in shown], "NextMarker": marker_after(following)}


async def update_event_source_mapping(mappings: EventSourceMappings, call: Call, params: Params) -> Output:
    settings = _settings(params)
    name = params.get("FunctionName")
    function = parse_function_name(name, call.account_id, call.region, action=call.operation) if name else None
    return _output(*await mappings.update(call.account_id, call.region, params["UUID"], function, settings))


async def delete_event_source_mapping(mappings: EventSourceMappings, call: Call, params: Params) -> Output:
    return _output(*await mappings.delete(call.account_id, call.region, params["UUID"]))


def _settings(params: Params) -> MappingSettings:
    """What a request sets. An empty FilterCriteria, ScalingConfig or DestinationConfig sets to nothing."""
    for name in _NOT_SUPPORTED:
        if params.get(name):
            raise not_supported(name)
    settings: dict[str, Any] = {
        setting: params[name] for name, setting in _PLAIN.items() if params.get(name) is not None
    }
    if params.get("StartingPositionTimestamp") is not None:
        settings["starting_timestamp_s"] = params["StartingPositionTimestamp"].timestamp()
    if params.get("FilterCriteria") is not None:
        filters = params["FilterCriteria"].get("Filters") or ()
        settings["filters"] = tuple(each.get("Pattern") or "" for each in filters)
    if params.get("FunctionResponseTypes") is not None:
        settings["reports_item_failures"] = bool(params["FunctionResponseTypes"])
    if params.get("ScalingConfig") is not None:
        settings["maximum_concurrency"] = params["ScalingConfig"].get("MaximumConcurrency")
    destination = params.get("DestinationConfig")
    if destination is not None:
        if (destination.get("OnSuccess") or {}).get("Destination"):
            raise InvalidParameterValueException(
                "Unsupported DestinationConfig parameter for given event source mapping type."
            )
        settings["on_failure"] = (destination.get("OnFailure") or {}).get("Destination") or ""
    return cast(MappingSettings, settings)


def _output(mapping: EventSourceMapping, state: MappingState) -> Output:
    """https://docs.aws.amazon.com/lambda/latest/api/API_EventSourceMappingConfiguration.html"""
    shown: dict[str, Any] = {
        "UUID": mapping.uuid,
        "BatchSize": mapping.batch_size,
        "MaximumBatchingWindowInSeconds": mapping.batching_window_s,
        "EventSourceArn": mapping.source_arn,
        "FunctionArn": mapping.function.arn,
        "LastModified": mapping.last_modified_s,
        "State": state.value,
        "StateTransitionReason": mapping.transition_reason,
        "FunctionResponseTypes": ["ReportBatchItemFailures"] if mapping.reports_item_failures else [],
        "EventSourceMappingArn": mapping.arn,
    }
    if mapping.filters:
        shown["FilterCriteria"] = {"Filters": [{"Pattern": pattern} for pattern in mapping.filters]}
    if mapping.maximum_concurrency is not None:
        shown["ScalingConfig"] = {"MaximumConcurrency": mapping.maximum_concurrency}
    if mapping.source.kind is not SourceKind.QUEUE:
        shown |= {
            # "This value will be null if an SQS queue is the event source": the AWS CLI reference.
            "LastProcessingResult": mapping.last_result,
            "StartingPosition": mapping.starting_position,
            "StartingPositionTimestamp": mapping.starting_timestamp_s,
            "ParallelizationFactor": mapping.parallelization_factor,
            "BisectBatchOnFunctionError": mapping.bisects_batch,
            "MaximumRetryAttempts": mapping.maximum_retry_attempts,
            "MaximumRecordAgeInSeconds": mapping.maximum_record_age_s,
            "TumblingWindowInSeconds": mapping.tumbling_window_s,
            "DestinationConfig": {"OnFailure": {"Destination": mapping.on_failure} if mapping.on_failure else {}},
        }
    return shown
