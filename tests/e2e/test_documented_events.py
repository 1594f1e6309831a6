"""The events of rules, schedules, functions and log groups, key by key, as AWS documents them.

What becomes of asynchronous invocations is in test_event_destinations.py and test_dead_letter_config.py too.
"""

from __future__ import annotations

import base64
import gzip
import json
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from daemons import ROLE, Daemon
from documented_events import ACCOUNT, EXECUTION_ID, MILLISECONDS, REGION, SECONDS, UUID, Source, assert_like

FAILS = """
def handler(event, context):
    raise ValueError("no luck")
"""
A_MINUTE_S = 90.0


@pytest.fixture
def source(shared_daemon: Daemon, unique: Callable[[str], str]) -> Source:
    return Source(shared_daemon, unique("sample"))


@pytest.fixture(scope="module", autouse=True)
def scheduled(shared_daemon: Daemon) -> Source:
    """A function with a rule of every minute: it is made first, so that nobody has to wait for it long."""
    made = Source(shared_daemon, "my-schedule")
    made.make_function("events")
    made.make_rule(made.function_arn, ScheduleExpression="rate(1 minute)")
    return made


# Rules: https://docs.aws.amazon.com/lambda/latest/dg/services-cloudwatchevents.html, and of events in general
# https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-events.html

SCHEDULED = {
    "version": "0",
    "account": "123456789012",
    "region": "us-east-2",
    "detail": {},
    "detail-type": "Scheduled Event",
    "source": "aws.events",
    "time": "2019-03-01T01:23:45Z",
    "id": "cdc73f9d-aea9-11e3-9d5a-835b769c0d9c",
    "resources": ["arn:aws:events:us-east-2:123456789012:rule/my-schedule"],
}
CUSTOM = {
    "version": "0",
    "id": "fe8d3c65-xmpl-c5c3-2c87-81584709a377",
    "detail-type": "RDS DB Instance Event",
    "source": "my.rds",
    "account": "123456789012",
    "time": "2020-04-28T07:20:20Z",
    "region": "us-east-2",
    "resources": ["arn:aws:rds:us-east-2:123456789012:db:rdz6xmpliljlb1"],
    "detail": {
        "EventCategories": ["backup"],
        "SourceType": "DB_INSTANCE",
        "SourceArn": "arn:aws:rds:us-east-2:123456789012:db:rdz6xmpliljlb1",
        "Date": "2020-04-28T07:20:20.112Z",
        "Message": "Finished DB Instance backup",
        "SourceIdentifier": "rdz6xmpliljlb1",
    },
}
"""With a source that does not begin with "aws.", which is reserved."""
OF_EVENTS = {"id": UUID, "account": ACCOUNT, "region": REGION}


def put_custom_event(source: Source) -> str:
    """Put the sample; returns its id."""
    entry = {
        "Source": CUSTOM["source"],
        "DetailType": CUSTOM["detail-type"],
        "Resources": CUSTOM["resources"],
        "Time": CUSTOM["time"],
        "Detail": json.dumps({**CUSTOM["detail"], "SourceIdentifier": source.name}),  # type: ignore[dict-item]
    }
    (put,) = source.client("events").put_events(Entries=[entry])["Entries"]
    return str(put["EventId"])


def test_an_event_of_ones_own(source: Source) -> None:
    source.make_function("events")
    pattern = {"source": ["my.rds"], "detail": {"SourceIdentifier": [source.name]}}
    source.make_rule(source.function_arn, EventPattern=json.dumps(pattern))
    event_id = put_custom_event(source)
    event = source.got()
    assert_like(event, CUSTOM, {**OF_EVENTS, "SourceIdentifier": source.name})
    assert event["id"] == event_id


# Messages of dead-letter queues: https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rule-dlq.html lists the
# attributes; EXHAUSTED_RETRY_CONDITION is there when a retry policy was exhausted, which it is not here.


