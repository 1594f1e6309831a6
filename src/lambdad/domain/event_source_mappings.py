"""Event source mappings: which queue or stream is read for which function, and how.

https://docs.aws.amazon.com/lambda/latest/dg/invocation-eventsourcemapping.html
https://docs.aws.amazon.com/lambda/latest/api/API_CreateEventSourceMapping.html
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass, fields
from typing import Final, TypedDict

from lambdad.domain import destinations, quotas
from lambdad.domain.arns import FunctionReference
from lambdad.domain.errors import InvalidParameterValueException, ResourceNotFoundException, ServiceError
from lambdad.domain.event_source_filters import SourceFilters
from lambdad.domain.record_kinds import RecordKind

QUEUE_BATCH_SIZE_DEFAULT: Final = 10
STREAM_BATCH_SIZE_DEFAULT: Final = 100
RECEIVED_AT_ONCE_MAX: Final = 10
"""Of messages that SQS gives in one answer; larger batches are gathered, for which a mapping has to allow time."""
FILTERS_MAX: Final = 5
"""https://docs.aws.amazon.com/lambda/latest/dg/invocation-eventfiltering.html"""
RECORD_AGE_S_MIN: Final = 60
FOR_EVER: Final = -1
"""As a number of attempts or an age: there is no limit."""

NO_RECORDS: Final = "No records processed"
OK: Final = "OK"
PROBLEM: Final = "PROBLEM: "
CALL_FAILED: Final = f"{PROBLEM}Function call failed"

TRIM_HORIZON: Final = "TRIM_HORIZON"
LATEST_RECORD: Final = "LATEST"
AT_TIMESTAMP: Final = "AT_TIMESTAMP"

_QUEUE_REASON: Final = "USER_INITIATED"
_STREAM_REASON: Final = "User action"
_ARN: Final = re.compile(r"arn:aws[a-zA-Z-]*:([a-z0-9-]+):([a-z0-9-]*):([0-9]{12})?:(.+)")
_STREAM: Final = re.compile(r"stream/([a-zA-Z0-9_.-]{1,128})")
_TABLE_STREAM: Final = re.compile(r"table/([a-zA-Z0-9_.-]{1,255})/stream/(\S+)")
_QUEUE: Final = re.compile(r"[a-zA-Z0-9_-]{1,80}(?:\.fifo)?")
_KNOWN_TO_AWS: Final = frozenset({"kafka", "mq", "rds"})


class ResourceInUseException(ServiceError):
    """The mapping is being deleted."""

    code = "ResourceInUseException"
    status = 400


class SourceKind(enum.Enum):
    """What can be read, by botocore's name of the service."""

    QUEUE = "sqs"
    STREAM = "kinesis"
    TABLE_STREAM = "dynamodbstreams"


class MappingState(enum.Enum):
    """https://docs.aws.amazon.com/lambda/latest/api/API_EventSourceMappingConfiguration.html"""

    CREATING = "Creating"
    ENABLING = "Enabling"
    ENABLED = "Enabled"
    DISABLING = "Disabling"
    DISABLED = "Disabled"
    UPDATING = "Updating"
    DELETING = "Deleting"


@dataclass(frozen=True, slots=True)
class EventSource:
    """A queue or stream, parsed from its ARN."""

    arn: str
    kind: SourceKind
    account_id: str
    region: str
    name: str

    @property
    def is_fifo(self) -> bool:
        return self.kind is SourceKind.QUEUE and self.name.endswith(".fifo")


