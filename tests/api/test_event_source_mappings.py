"""Create-, Get-, List-, Update- and DeleteEventSourceMapping(s), and how each is refused.

https://docs.aws.amazon.com/lambda/latest/api/API_CreateEventSourceMapping.html
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from api_calls import Refusal, new_account, refusal
from daemons import Daemon, create_python
from queued_events import awaited
from shells import Shell

ANSWERS = "def handler(event, context):\n    return None\n"
INVALID = "InvalidParameterValueException"
FUNCTION_TIMEOUT_S = 20
NO_SUCH = Refusal("ResourceNotFoundException", 404, "The resource you requested does not exist.")


@pytest.fixture
def function(aws_lambda: Any, unique: Callable[..., str]) -> str:
    """The ARN of a function."""
    return str(create_python(aws_lambda, unique(), ANSWERS, Timeout=FUNCTION_TIMEOUT_S)["FunctionArn"])


@pytest.fixture(scope="module")
def sqs(shared_daemon: Daemon) -> Any:
    return shared_daemon.client("sqs")


@pytest.fixture(scope="module")
def stream(shared_daemon: Daemon) -> str:
    """The ARN of a stream of Kinesis."""
    kinesis, name = shared_daemon.client("kinesis"), f"s-{uuid.uuid4().hex[:8]}"
    kinesis.create_stream(StreamName=name, ShardCount=1)
    return str(kinesis.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]["StreamARN"])


def queue(sqs: Any, name: str | None = None, **attributes: str) -> str:
    """The ARN of a new queue."""
    url = sqs.create_queue(QueueName=name or f"q-{uuid.uuid4().hex[:8]}", Attributes=attributes)["QueueUrl"]
    return str(sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"])


def await_state(client: Any, mapping_id: str, state: str) -> dict[str, Any]:
    def found() -> dict[str, Any] | None:
        mapping: dict[str, Any] = client.get_event_source_mapping(UUID=mapping_id)
        return mapping if mapping["State"] == state else None

    mapping = awaited(found)
    assert mapping is not None
    return mapping


def without_time(mapping: dict[str, Any]) -> dict[str, Any]:
    varying = ("ResponseMetadata", "LastModified", "State")
    return {name: value for name, value in mapping.items() if name not in varying}


def test_the_life_of_a_mapping(aws_lambda: Any, sqs: Any, function: str) -> None:
    source = queue(sqs)
    created = aws_lambda.create_event_source_mapping(FunctionName=function.rpartition(":")[2], EventSourceArn=source)
    assert created["ResponseMetadata"]["HTTPStatusCode"] == 202
    mapping_id = created["UUID"]
    assert without_time(created) == {
        "UUID": mapping_id,
        "BatchSize": 10,
        "MaximumBatchingWindowInSeconds": 0,
        "EventSourceArn": source,
        "FunctionArn": function,
        "StateTransitionReason": "USER_INITIATED",
        "FunctionResponseTypes": [],
        "EventSourceMappingArn": f"arn:aws:lambda:us-east-1:000000000000:event-source-mapping:{mapping_id}",
    }
    assert created["State"] == "Creating"
    enabled = await_state(aws_lambda, mapping_id, "Enabled")
    assert without_time(enabled) == without_time(created)

    updated = aws_lambda.update_event_source_mapping(
        UUID=mapping_id,
        BatchSize=1000,
        MaximumBatchingWindowInSeconds=1,
        FunctionResponseTypes=["ReportBatchItemFailures"],
        FilterCriteria={"Filters": [{"Pattern": '{"body": {"a": [1]}}'}]},
        ScalingConfig={"MaximumConcurrency": 2},
    )
    assert (updated["State"], updated["ResponseMetadata"]["HTTPStatusCode"]) == ("Updating", 202)
    assert updated["LastModified"] > created["LastModified"]
    enabled = await_state(aws_lambda, mapping_id, "Enabled")
    assert without_time(enabled) == without_time(created) | {
        "BatchSize": 1000,
        "MaximumBatchingWindowInSeconds": 1,
        "FunctionResponseTypes": ["ReportBatchItemFailures"],
        "FilterCriteria": {"Filters": [{"Pattern": '{"body": {"a": [1]}}'}]},
        "ScalingConfig": {"MaximumConcurrency": 2},
    }
    aws_lambda.update_event_source_mapping(
        UUID=mapping_id, FunctionResponseTypes=[], FilterCriteria={}, ScalingConfig={}, Enabled=False
    )
    disabled = await_state(aws_lambda, mapping_id, "Disabled")
    assert not {"FilterCriteria", "ScalingConfig"} & disabled.keys()
    assert disabled["FunctionResponseTypes"] == []
    aws_lambda.update_event_source_mapping(UUID=mapping_id, Enabled=True)
    await_state(aws_lambda, mapping_id, "Enabled")

    deleted = aws_lambda.delete_event_source_mapping(UUID=mapping_id)
    assert (deleted["State"], deleted["ResponseMetadata"]["HTTPStatusCode"]) == ("Deleting", 202)
    awaited(lambda: not aws_lambda.list_event_source_mappings(EventSourceArn=source)["EventSourceMappings"])
    for operation in ("get", "update", "delete"):
        assert refusal(getattr(aws_lambda, f"{operation}_event_source_mapping"), UUID=mapping_id) == NO_SUCH


def test_a_mapping_of_a_stream_shows_its_settings(aws_lambda: Any, stream: str, function: str) -> None:
    created = aws_lambda.create_event_source_mapping(
        FunctionName=function, EventSourceArn=stream, StartingPosition="TRIM_HORIZON", Enabled=False
    )
    assert created["State"] == "Disabled"
    assert without_time(created) == {
        "UUID": created["UUID"],
        "LastProcessingResult": "No records processed",
        "StartingPosition": "TRIM_HORIZON",
        "BatchSize": 100,
        "MaximumBatchingWindowInSeconds": 0,
        "ParallelizationFactor": 1,
        "EventSourceArn": stream,
        "FunctionArn": function,
        "StateTransitionReason": "User action",
        "DestinationConfig": {"OnFailure": {}},
        "MaximumRecordAgeInSeconds": -1,
        "BisectBatchOnFunctionError": False,
        "MaximumRetryAttempts": -1,
        "TumblingWindowInSeconds": 0,
        "FunctionResponseTypes": [],
        "EventSourceMappingArn": created["EventSourceMappingArn"],
    }
    destination = {"OnFailure": {"Destination": "arn:aws:sqs:us-east-1:000000000000:letters"}}
    changes = {
        "ParallelizationFactor": 3,
        "DestinationConfig": destination,
        "MaximumRecordAgeInSeconds": 60,
        "BisectBatchOnFunctionError": True,
        "MaximumRetryAttempts": 0,
    }
    updated = aws_lambda.update_event_source_mapping(UUID=created["UUID"], **changes)
    assert without_time(updated) == without_time(created) | changes
    aws_lambda.delete_event_source_mapping(UUID=created["UUID"])


def test_mappings_are_listed_by_source_and_by_function(
    shared_daemon: Daemon, sqs: Any, unique: Callable[..., str]
) -> None:
    account_id = new_account()
    client, own_sqs = (shared_daemon.client(service, account_id=account_id) for service in ("lambda", "sqs"))
    names = [unique(), unique()]
    for name in names:
        create_python(client, name, ANSWERS, Publish=True)
    queues = [queue(own_sqs) for _ in range(3)]
    ids = {}
    for name in names:
        for source in queues:
            made = client.create_event_source_mapping(FunctionName=name, EventSourceArn=source, Enabled=False)
            ids[name, source] = made["UUID"]
    versioned = client.create_event_source_mapping(
        FunctionName=f"{names[0]}:1", EventSourceArn=queues[0], Enabled=False
    )["UUID"]

    def listed(**parameters: Any) -> set[str]:
        pages = client.get_paginator("list_event_source_mappings").paginate(
            PaginationConfig={"PageSize": 2}, **parameters
        )
        found = [each["UUID"] for page in pages for each in page["EventSourceMappings"]]
        assert len(found) == len(set(found))
        return set(found)

    assert listed() == {*ids.values(), versioned}
    of_first = {ids[names[0], source] for source in queues}
    assert listed(FunctionName=names[0]) == of_first | {versioned}
    assert listed(FunctionName=f"{names[0]}:1") == {versioned}
    assert listed(EventSourceArn=queues[1]) == {ids[name, queues[1]] for name in names}
    assert listed(EventSourceArn=queues[1], FunctionName=names[0]) == {ids[names[0], queues[1]]}
    assert listed(FunctionName="nobody") == set()
    other = shared_daemon.client("lambda", account_id=new_account())
    assert refusal(other.get_event_source_mapping, UUID=versioned) == NO_SUCH


def test_one_mapping_for_a_function_and_a_source(aws_lambda: Any, sqs: Any, stream: str, function: str) -> None:
    source, name = queue(sqs), function.rpartition(":")[2]
    first = aws_lambda.create_event_source_mapping(FunctionName=name, EventSourceArn=source, Enabled=False)["UUID"]
    assert refusal(aws_lambda.create_event_source_mapping, FunctionName=function, EventSourceArn=source) == Refusal(
        "ResourceConflictException",
        409,
        f'An event source mapping with SQS arn (" {source} ") and function (" {name} ") already exists. '
        f"Please update or delete the existing mapping with UUID {first}",
    )
    of_stream = {"FunctionName": name, "EventSourceArn": stream, "StartingPosition": "LATEST", "Enabled": False}
    first = aws_lambda.create_event_source_mapping(**of_stream)["UUID"]
    assert refusal(aws_lambda.create_event_source_mapping, **of_stream) == Refusal(
        "ResourceConflictException",
        409,
        f'The event source arn (" {stream} ") and function (" {name} ") provided mapping already exists. '
        f"Please update or delete the existing mapping with UUID {first}",
    )


def test_what_is_no_source_is_refused(aws_lambda: Any, function: str) -> None:
    def refused(arn: str, **options: Any) -> Refusal:
        return refusal(aws_lambda.create_event_source_mapping, FunctionName=function, EventSourceArn=arn, **options)

    place = "us-east-1:000000000000"
    assert refused(f"arn:aws:sqs:{place}:none") == Refusal(
        INVALID,
        400,
        "Error occurred while ReceiveMessage. SQS Error Code: AWS.SimpleQueueService.NonExistentQueue. "
        "SQS Error Message: The specified queue does not exist.",
    )
    for arn in (f"arn:aws:kinesis:{place}:stream/none", f"arn:aws:dynamodb:{place}:table/none/stream/2026"):
        assert refused(arn, StartingPosition="LATEST") == Refusal(INVALID, 400, f"Stream not found: {arn}")
    assert refused("arn:aws:s3:::bucket") == Refusal(INVALID, 400, "Unrecognized event source.")
    kafka = refused(f"arn:aws:kafka:{place}:cluster/c/1", StartingPosition="LATEST")
    assert kafka == Refusal(INVALID, 400, "An event source of the service kafka is not supported by lambdad yet.")
    foreign = refused("arn:aws:sqs:us-east-1:111122223333:q")
    assert foreign == Refusal(INVALID, 400, "An event source of another account is not supported by lambdad yet.")
    elsewhere = refused("arn:aws:sqs:eu-west-1:000000000000:q")
    assert (elsewhere.code, "must be in the same region" in elsewhere.message) == (INVALID, True)
    missing = refusal(aws_lambda.create_event_source_mapping, FunctionName=function)
    assert missing == Refusal(INVALID, 400, "Unrecognized event source.")


def test_a_function_that_is_not_there_is_refused(aws_lambda: Any, sqs: Any) -> None:
    refused = refusal(aws_lambda.create_event_source_mapping, FunctionName="nobody", EventSourceArn=queue(sqs))
    assert refused == Refusal(INVALID, 400, "Function does not exist")


def test_a_queue_must_hide_messages_as_long_as_the_function_runs(aws_lambda: Any, sqs: Any, function: str) -> None:
    source = queue(sqs, VisibilityTimeout=str(FUNCTION_TIMEOUT_S - 1))
    refused = refusal(aws_lambda.create_event_source_mapping, FunctionName=function, EventSourceArn=source)
    message = f"Queue visibility timeout: {FUNCTION_TIMEOUT_S - 1} seconds is less than Function timeout: 20 seconds"
    assert refused == Refusal(INVALID, 400, message)


def settings_of_queues() -> list[Any]:
    twelve = {"Filters": [{"Pattern": "{}"}] * 6}
    return [
        pytest.param({"BatchSize": 11}, "Maximum batch window in seconds must be greater than 0", id="batch"),
        pytest.param({"StartingPosition": "LATEST"}, "Unsupported starting position for arn type", id="position"),
        pytest.param({"ParallelizationFactor": 2}, "Unsupported ParallelizationFactor parameter", id="factor"),
        pytest.param({"MaximumRetryAttempts": 0}, "Unsupported MaximumRetryAttempts parameter", id="attempts"),
        pytest.param({"BisectBatchOnFunctionError": True}, "Unsupported BisectBatchOnFunctionError", id="bisect"),
        pytest.param(
            {"DestinationConfig": {"OnFailure": {"Destination": "arn:aws:sqs:us-east-1:000000000000:q"}}},
            "Unsupported DestinationConfig parameter for given event source mapping type.",
            id="destination",
        ),
        pytest.param({"FilterCriteria": {"Filters": [{"Pattern": "{"}]}}, "Invalid filter pattern", id="filter"),
        pytest.param({"FilterCriteria": {"Filters": [{}]}}, "Invalid filter pattern definition.", id="no-filter"),
        pytest.param({"FilterCriteria": twelve}, "at most 5 filters", id="filters"),
        pytest.param(
            {"ProvisionedPollerConfig": {"MinimumPollers": 2}}, "ProvisionedPollerConfig is not", id="provisioned"
        ),
        pytest.param({"MetricsConfig": {"Metrics": ["EventCount"]}}, "MetricsConfig is not supported", id="metrics"),
        pytest.param({"KMSKeyArn": "arn:aws:kms:us-east-1:000000000000:key/k"}, "KMSKeyArn is not", id="key"),
        pytest.param({"Topics": ["topic"]}, "Topics is not supported by lambdad yet.", id="topics"),
    ]


@pytest.mark.parametrize(("settings", "message"), settings_of_queues())
def test_settings_that_a_queue_does_not_have(
    aws_lambda: Any, sqs: Any, function: str, settings: dict[str, Any], message: str
) -> None:
    refused = refusal(
        aws_lambda.create_event_source_mapping, FunctionName=function, EventSourceArn=queue(sqs), **settings
    )
    assert (refused.code, refused.status) == (INVALID, 400)
    assert message in refused.message


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "Value null at 'startingPosition' failed to satisfy constraint: Member must not be null."),
        ({"StartingPosition": "AT_TIMESTAMP"}, "StartingPositionTimestamp is required"),
        ({"StartingPosition": "LATEST", "StartingPositionTimestamp": 1.0}, "StartingPositionTimestamp is required"),
        ({"StartingPosition": "LATEST", "ScalingConfig": {"MaximumConcurrency": 2}}, "Unsupported ScalingConfig"),
        ({"StartingPosition": "LATEST", "MaximumRecordAgeInSeconds": 59}, "must be -1 or at least 60"),
        ({"StartingPosition": "LATEST", "TumblingWindowInSeconds": 1}, "TumblingWindowInSeconds is not supported"),
        (
            {"StartingPosition": "LATEST", "DestinationConfig": {"OnFailure": {"Destination": "arn:aws:s3:::B"}}},
            "The destination ARN arn:aws:s3:::B is invalid.",
        ),
    ],
)
def test_settings_that_a_stream_does_not_have(
    aws_lambda: Any, stream: str, function: str, settings: dict[str, Any], message: str
) -> None:
    refused = refusal(aws_lambda.create_event_source_mapping, FunctionName=function, EventSourceArn=stream, **settings)
    assert (refused.code, refused.status) == (INVALID, 400)
    assert message in refused.message


def test_settings_of_a_fifo_queue(aws_lambda: Any, sqs: Any, function: str) -> None:
    source = queue(sqs, f"q-{uuid.uuid4().hex[:8]}.fifo", FifoQueue="true")

    def refused(**settings: Any) -> Refusal:
        return refusal(aws_lambda.create_event_source_mapping, FunctionName=function, EventSourceArn=source, **settings)

    window = refused(MaximumBatchingWindowInSeconds=1)
    assert window == Refusal(INVALID, 400, "Batching window is not supported for FIFO queues")
    assert refused(BatchSize=11).code == INVALID


def test_mappings_on_the_command_line(shared_daemon: Daemon, sqs: Any, function: str, tmp_path: Path) -> None:
    shell, source = Shell(shared_daemon, tmp_path), queue(sqs)
    made = shell.json(f"aws lambda create-event-source-mapping --function-name {function} --event-source-arn {source}")
    mapping_id = made["UUID"]
    filters = json.dumps({"Filters": [{"Pattern": '{"body":["x"]}'}]})
    shell(f"aws lambda update-event-source-mapping --uuid {mapping_id} --filter-criteria '{filters}'")
    got = shell.json(f"aws lambda get-event-source-mapping --uuid {mapping_id}")
    assert got["FilterCriteria"] == json.loads(filters)
    listed = shell.json(f"aws lambda list-event-source-mappings --event-source-arn {source}")
    assert [each["UUID"] for each in listed["EventSourceMappings"]] == [mapping_id]
    deleted = shell.json(f"aws lambda delete-event-source-mapping --uuid {mapping_id}")
    assert deleted["State"] == "Deleting"


def test_the_tags_of_a_mapping(aws_lambda: Any, sqs: Any, function: str) -> None:
    made = aws_lambda.create_event_source_mapping(
        FunctionName=function, EventSourceArn=queue(sqs), Tags={"team": "a"}, Enabled=False
    )
    arn = made["EventSourceMappingArn"]
    aws_lambda.tag_resource(Resource=arn, Tags={"stage": "b"})
    assert aws_lambda.list_tags(Resource=arn)["Tags"] == {"team": "a", "stage": "b"}
    aws_lambda.delete_event_source_mapping(UUID=made["UUID"])
    awaited(lambda: not aws_lambda.list_event_source_mappings(FunctionName=function)["EventSourceMappings"])
    assert refusal(aws_lambda.list_tags, Resource=arn).code == "ResourceNotFoundException"