def texts(message: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {name: (each["DataType"], each["StringValue"]) for name, each in message["MessageAttributes"].items()}


def test_what_a_rule_could_not_deliver(source: Source) -> None:
    rule = source.make_rule(EventPattern=json.dumps({"detail": {"SourceIdentifier": [source.name]}}))
    events, gone = source.client("events"), f"{source.queue.arn}-gone"
    target = {"Id": "1", "Arn": gone, "InputPath": "$.detail", "DeadLetterConfig": {"Arn": source.queue.arn}}
    events.put_targets(Rule=source.name, Targets=[target])
    event_id = put_custom_event(source)
    (letter,) = source.queue.await_messages(1)
    # The event, whatever the target was to get of it.
    event = json.loads(letter["Body"])
    assert_like(event, CUSTOM, {**OF_EVENTS, "SourceIdentifier": source.name})
    assert event["id"] == event_id
    told = texts(letter)
    assert told.pop("ERROR_MESSAGE")[0] == "String"
    assert told == {
        "RULE_ARN": ("String", rule),
        "TARGET_ARN": ("String", gone),
        "ERROR_CODE": ("String", "NO_RESOURCE"),
        "RETRY_ATTEMPTS": ("Number", "0"),
    }


# Scheduler: https://docs.aws.amazon.com/scheduler/latest/UserGuide/managing-schedule-context-attributes.html and
# https://docs.aws.amazon.com/scheduler/latest/UserGuide/configuring-schedule-dlq.html

SCHEDULE_NOTIFICATION = {
    **SCHEDULED,
    "source": "aws.scheduler",
    "resources": ["arn:aws:scheduler:us-east-2:123456789012:schedule/default/my-schedule"],
    "detail": "{}",
}


def schedule(source: Source, arn: str, **target: Any) -> str:
    """A schedule that is due in a moment; returns its time as events have it."""
    due = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=2)
    source.client("scheduler").create_schedule(
        Name=source.name,
        ScheduleExpression=due.strftime("at(%Y-%m-%dT%H:%M:%S)"),
        FlexibleTimeWindow={"Mode": "OFF"},
        Target={"Arn": arn, "RoleArn": ROLE, **target},
    )
    return due.strftime("%Y-%m-%dT%H:%M:%SZ")


def schedule_arn(source: Source) -> str:
    return f"arn:aws:scheduler:{REGION}:{ACCOUNT}:schedule/default/{source.name}"


def test_the_notification_of_a_schedule(source: Source) -> None:
    source.make_function("scheduler")
    due = schedule(source, source.function_arn)
    varying = {**OF_EVENTS, "time": due, "resources": [schedule_arn(source)]}
    assert_like(source.got(), SCHEDULE_NOTIFICATION, varying)


def test_the_context_attributes_of_a_schedule(source: Source) -> None:
    names = ("schedule-arn", "scheduled-time", "execution-id", "attempt-number")
    due = schedule(source, source.queue.arn, Input=json.dumps({name: f"<aws.scheduler.{name}>" for name in names}))
    (sent,) = source.queue.bodies(1)
    sample = {
        "schedule-arn": "arn:aws:scheduler:us-west-2:123456789012:schedule/default/your-schedule",
        "scheduled-time": "2022-03-22T18:59:43Z",
        "execution-id": "d32c5kddcf5bb8c3",
        "attempt-number": "1",
    }
    formats = {
        "schedule-arn": schedule_arn(source),
        "scheduled-time": due,
        "execution-id": re.compile(r"[0-9a-z]{16}"),
    }
    assert_like(sent, sample, formats)
    assert EXECUTION_ID.fullmatch(sent["execution-id"])


def test_what_a_schedule_could_not_deliver(source: Source) -> None:
    gone = f"{source.queue.arn}-gone"
    due = schedule(source, gone, Input="Hello", DeadLetterConfig={"Arn": source.queue.arn})
    (letter,) = source.queue.await_messages(1)
    assert letter["Body"] == "Hello"
    told = texts(letter)
    assert EXECUTION_ID.fullmatch(told.pop("EXECUTION_ID")[1])
    assert told.pop("ERROR_CODE")[1]
    assert told.pop("ERROR_MESSAGE")[1]
    assert told == {
        "IS_PAYLOAD_TRUNCATED": ("String", "false"),
        "RETRY_ATTEMPTS": ("Number", "0"),
        "SCHEDULED_TIME": ("String", due),
        "SCHEDULE_ARN": ("String", schedule_arn(source)),
        "TARGET_ARN": ("String", gone),
    }


# What functions have done: https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html

FAILED_INVOCATION: dict[str, Any] = {
    "version": "1.0",
    "timestamp": "2019-11-14T18:16:05.568Z",
    "requestContext": {
        "requestId": "e4b46cbf-b738-xmpl-8880-a18cdf61200e",
        "functionArn": "arn:aws:lambda:us-east-2:123456789012:function:my-function:$LATEST",
        "condition": "RetriesExhausted",
        "approximateInvokeCount": 3,
    },
    "requestPayload": {"ORDER_IDS": ["9e07af03-ce31-4ff3-xmpl-36dce652cb4f"]},
    "responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"},
    "responsePayload": {"errorMessage": "no luck", "errorType": "ValueError", "requestId": "", "stackTrace": []},
}
"""The payload is Python's, where the page's function was killed."""