@dataclass(frozen=True, slots=True, kw_only=True)
class EventSourceMapping:
    """One mapping. Of queues the settings of streams have their defaults, and the other way round."""

    account_id: str
    region: str
    uuid: str
    source_arn: str
    function: FunctionReference
    enabled: bool
    batch_size: int
    created_s: float
    last_modified_s: float
    batching_window_s: int = 0
    filters: tuple[str, ...] = ()
    """Event patterns; a record that matches none of them is not processed."""
    reports_item_failures: bool = False
    maximum_concurrency: int | None = None
    starting_position: str = ""
    starting_timestamp_s: float | None = None
    parallelization_factor: int = 1
    bisects_batch: bool = False
    maximum_retry_attempts: int = FOR_EVER
    maximum_record_age_s: int = FOR_EVER
    tumbling_window_s: int = 0
    on_failure: str = ""
    """The ARN of what is told of records that are given up; empty for nothing."""
    last_result: str = NO_RECORDS
    """What LastProcessingResult says of a stream; AWS shows none of a queue."""
    is_deleting: bool = False

    @property
    def arn(self) -> str:
        return f"arn:aws:lambda:{self.region}:{self.account_id}:event-source-mapping:{self.uuid}"

    @property
    def source(self) -> EventSource:
        return parse_source(self.source_arn)

    @property
    def transition_reason(self) -> str:
        return _QUEUE_REASON if self.source.kind is SourceKind.QUEUE else _STREAM_REASON


EVENT_SOURCE_MAPPINGS: Final = RecordKind(
    "event_source_mapping", EventSourceMapping, lambda mapping: (mapping.account_id, mapping.region, mapping.uuid)
)


class MappingSettings(TypedDict, total=False):
    """What a request sets of an `EventSourceMapping`."""

    enabled: bool
    batch_size: int
    batching_window_s: int
    filters: tuple[str, ...]
    reports_item_failures: bool
    maximum_concurrency: int | None
    starting_position: str
    starting_timestamp_s: float | None
    parallelization_factor: int
    bisects_batch: bool
    maximum_retry_attempts: int
    maximum_record_age_s: int
    tumbling_window_s: int
    on_failure: str


QUEUE_ONLY: Final = ("maximum_concurrency",)
STREAM_ONLY: Final = {
    "starting_position": "StartingPosition",
    "starting_timestamp_s": "StartingPositionTimestamp",
    "parallelization_factor": "ParallelizationFactor",
    "bisects_batch": "BisectBatchOnFunctionError",
    "maximum_retry_attempts": "MaximumRetryAttempts",
    "maximum_record_age_s": "MaximumRecordAgeInSeconds",
    "tumbling_window_s": "TumblingWindowInSeconds",
    "on_failure": "DestinationConfig",
}
"""The settings that queues do not have, with the names of their parameters."""

_DEFAULTS: Final = {field.name: field.default for field in fields(EventSourceMapping)}


def parse_source(arn: str) -> EventSource:
    """What an ARN names. Raises InvalidParameterValueException for what is no event source, or not one of lambdad's."""
    match = _ARN.fullmatch(arn)
    if match is None:
        raise InvalidParameterValueException("Unrecognized event source.")
    service, region, account_id, resource = match[1], match[2], match[3] or "", match[4]
    if service in _KNOWN_TO_AWS:
        raise not_supported(f"An event source of the service {service}")
    if service == "sqs" and _QUEUE.fullmatch(resource):
        return EventSource(arn, SourceKind.QUEUE, account_id, region, resource)
    if service == "kinesis" and resource.startswith("stream/"):
        if "/consumer/" in resource:
            raise not_supported("A stream consumer with enhanced fan-out as event source")
        if stream := _STREAM.fullmatch(resource):
            return EventSource(arn, SourceKind.STREAM, account_id, region, stream[1])
    if service == "dynamodb" and (table := _TABLE_STREAM.fullmatch(resource)):
        return EventSource(arn, SourceKind.TABLE_STREAM, account_id, region, table[1])
    raise InvalidParameterValueException("Unrecognized event source.")


def not_supported(what: str) -> InvalidParameterValueException:
    """A setting or source that AWS has and lambdad has not."""
    return InvalidParameterValueException(f"{what} is not supported by lambdad yet.")


def no_such_mapping() -> ResourceNotFoundException:
    return ResourceNotFoundException("The resource you requested does not exist.")


