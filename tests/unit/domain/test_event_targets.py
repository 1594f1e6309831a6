"""Targets: which are let in, and the dispatches that they get.

https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-targets.html
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from lambdad.domain.dispatches import DispatchPolicy
from lambdad.domain.errors import ServiceError
from lambdad.domain.event_buses import BusKey
from lambdad.domain.event_targets import (
    RESOURCE_GONE,
    Delivery,
    UnsupportedTarget,
    log_stream,
    read_target,
    sender,
    shown_target,
    undeliverable,
)
from lambdad.domain.input_transformers import to_json

ACCOUNT, REGION = "111122223333", "us-east-1"
BUS = BusKey(ACCOUNT, REGION, "default")
RULE = BUS.rule_arn("r")
ROLE = f"arn:aws:iam::{ACCOUNT}:role/r"
EVENT = {
    "version": "0",
    "id": "6a7e8feb-b491-4cf7-a9f1-bf3703467718",
    "detail-type": "Order",
    "source": "shop",
    "account": ACCOUNT,
    "time": "2023-11-14T22:13:20Z",
    "region": REGION,
    "resources": [],
    "detail": {"order": "o-1", "count": 2},
}
NOW_MS = 1_700_000_000_000
DELIVERY = Delivery(RULE, "r", BUS, EVENT, NOW_MS, to_json(EVENT))


def arn(service: str, resource: str, account: str = ACCOUNT) -> str:
    return f"arn:aws:{service}:{REGION}:{account}:{resource}"


FUNCTION, QUEUE = arn("lambda", "function:f"), arn("sqs", "q")


def refused(given: dict[str, Any]) -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        read_target({"Id": "t", **given}, BUS)
    return caught.value


def parameters(given: dict[str, Any]) -> Any:
    return sender(read_target({"Id": "t", **given}, BUS))(DELIVERY).parameters


def test_a_function_gets_the_event() -> None:
    dispatch = sender(read_target({"Id": "t", "Arn": f"{FUNCTION}:live"}, BUS))(DELIVERY)
    assert (dispatch.service, dispatch.target) == ("lambda", f"{FUNCTION}:live")
    assert json.loads(dispatch.parameters["Payload"]) == EVENT
    assert (dispatch.source, dispatch.principal) == (RULE, "events.amazonaws.com")
    assert (dispatch.account_id, dispatch.region) == (ACCOUNT, REGION)
    assert dispatch.policy == DispatchPolicy(186, 24 * 3600 * 1000)
    assert dispatch.dead_letter is None


@pytest.mark.parametrize(
    ("given", "service", "operation", "expected"),
    [
        ({"Arn": QUEUE}, "sqs", "SendMessage", {"MessageBody": DELIVERY.text}),
        (
            {"Arn": f"{QUEUE}.fifo", "SqsParameters": {"MessageGroupId": "g"}},
            "sqs",
            "SendMessage",
            {"MessageBody": DELIVERY.text, "MessageGroupId": "g"},
        ),
        (
            {"Arn": arn("sns", "topic")},
            "sns",
            "Publish",
            {"TopicArn": arn("sns", "topic"), "Message": DELIVERY.text},
        ),
        (
            {"Arn": arn("kinesis", "stream/s"), "RoleArn": ROLE},
            "kinesis",
            "PutRecord",
            {"StreamARN": arn("kinesis", "stream/s"), "Data": DELIVERY.text, "PartitionKey": EVENT["id"]},
        ),
        (
            {
                "Arn": arn("kinesis", "stream/s"),
                "RoleArn": ROLE,
                "KinesisParameters": {"PartitionKeyPath": "$.detail.order"},
            },
            "kinesis",
            "PutRecord",
            {"StreamARN": arn("kinesis", "stream/s"), "Data": DELIVERY.text, "PartitionKey": "o-1"},
        ),
        (
            {"Arn": arn("firehose", "deliverystream/s"), "RoleArn": ROLE},
            "firehose",
            "PutRecord",
            {"DeliveryStreamName": "s", "Record": {"Data": DELIVERY.text}},
        ),
        (
            {"Arn": arn("logs", "log-group:/aws/events/g:*")},
            "logs",
            "PutLogEvents",
            {
                "logGroupName": "/aws/events/g",
                "logStreamName": log_stream(RULE),
                "logEvents": [{"timestamp": NOW_MS, "message": DELIVERY.text}],
            },
        ),
        (
            {
                "Arn": arn("logs", "log-group:/aws/events/g"),
                "InputTransformer": {
                    "InputPathsMap": {"o": "$.detail.order"},
                    "InputTemplate": '{"timestamp": 1700000000001, "message": "order <o>"}',
                },
            },
            "logs",
            "PutLogEvents",
            {
                "logGroupName": "/aws/events/g",
                "logStreamName": log_stream(RULE),
                "logEvents": [{"timestamp": 1_700_000_000_001, "message": "order o-1"}],
            },
        ),
    ],
)
def test_the_calls_of_other_targets(given: dict[str, Any], service: str, operation: str, expected: Any) -> None:
    dispatch = sender(read_target({"Id": "t", **given}, BUS))(DELIVERY)
    assert (dispatch.service, dispatch.operation) == (service, operation)
    assert dispatch.parameters == expected


def test_an_execution_has_the_same_name_when_it_is_started_again() -> None:
    machine = arn("states", "stateMachine:m")
    first, second = (parameters({"Arn": machine, "RoleArn": ROLE}) for _ in range(2))
    assert first == second
    assert (first["stateMachineArn"], first["input"]) == (machine, DELIVERY.text)
    assert first["name"].startswith(f"{EVENT['id']}_")
    assert len(first["name"]) <= 80
    assert first["name"] != parameters({"Id": "other", "Arn": machine, "RoleArn": ROLE})["name"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"Input": '{"a": 1}'}, {"a": 1}),
        ({"InputPath": "$.detail"}, {"order": "o-1", "count": 2}),
        ({"InputPath": "$.detail.order"}, "o-1"),
        ({"InputPath": "$.none"}, {}),
        (
            {"InputTransformer": {"InputPathsMap": {"n": "$.detail.count"}, "InputTemplate": '{"n": <n>}'}},
            {"n": 2},
        ),
    ],
)
def test_what_is_sent_in_place_of_the_event(given: dict[str, Any], expected: Any) -> None:
    assert json.loads(parameters({"Arn": FUNCTION, **given})["Payload"]) == expected


def test_a_constant_is_sent_as_it_was_put() -> None:
    assert parameters({"Arn": FUNCTION, "Input": '{ "a" :1 }'})["Payload"] == '{ "a" :1 }'


def test_the_policy_and_the_dead_letter_are_those_of_the_target() -> None:
    dead = arn("sqs", "dead")
    given = {
        "Arn": FUNCTION,
        "Input": '"x"',
        "RetryPolicy": {"MaximumRetryAttempts": 0, "MaximumEventAgeInSeconds": 60},
        "DeadLetterConfig": {"Arn": dead},
    }
    dispatch = sender(read_target({"Id": "t", **given}, BUS))(DELIVERY)
    assert dispatch.policy == DispatchPolicy(1, 60_000)
    letter = dispatch.dead_letter
    assert letter is not None
    # The event, and not the target's input: so it can be put again.
    assert (letter.queue_arn, letter.body) == (dead, DELIVERY.text)
    assert letter.attributes == {
        "RULE_ARN": {"DataType": "String", "StringValue": RULE},
        "TARGET_ARN": {"DataType": "String", "StringValue": FUNCTION},
    }
    assert set(letter.error_attributes) == {
        "ERROR_CODE",
        "ERROR_MESSAGE",
        "EXHAUSTED_RETRY_CONDITION",
        "RETRY_ATTEMPTS",
    }


def test_what_another_bus_does_not_take_goes_to_the_dead_letter_queue() -> None:
    bus = arn("events", "event-bus/b")
    assert undeliverable(read_target({"Id": "t", "Arn": bus}, BUS), DELIVERY, RESOURCE_GONE) is None
    target = read_target({"Id": "t", "Arn": bus, "DeadLetterConfig": {"Arn": QUEUE}}, BUS)
    dispatch = undeliverable(target, DELIVERY, RESOURCE_GONE)
    assert dispatch is not None
    assert (dispatch.target, dispatch.operation) == (QUEUE, "SendMessage")
    assert dispatch.parameters["MessageBody"] == DELIVERY.text
    attributes = {name: value["StringValue"] for name, value in dispatch.parameters["MessageAttributes"].items()}
    assert attributes == {
        "RULE_ARN": RULE,
        "TARGET_ARN": bus,
        "ERROR_CODE": "NO_RESOURCE",
        "ERROR_MESSAGE": "The resource does not exist.",
        "RETRY_ATTEMPTS": "0",
    }


NOT_AN_ARN = "Reason: Provided Arn is not in correct format."


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"Arn": "q"}, f"Parameter q is not valid. {NOT_AN_ARN}"),
        ({"Arn": arn("lambda", "layer:f")}, f"Parameter {arn('lambda', 'layer:f')} is not valid. {NOT_AN_ARN}"),
        ({"Arn": "arn:aws:sqs:us-east-1::q"}, f"Parameter arn:aws:sqs:us-east-1::q is not valid. {NOT_AN_ARN}"),
        (
            {"Arn": arn("states", "stateMachine:m")},
            f"RoleArn is required for target {arn('states', 'stateMachine:m')}.",
        ),
        ({"Arn": f"{QUEUE}.fifo"}, "Parameter(s) SqsParameters must be specified for target: t."),
        (
            {"Arn": QUEUE, "SqsParameters": {"MessageGroupId": "g"}},
            "Parameter(s) SqsParameters not valid for target: t.",
        ),
        (
            {"Arn": FUNCTION, "EcsParameters": {"TaskDefinitionArn": "x"}},
            "Parameter(s) EcsParameters not supported for target: t.",
        ),
        (
            {"Arn": FUNCTION, "KinesisParameters": {"PartitionKeyPath": "$.id"}},
            "Parameter(s) KinesisParameters not supported for target: t.",
        ),
        (
            {"Arn": FUNCTION, "Input": "{a}"},
            'JSON syntax error in input for target t: [Source: (String)"{a}"; line: 1, column: 2]',
        ),
        ({"Arn": FUNCTION, "InputPath": "detail"}, "Invalid JSONPath for target t: detail does not begin with $."),
        (
            {"Arn": FUNCTION, "InputTransformer": {"InputTemplate": "<a>"}},
            "InputTemplate for target t contains invalid placeholder a.",
        ),
        (
            {"Arn": FUNCTION, "InputTransformer": {"InputTemplate": "a b"}},
            'Invalid InputTemplate for target t : [Source: (String)"a b"; line: 1, column: 1]',
        ),
        (
            {"Arn": FUNCTION, "Input": "1", "InputPath": "$"},
            "Only one of Input, InputPath, or InputTransformer must be provided for target t.",
        ),
        (
            {"Arn": arn("events", "event-bus/b"), "Input": "1"},
            f"Input is not supported for target {arn('events', 'event-bus/b')}: buses get events as they are.",
        ),
        (
            {"Arn": FUNCTION, "DeadLetterConfig": {"Arn": f"{QUEUE}.fifo"}},
            "Parameter DeadLetterConfig.Arn is not valid for target t. Reason: It must be the ARN of a standard SQS "
            "queue in the region of the rule.",
        ),
    ],
)
def test_what_is_refused(given: dict[str, Any], message: str) -> None:
    error = refused(given)
    assert not isinstance(error, UnsupportedTarget)
    assert (error.code, error.message) == ("ValidationException", message)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"Arn": arn("ecs", "cluster/c")}, "Targets of the service ecs are not supported by lambdad."),
        (
            {"Arn": arn("logs", "log-group:g", "999999999999")},
            "A log group must be in the account and region of the rule.",
        ),
    ],
)
def test_what_cannot_be_served(given: dict[str, Any], message: str) -> None:
    error = refused(given)
    assert isinstance(error, UnsupportedTarget)
    assert error.message == message


@pytest.mark.parametrize(
    "given",
    [
        {"Arn": FUNCTION},
        {"Arn": FUNCTION, "Input": "1", "RoleArn": ROLE, "RetryPolicy": {"MaximumRetryAttempts": 0}},
        {"Arn": FUNCTION, "InputPath": "$.detail", "DeadLetterConfig": {"Arn": QUEUE}},
        {"Arn": FUNCTION, "InputTransformer": {"InputPathsMap": {"a": "$.a"}, "InputTemplate": "<a>"}},
        {"Arn": f"{QUEUE}.fifo", "SqsParameters": {"MessageGroupId": "g"}},
        {
            "Arn": arn("kinesis", "stream/s"),
            "RoleArn": ROLE,
            "KinesisParameters": {"PartitionKeyPath": "$.id"},
            "RetryPolicy": {"MaximumRetryAttempts": 1, "MaximumEventAgeInSeconds": 60},
        },
    ],
)
def test_a_target_is_shown_as_it_was_put(given: dict[str, Any]) -> None:
    assert shown_target(read_target({"Id": "t", **given}, BUS)) == {"Id": "t", **given}