def test_a_failed_invocation_on_a_bus(source: Source) -> None:
    source.make_function("lambda", FAILS)
    pattern = {"source": ["lambda"], "resources": [{"prefix": source.function_arn}]}
    source.make_rule(EventPattern=json.dumps(pattern))
    functions = source.client("lambda")
    bus = f"arn:aws:events:{REGION}:{ACCOUNT}:event-bus/default"
    functions.put_function_event_invoke_config(
        FunctionName=source.name, MaximumRetryAttempts=0, DestinationConfig={"OnFailure": {"Destination": bus}}
    )
    payload = json.dumps(FAILED_INVOCATION["requestPayload"])
    functions.invoke(FunctionName=source.name, InvocationType="Event", Payload=payload)
    (event,) = source.queue.bodies(1)
    stack = event["detail"]["responsePayload"].pop("stackTrace")
    assert all(isinstance(line, str) for line in stack)
    event["detail"]["responsePayload"]["stackTrace"] = []
    sample = {
        **CUSTOM,
        "detail-type": "Lambda Function Invocation Result - Failure",
        "source": "lambda",
        "detail": FAILED_INVOCATION,
    }
    varying = {
        **OF_EVENTS,
        "time": SECONDS,
        "resources": [bus, f"{source.function_arn}:$LATEST"],
        "timestamp": MILLISECONDS,
        "requestContext.requestId": UUID,
        "responsePayload.requestId": event["detail"]["requestContext"]["requestId"],
        "functionArn": f"{source.function_arn}:$LATEST",
        "approximateInvokeCount": 1,
    }
    assert_like(event, sample, varying)


# CloudWatch Logs: https://docs.aws.amazon.com/lambda/latest/dg/services-cloudwatchlogs.html

LOGS = {"awslogs": {"data": "ewogICAgIm1lc3NhZ2VUeXBlIjogIkRBVEFfTUVTU0FHRSIsCiAgICAib3duZXIiOiAiMTIzNDU2Nzg5MDEyIiwK"}}
LOGS_DATA = {
    "messageType": "DATA_MESSAGE",
    "owner": "123456789012",
    "logGroup": "/aws/lambda/echo-nodejs",
    "logStream": "2019/03/13/[$LATEST]94fa867e5374431291a7fc14e2f56ae7",
    "subscriptionFilters": ["LambdaStream_cloudwatchlogs-node"],
    "logEvents": [
        {
            "id": "34622316099697884706540976068822859012661220141643892546",
            "timestamp": 1552518348220,
            "message": "REPORT RequestId: 6234bffe-149a-b642-81ff-2e8e376d8aff",
        }
    ],
}


def test_a_subscription_of_a_log_group(source: Source) -> None:
    logs, group = source.client("logs"), f"/samples/{source.name}"
    logs.create_log_group(logGroupName=group)
    stream = LOGS_DATA["logStream"]
    logs.create_log_stream(logGroupName=group, logStreamName=stream)
    source.make_function("logs")
    (name,) = LOGS_DATA["subscriptionFilters"]  # type: ignore[misc]
    logs.put_subscription_filter(
        logGroupName=group, filterName=name, filterPattern="", destinationArn=source.function_arn
    )
    now_ms = int(time.time() * 1000)
    message = LOGS_DATA["logEvents"][0]["message"]  # type: ignore[index]
    logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=[{"timestamp": now_ms, "message": message}])
    event = source.got()
    assert_like(event, LOGS, {"data": re.compile(r"[A-Za-z0-9+/]+={0,2}")})
    data = json.loads(gzip.decompress(base64.b64decode(event["awslogs"]["data"])))
    varying = {"owner": ACCOUNT, "logGroup": group, "id": re.compile(r"\d{56}"), "timestamp": now_ms}
    assert_like(data, LOGS_DATA, varying)


def test_a_rule_with_a_schedule(scheduled: Source) -> None:
    """Last, because it takes a minute from the beginning."""
    event = scheduled.got(A_MINUTE_S)
    assert_like(
        event,
        SCHEDULED,
        {**OF_EVENTS, "time": SECONDS, "resources": [f"arn:aws:events:{REGION}:{ACCOUNT}:rule/my-schedule"]},
    )
    scheduled.client("events").disable_rule(Name=scheduled.name)