def check_settings(source: EventSource, settings: MappingSettings) -> None:
    """Whether these settings exist for such a source. Raises InvalidParameterValueException."""
    foreign = QUEUE_ONLY if source.kind is not SourceKind.QUEUE else tuple(STREAM_ONLY)
    given = dict(settings)
    for name in foreign:
        if given.get(name, _DEFAULTS[name]) != _DEFAULTS[name]:
            parameter = STREAM_ONLY.get(name, "ScalingConfig")
            if name == "starting_position":
                raise InvalidParameterValueException(f"Unsupported starting position for arn type: {source.arn}")
            raise InvalidParameterValueException(
                f"Unsupported {parameter} parameter for given event source mapping type."
            )


def check(mapping: EventSourceMapping) -> None:
    """Whether the settings of a mapping go together. Raises InvalidParameterValueException."""
    source = mapping.source
    if source.kind is SourceKind.QUEUE:
        _check_queue(mapping, source)
    else:
        _check_stream(mapping, source)
    if mapping.batch_size > RECEIVED_AT_ONCE_MAX and source.kind is SourceKind.QUEUE and not mapping.batching_window_s:
        raise InvalidParameterValueException(
            "Maximum batch window in seconds must be greater than 0 if maximum batch size is greater than "
            f"{RECEIVED_AT_ONCE_MAX}"
        )
    if len(mapping.filters) > FILTERS_MAX:
        raise InvalidParameterValueException(f"An event source mapping has at most {FILTERS_MAX} filters.")
    SourceFilters(mapping.filters, source.kind.value)


def _check_queue(mapping: EventSourceMapping, source: EventSource) -> None:
    if not source.is_fifo:
        return
    if mapping.batch_size > RECEIVED_AT_ONCE_MAX:
        raise InvalidParameterValueException(
            f"Batch size must be between 1 and {RECEIVED_AT_ONCE_MAX} inclusive for FIFO queues."
        )
    if mapping.batching_window_s:
        raise InvalidParameterValueException("Batching window is not supported for FIFO queues")


def _check_stream(mapping: EventSourceMapping, source: EventSource) -> None:
    if not mapping.starting_position:
        raise InvalidParameterValueException(
            "1 validation error detected: Value null at 'startingPosition' failed to satisfy constraint: "
            "Member must not be null."
        )
    at_timestamp = mapping.starting_position == AT_TIMESTAMP
    if at_timestamp and source.kind is SourceKind.TABLE_STREAM:
        raise InvalidParameterValueException(f"Unsupported starting position for arn type: {source.arn}")
    if at_timestamp != (mapping.starting_timestamp_s is not None):
        raise InvalidParameterValueException(
            "StartingPositionTimestamp is required, and allowed only, with the starting position AT_TIMESTAMP."
        )
    if mapping.maximum_record_age_s != FOR_EVER and mapping.maximum_record_age_s < RECORD_AGE_S_MIN:
        raise InvalidParameterValueException(
            f"MaximumRecordAgeInSeconds must be -1 or at least {RECORD_AGE_S_MIN} seconds."
        )
    if mapping.tumbling_window_s:
        raise not_supported("TumblingWindowInSeconds")
    if mapping.on_failure:
        target = destinations.parse(mapping.on_failure)
        if target.service not in (destinations.SQS, destinations.SNS, destinations.S3):
            raise destinations.invalid(mapping.on_failure)


def check_visibility(visibility_timeout_s: int, function_timeout_s: int) -> None:
    """A message must stay hidden while the function runs. Raises InvalidParameterValueException.

    https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html
    """
    if visibility_timeout_s < function_timeout_s:
        raise InvalidParameterValueException(
            f"Queue visibility timeout: {visibility_timeout_s} seconds is less than Function timeout: "
            f"{function_timeout_s} seconds"
        )


BATCH_BYTES_MAX: Final = quotas.REQUEST_BYTES
"""Of the event that a batch makes: what a synchronous invocation takes."""
