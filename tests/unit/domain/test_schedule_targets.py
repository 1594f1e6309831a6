"""What schedules send: templated and universal targets, context attributes, dead letters; and what no target is."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from botocore.loaders import Loader

from lambdad.domain import schedule_targets
from lambdad.domain.dispatches import Dispatch, DispatchPolicy
from lambdad.domain.errors import ServiceError, ValidationException
from lambdad.domain.neighbour_services import SERVICES
from lambdad.domain.scheduler import GroupKey, ScheduleKey, ScheduleRecord, ScheduleSettings, Target

AT_MS = 1_647_975_583_000  # 2022-03-22T18:59:43Z, the example of AWS's page on context attributes
KEY = ScheduleKey(GroupKey("123456789012", "us-east-1", "default"), "demo")
BASE = "us-east-1:123456789012"
ROLE = "arn:aws:iam::123456789012:role/r"
QUEUE = f"arn:aws:sqs:{BASE}:queue"


def target(arn: str, **more: Any) -> Target:
    return Target(arn, ROLE, **more)


def sent(what: Target) -> Dispatch:
    schedule_targets.check(what)
    record = ScheduleRecord(KEY, ScheduleSettings("rate(1 day)", what), 1, 1)
    return schedule_targets.dispatch(record, AT_MS)


EXECUTION = schedule_targets.execution_id(KEY, AT_MS)


@pytest.mark.parametrize(
    ("what", "service", "operation", "parameters"),
    [
        (target(f"arn:aws:lambda:{BASE}:function:f:live", input="[1]"), "lambda", "", {"Payload": "[1]"}),
        (target(QUEUE, input="text"), "sqs", "SendMessage", {"MessageBody": "text"}),
        (
            target(f"{QUEUE}.fifo", input="text", message_group_id="g", has_sqs_parameters=True),
            "sqs",
            "SendMessage",
            {"MessageBody": "text", "MessageGroupId": "g"},
        ),
        (
            target(f"arn:aws:sns:{BASE}:topic", input="text"),
            "sns",
            "Publish",
            {"TopicArn": f"arn:aws:sns:{BASE}:topic", "Message": "text"},
        ),
        (
            target(f"arn:aws:events:{BASE}:event-bus/orders", input="{}", detail_type="t", event_source="s"),
            "events",
            "PutEvents",
            {
                "Entries": [
                    {
                        "EventBusName": f"arn:aws:events:{BASE}:event-bus/orders",
                        "Source": "s",
                        "DetailType": "t",
                        "Detail": "{}",
                    }
                ]
            },
        ),
        (
            target(f"arn:aws:states:{BASE}:stateMachine:m", input="{}"),
            "stepfunctions",
            "StartExecution",
            {"stateMachineArn": f"arn:aws:states:{BASE}:stateMachine:m", "name": EXECUTION, "input": "{}"},
        ),
        (
            target(f"arn:aws:kinesis:{BASE}:stream/s", input="text", partition_key="k"),
            "kinesis",
            "PutRecord",
            {"StreamARN": f"arn:aws:kinesis:{BASE}:stream/s", "PartitionKey": "k", "Data": "text"},
        ),
        (
            target(f"arn:aws:firehose:{BASE}:deliverystream/d", input="text"),
            "firehose",
            "PutRecord",
            {"DeliveryStreamName": "d", "Record": {"Data": "text"}},
        ),
    ],
)
def test_templated_targets(what: Target, service: str, operation: str, parameters: Any) -> None:
    found = sent(what)
    assert (found.service, found.operation, found.parameters) == (service, operation, parameters)
    assert (found.target, found.source, found.principal) == (what.arn, KEY.arn, "")
    assert (found.account_id, found.region) == ("123456789012", "us-east-1")
    assert found.policy == DispatchPolicy(186, 86_400_000)
    assert found.dead_letter is None
    json.dumps(found.parameters)


def test_universal_targets() -> None:
    request = '{"TableName": "t", "Item": {"id": {"S": "<aws.scheduler.execution-id>"}}}'
    found = sent(
        target(
            "arn:aws:scheduler:::aws-sdk:dynamodb:putItem",
            input=request,
            universal_operation="PutItem",
            universal_request=request,
        )
    )
    assert (found.service, found.operation) == ("dynamodb", "PutItem")
    assert found.parameters == {"TableName": "t", "Item": {"id": {"S": EXECUTION}}}
    assert found.target == "arn:aws:scheduler:::aws-sdk:dynamodb:putItem"


def test_a_universal_message_goes_to_the_queue_that_its_url_names() -> None:
    request = '{"MessageBody": "b", "QueueUrl": "http://127.0.0.1:4566/123456789012/queue", "DelaySeconds": 3}'
    what = target(
        "arn:aws:scheduler:::aws-sdk:sqs:sendMessage", universal_operation="SendMessage", universal_request=request
    )
    found = sent(what)
    assert (found.target, found.parameters) == (QUEUE, {"MessageBody": "b", "DelaySeconds": 3})
    for url in ('""', '"queue"', "1", "null"):
        with pytest.raises(ValidationException):
            sent(replace(what, universal_request=f'{{"QueueUrl": {url}}}'))


def test_a_universal_invocation() -> None:
    def invocation(**request: Any) -> Target:
        return target("arn:aws:scheduler:::aws-sdk:lambda:invoke", universal_request=json.dumps(request))

    found = sent(invocation(FunctionName="demo", Qualifier="live", InvocationType="Event", Payload="[1]"))
    assert (found.service, found.operation) == ("lambda", "")
    assert (found.target, found.parameters) == (f"arn:aws:lambda:{BASE}:function:demo:live", {"Payload": "[1]"})
    for refused in (
        {"FunctionName": "demo"},
        {"FunctionName": "demo", "InvocationType": "RequestResponse"},
        {"InvocationType": "Event"},
        {"FunctionName": "demo", "InvocationType": "Event", "LogType": "Tail"},
        {"FunctionName": "demo", "InvocationType": "Event", "Payload": {}},
        {"FunctionName": "a b", "InvocationType": "Event"},
    ):
        with pytest.raises(ServiceError):
            sent(invocation(**refused))


@pytest.mark.parametrize(
    "arn",
    [
        "queue",
        "arn:aws:sqs:us-east-1:123456789012:",
        "arn:aws:sqs:us-east-1:12:queue",
        "arn:aws:ecs:us-east-1:123456789012:cluster/c",
        "arn:aws:lambda:us-east-1:123456789012:layer:l",
        "arn:aws:events:us-east-1:123456789012:rule/r",
        "arn:aws:kinesis:us-east-1:123456789012:stream/s",
        "arn:aws:scheduler:::aws-sdk:sqs",
        "arn:aws:scheduler:::aws-sdk:sqs:SendMessage",
        "arn:aws:scheduler:::aws-sdk:sqs:getQueueUrl",
        "arn:aws:scheduler:::aws-sdk:sqs:listQueues",
        "arn:aws:scheduler:::aws-sdk:lambda:deleteFunction",
        "arn:aws:scheduler:::aws-sdk:rocket:launch",
        "arn:aws:scheduler:::aws-sdk:events:putEvents",
    ],
)
def test_what_is_no_target(arn: str) -> None:
    with pytest.raises(ValidationException):
        schedule_targets.check(target(arn))


@pytest.mark.parametrize(
    "what",
    [
        target(QUEUE, detail_type="t", event_source="s"),
        target(QUEUE, partition_key="k"),
        target(QUEUE, has_sqs_parameters=True, message_group_id="g"),
        target(f"{QUEUE}.fifo"),
        target(f"arn:aws:sns:{BASE}:topic", has_sqs_parameters=True),
        target(f"arn:aws:events:{BASE}:event-bus/b"),
        target(f"arn:aws:lambda:{BASE}:function:f", input="{"),
        target(f"arn:aws:lambda:{BASE}:function:f", input="[" * 100_000),
        target(f"arn:aws:lambda:{BASE}:function:f", input="NaN"),
        target(QUEUE, input="\ud800"),
        target(QUEUE, input="x" * (256 * 1024 + 1)),
    ],
)
def test_what_does_not_go_with_a_target(what: Target) -> None:
    with pytest.raises(ValidationException):
        schedule_targets.check(what)


def test_context_attributes() -> None:
    text = "<aws.scheduler.schedule-arn> <aws.scheduler.scheduled-time> <aws.scheduler.attempt-number> <aws.other>"
    assert sent(target(QUEUE, input=text)).parameters["MessageBody"] == f"{KEY.arn} 2022-03-22T18:59:43Z 1 <aws.other>"
    ids = {schedule_targets.execution_id(KEY, AT_MS + number) for number in range(100)}
    assert len(ids) == 100
    assert all(len(each) == 16 for each in ids)


def test_what_is_sent_without_an_input() -> None:
    found = json.loads(sent(target(QUEUE)).parameters["MessageBody"])
    assert len(found.pop("id")) == 36
    assert found == {
        "version": "0",
        "detail-type": "Scheduled Event",
        "source": "aws.scheduler",
        "account": "123456789012",
        "time": "2022-03-22T18:59:43Z",
        "region": "us-east-1",
        "resources": [KEY.arn],
        "detail": "{}",
    }


def test_dead_letters() -> None:
    what = target(QUEUE, input="text", dead_letter_arn=f"{QUEUE}-dead", max_attempts=0, max_age_s=60)
    found = sent(what)
    assert found.policy == DispatchPolicy(1, 60_000)
    letter = found.dead_letter
    assert letter is not None
    assert (letter.queue_arn, letter.body) == (f"{QUEUE}-dead", "text")
    assert {name: value["StringValue"] for name, value in letter.attributes.items()} == {
        "EXECUTION_ID": EXECUTION,
        "IS_PAYLOAD_TRUNCATED": "false",
        "SCHEDULED_TIME": "2022-03-22T18:59:43Z",
        "SCHEDULE_ARN": KEY.arn,
        "TARGET_ARN": QUEUE,
    }
    assert set(letter.error_attributes) == {
        "ERROR_CODE",
        "ERROR_MESSAGE",
        "EXHAUSTED_RETRY_CONDITION",
        "RETRY_ATTEMPTS",
    }
    long = sent(replace(what, input="ü" * (128 * 1024))).dead_letter
    assert long is not None
    assert long.attributes["IS_PAYLOAD_TRUNCATED"]["StringValue"] == "true"
    assert len(long.body.encode()) <= 248 * 1024


def test_services_are_called_as_the_sdk_calls_them() -> None:
    loader = Loader()
    for name in SERVICES:
        identifier = loader.load_service_model(name, "service-2")["metadata"]["serviceId"]
        sdk_name = identifier.lower().replace(" ", "").replace("-", "")
        action = "invoke" if name == "lambda" else "create"
        assert schedule_targets.universal(f"arn:aws:scheduler:::aws-sdk:{sdk_name}:{action}") == (name, action)
