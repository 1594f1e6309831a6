"""What people get wrong when they connect functions to event sources, and how AWS words it: code, status and message.

The messages are those of AWS's API references and of users' reports. What a request's model refuses by itself (lengths,
patterns, ranges) is in test_schedules.py and the tests of the protocols.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from api_calls import refusal
from daemons import ROLE, Daemon, create_python, have_python
from neighbours import Queue

ACCOUNT, REGION = "000000000000", "us-east-1"
NAME = "likely-mistakes"
FUNCTION = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{NAME}"
TOPIC = f"arn:aws:sns:{REGION}:{ACCOUNT}:{NAME}"
QUEUE = f"arn:aws:sqs:{REGION}:{ACCOUNT}:{NAME}"
HANDLER = """
def handler(event, context):
    return event
"""
GROUP = f"/aws/lambda/{NAME}"

NOT_VALIDATED = "Unable to validate the following destination configurations"
CREATED = ["s3:ObjectCreated:*"]


@pytest.fixture(scope="module")
def daemon(shared_daemon: Daemon) -> Daemon:
    """The shared daemon with a function that lets nobody in, and a bucket, a topic, queues, a rule and a schedule."""
    have_python(shared_daemon.client("lambda"), NAME, HANDLER)
    shared_daemon.client("s3").create_bucket(Bucket=NAME)
    shared_daemon.client("sns").create_topic(Name=NAME)
    sqs, events = shared_daemon.client("sqs"), shared_daemon.client("events")
    Queue(sqs, NAME)
    sqs.create_queue(QueueName=f"{NAME}.fifo", Attributes={"FifoQueue": "true"})
    events.put_rule(Name=NAME, EventPattern='{"source": ["nobody"]}')
    events.put_targets(Rule=NAME, Targets=[{"Id": "1", "Arn": FUNCTION}])
    events.create_event_bus(Name=NAME)
    shared_daemon.client("scheduler").create_schedule(**schedule(Name=NAME))
    shared_daemon.client("logs").create_log_group(logGroupName=GROUP)
    return shared_daemon


def schedule(**changed: Any) -> dict[str, Any]:
    return {
        "Name": f"{NAME}-other",
        "ScheduleExpression": "rate(365 days)",
        "State": "DISABLED",
        "FlexibleTimeWindow": {"Mode": "OFF"},
        "Target": {"Arn": FUNCTION, "RoleArn": ROLE},
        **changed,
    }


def to_queue(arn: str = QUEUE, **more: Any) -> dict[str, Any]:
    return {"QueueArn": arn, "Events": CREATED, **more}


def filtered(*rules: tuple[str, str]) -> dict[str, Any]:
    return to_queue(Filter={"Key": {"FilterRules": [{"Name": name, "Value": value} for name, value in rules]}})


# https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketNotificationConfiguration.html, and
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-how-to-filtering.html
@pytest.mark.parametrize(
    ("configuration", "message"),
    [
        ({"LambdaFunctionConfigurations": [{"LambdaFunctionArn": FUNCTION, "Events": CREATED}]}, NOT_VALIDATED),
        (
            {"LambdaFunctionConfigurations": [{"LambdaFunctionArn": f"{FUNCTION}-gone", "Events": CREATED}]},
            NOT_VALIDATED,
        ),
        ({"QueueConfigurations": [to_queue(f"{QUEUE}-gone")]}, NOT_VALIDATED),
        ({"QueueConfigurations": [to_queue(f"{QUEUE}.fifo")]}, NOT_VALIDATED),
        ({"TopicConfigurations": [{"TopicArn": f"{TOPIC}-gone", "Events": CREATED}]}, NOT_VALIDATED),
        ({"QueueConfigurations": [to_queue("my-queue")]}, "The ARN is not well formed"),
        ({"QueueConfigurations": [to_queue(TOPIC)]}, "The ARN is not well formed"),
        (
            {"QueueConfigurations": [to_queue(QUEUE.replace(REGION, "eu-west-1"))]},
            "The notification destination service region is not valid for the bucket location constraint",
        ),
        (
            {"QueueConfigurations": [to_queue(Events=["s3:ObjectCreate:*"])]},
            "The event is not supported for notifications",
        ),
        (
            {"QueueConfigurations": [filtered(("infix", "a"))]},
            "filter rule name must be either prefix or suffix",
        ),
        (
            {"QueueConfigurations": [filtered(("prefix", "a"), ("prefix", "b"))]},
            "Cannot specify more than one prefix rule in a filter.",
        ),
        (
            {"QueueConfigurations": [to_queue(), to_queue(Events=["s3:ObjectCreated:Put"])]},
            "Configurations overlap. Configurations on the same bucket cannot share a common event type.",
        ),
        (
            {"QueueConfigurations": [filtered(("suffix", ".jpg")), filtered(("prefix", "images/"))]},
            "Configuration is ambiguously defined. Cannot have overlapping suffixes in two rules if the prefixes are "
            "overlapping for the same event type.",
        ),
        (
            {"QueueConfigurations": [to_queue(Id="a"), to_queue(Id="a", Events=["s3:ObjectRemoved:*"])]},
            "Same ID used for multiple configurations. IDs must be unique.",
        ),
    ],
)
def test_notifications_of_buckets(daemon: Daemon, configuration: Any, message: str) -> None:
    s3 = daemon.client("s3")
    refused = refusal(s3.put_bucket_notification_configuration, Bucket=NAME, NotificationConfiguration=configuration)
    assert refused == ("InvalidArgument", 400, message)
    assert set(s3.get_bucket_notification_configuration(Bucket=NAME)) == {"ResponseMetadata"}


@pytest.mark.parametrize(
    "condition",
    [{"SourceArn": f"arn:aws:s3:::{NAME}-other"}, {"SourceAccount": "111122223333"}],
    ids=["another bucket", "another account"],
)
def test_a_permission_for_another_source_is_none(
    daemon: Daemon, unique: Callable[[str], str], condition: Mapping[str, str]
) -> None:
    """https://docs.aws.amazon.com/lambda/latest/dg/access-control-resource-based.html"""
    name, functions, s3 = unique("fn"), daemon.client("lambda"), daemon.client("s3")
    s3.create_bucket(Bucket=name)
    arn = create_python(functions, name, HANDLER)["FunctionArn"]
    permission = {"FunctionName": name, "Action": "lambda:InvokeFunction", "Principal": "s3.amazonaws.com"}
    functions.add_permission(StatementId="other", **permission, **condition)
    put = {
        "Bucket": name,
        "NotificationConfiguration": {"LambdaFunctionConfigurations": [{"LambdaFunctionArn": arn, "Events": CREATED}]},
    }
    assert refusal(s3.put_bucket_notification_configuration, **put) == ("InvalidArgument", 400, NOT_VALIDATED)
    functions.add_permission(StatementId="this", **permission, SourceArn=f"arn:aws:s3:::{name}", SourceAccount=ACCOUNT)
    s3.put_bucket_notification_configuration(**put)


def test_a_rule_that_another_was_permitted_for(daemon: Daemon, unique: Callable[[str], str]) -> None:
    """PutTargets takes such a target, as on AWS; what the rule sends goes to the dead-letter queue at once."""
    name, functions, events = unique("fn"), daemon.client("lambda"), daemon.client("events")
    arn, dead = create_python(functions, name, HANDLER)["FunctionArn"], Queue(daemon.client("sqs"), name)
    rule = events.put_rule(Name=name, EventPattern=json.dumps({"source": [name]}))["RuleArn"]
    functions.add_permission(
        FunctionName=name,
        StatementId="other",
        Action="lambda:InvokeFunction",
        Principal="events.amazonaws.com",
        SourceArn=f"{rule}-other",
    )
    target = {"Id": "1", "Arn": arn, "DeadLetterConfig": {"Arn": dead.arn}}
    assert events.put_targets(Rule=name, Targets=[target])["FailedEntryCount"] == 0
    events.put_events(Entries=[{"Source": name, "DetailType": "Order", "Detail": "{}"}])
    (letter,) = dead.await_messages(1)
    told = {key: each["StringValue"] for key, each in letter["MessageAttributes"].items()}
    assert (told["ERROR_CODE"], told["RETRY_ATTEMPTS"]) == ("NO_PERMISSIONS", "0")


# https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutRule.html and API_PutTargets.html
SCHEDULE_NOT_VALID = "ValidationException", "Parameter ScheduleExpression is not valid."
NOT_THERE = f"Rule {NAME}-gone does not exist on EventBus default."


@pytest.mark.parametrize(
    ("operation", "parameters", "code", "message"),
    [
        ("put_rule", {"ScheduleExpression": "rate(5 minute)"}, *SCHEDULE_NOT_VALID),
        ("put_rule", {"ScheduleExpression": "rate(1 minutes)"}, *SCHEDULE_NOT_VALID),
        ("put_rule", {"ScheduleExpression": "cron(0 10 * * * *)"}, *SCHEDULE_NOT_VALID),
        ("put_rule", {"ScheduleExpression": "cron(0 10 * * ?)"}, *SCHEDULE_NOT_VALID),
        ("put_rule", {"ScheduleExpression": "at(2090-01-01T00:00:00)"}, *SCHEDULE_NOT_VALID),
        (
            "put_rule",
            {},
            "ValidationException",
            "Parameter(s) EventPattern or ScheduleExpression must be specified.",
        ),
        (
            "put_rule",
            {"ScheduleExpression": "rate(5 minutes)", "EventBusName": NAME},
            "ValidationException",
            "ScheduleExpression is supported only on the default event bus.",
        ),
        (
            "put_rule",
            {"EventPattern": '{"source": ["a"]}', "EventBusName": f"{NAME}-gone"},
            "ResourceNotFoundException",
            f"Event bus {NAME}-gone does not exist.",
        ),
        ("describe_rule", {"Name": f"{NAME}-gone"}, "ResourceNotFoundException", NOT_THERE),
        ("enable_rule", {"Name": f"{NAME}-gone"}, "ResourceNotFoundException", NOT_THERE),
        (
            "put_targets",
            {"Rule": f"{NAME}-gone", "Targets": [{"Id": "1", "Arn": FUNCTION}]},
            "ResourceNotFoundException",
            NOT_THERE,
        ),
        (
            "put_targets",
            {"Rule": NAME, "Targets": [{"Id": "1", "Arn": "my-function"}]},
            "ValidationException",
            "Parameter my-function is not valid. Reason: Provided Arn is not in correct format.",
        ),
        (
            "put_targets",
            {"Rule": NAME, "Targets": [{"Id": str(n), "Arn": QUEUE} for n in range(6)]},
            "LimitExceededException",
            "The requested resource exceeds the maximum number allowed.",
        ),
        (
            "put_targets",
            {"Rule": NAME, "Targets": [{"Id": "2", "Arn": f"{QUEUE}.fifo"}]},
            "ValidationException",
            "Parameter(s) SqsParameters must be specified for target: 2.",
        ),
        ("delete_rule", {"Name": NAME}, "ValidationException", "Rule can't be deleted since it has targets."),
        (
            "create_event_bus",
            {"Name": NAME},
            "ResourceAlreadyExistsException",
            f"Event bus {NAME} already exists.",
        ),
        ("delete_event_bus", {"Name": "default"}, "ValidationException", "Cannot delete event bus default."),
    ],
)
def test_rules(daemon: Daemon, operation: str, parameters: Mapping[str, Any], code: str, message: str) -> None:
    name = {"Name": f"{NAME}-other"} if operation == "put_rule" else {}
    call: Callable[..., Any] = getattr(daemon.client("events"), operation)
    assert refusal(call, **name, **parameters) == (code, 400, message)


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ('{"source": "shop"}', '"source" must be an object or an array'),
        ('{"source": [{"prefx": "x"}]}', "Unrecognized match type prefx"),
        ("{}", "Empty objects are not allowed"),
    ],
)
def test_patterns(daemon: Daemon, pattern: str, reason: str) -> None:
    code, status, message = refusal(daemon.client("events").put_rule, Name=f"{NAME}-other", EventPattern=pattern)
    assert (code, status) == ("InvalidEventPatternException", 400)
    assert message.startswith(f"Event pattern is not valid. Reason: {reason}")


def test_entries(daemon: Daemon) -> None:
    """https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEventsResultEntry.html

    The others of the request are taken; an event for a bus that does not exist is dropped.
    """
    good = {"Source": "shop", "DetailType": "Order", "Detail": "{}"}
    entries = [
        {**good, "Detail": "no json"},
        {**good, "Detail": "[]"},
        {"Source": "shop", "DetailType": "Order"},
        {**good, "Source": "aws.s3"},
        {**good, "EventBusName": f"{NAME}-gone"},
        good,
    ]
    answer = daemon.client("events").put_events(Entries=entries)
    assert answer["FailedEntryCount"] == 4
    assert [(entry.get("ErrorCode"), entry.get("ErrorMessage")) for entry in answer["Entries"]] == [
        ("MalformedDetail", "Detail is malformed."),
        ("MalformedDetail", "Detail is malformed."),
        ("InvalidArgument", "Parameter Detail is not valid. Reason: Detail is a required argument."),
        ("NotAuthorizedForSourceException", "Not authorized for the source."),
        (None, None),
        (None, None),
    ]
    assert [bool(entry.get("EventId")) for entry in answer["Entries"]] == [False] * 4 + [True] * 2


# https://docs.aws.amazon.com/scheduler/latest/APIReference/API_CreateSchedule.html
@pytest.mark.parametrize(
    ("operation", "parameters", "code", "status", "message"),
    [
        ("create_schedule", schedule(Name=NAME), "ConflictException", 409, f"Schedule {NAME} already exists."),
        (
            "create_schedule",
            schedule(ScheduleExpression="rate(5 minutess)"),
            "ValidationException",
            400,
            "Invalid Schedule Expression rate(5 minutess).",
        ),
        (
            "create_schedule",
            schedule(ScheduleExpression="cron(0 10 * * *)"),
            "ValidationException",
            400,
            "Invalid Schedule Expression cron(0 10 * * *).",
        ),
        (
            "create_schedule",
            schedule(ScheduleExpressionTimezone="Mars/Olympus"),
            "ValidationException",
            400,
            "Invalid Schedule Expression Timezone Mars/Olympus.",
        ),
        (
            "create_schedule",
            schedule(GroupName=f"{NAME}-gone"),
            "ResourceNotFoundException",
            404,
            f"Schedule group {NAME}-gone does not exist.",
        ),
        (
            "create_schedule",
            schedule(Target={"Arn": "my-function", "RoleArn": ROLE}),
            "ValidationException",
            400,
            "Provided Arn is not in correct format.",
        ),
        ("get_schedule", {"Name": "gone"}, "ResourceNotFoundException", 404, "Schedule gone does not exist."),
        ("delete_schedule", {"Name": "gone"}, "ResourceNotFoundException", 404, "Schedule gone does not exist."),
        (
            "create_schedule_group",
            {"Name": "default"},
            "ConflictException",
            409,
            "Schedule group default already exists.",
        ),
    ],
)
def test_schedules(
    daemon: Daemon, operation: str, parameters: Mapping[str, Any], code: str, status: int, message: str
) -> None:
    assert refusal(getattr(daemon.client("scheduler"), operation), **parameters) == (code, status, message)


def subscription(endpoint: str = QUEUE, protocol: str = "sqs", **attributes: str) -> dict[str, Any]:
    return {"TopicArn": TOPIC, "Protocol": protocol, "Endpoint": endpoint, "Attributes": attributes}


IN_POLICY = "Invalid parameter: Attributes Reason: FilterPolicy: "


# https://docs.aws.amazon.com/sns/latest/api/API_Subscribe.html and API_Publish.html
@pytest.mark.parametrize(
    ("operation", "parameters", "code", "status", "message"),
    [
        (
            "subscribe",
            {**subscription(), "TopicArn": f"{TOPIC}-gone"},
            "NotFound",
            404,
            "Topic does not exist",
        ),
        ("subscribe", subscription("my-queue"), "InvalidParameter", 400, "Invalid parameter: SQS endpoint ARN"),
        (
            "subscribe",
            subscription(protocol="queue"),
            "InvalidParameter",
            400,
            "Invalid parameter: Amazon SNS does not support this protocol string: queue",
        ),
        (
            "subscribe",
            subscription("ftp://example.com", "http"),
            "InvalidParameter",
            400,
            "Invalid parameter: Endpoint must match the specified protocol",
        ),
        (
            "subscribe",
            subscription(FilterPolicy="{bad"),
            "InvalidParameter",
            400,
            f"{IN_POLICY}failed to parse JSON.",
        ),
        (
            "subscribe",
            subscription(FilterPolicy='{"store": {"city": ["Oslo"]}}'),
            "InvalidParameter",
            400,
            f"{IN_POLICY}Filter policy scope MessageAttributes does not support nested filter policy",
        ),
        (
            "subscribe",
            subscription(FilterPolicy=json.dumps({letter: ["x"] for letter in "abcdef"})),
            "InvalidParameter",
            400,
            f"{IN_POLICY}Filter policy can not have more than 5 keys",
        ),
        (
            "subscribe",
            subscription(RedrivePolicy="{bad"),
            "InvalidParameter",
            400,
            "Invalid parameter: Attributes Reason: RedrivePolicy: failed to parse JSON.",
        ),
        (
            "publish",
            {"TopicArn": f"{TOPIC}-gone", "Message": "m"},
            "NotFound",
            404,
            "Topic does not exist",
        ),
        (
            "publish",
            {"TopicArn": TOPIC, "Message": '{"sqs": "m"}', "MessageStructure": "json"},
            "InvalidParameter",
            400,
            "Invalid parameter: Message Structure - No default entry in JSON message body",
        ),
    ],
)
def test_topics(
    daemon: Daemon, operation: str, parameters: Mapping[str, Any], code: str, status: int, message: str
) -> None:
    assert refusal(getattr(daemon.client("sns"), operation), **parameters) == (code, status, message)


# https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutSubscriptionFilter.html
@pytest.mark.parametrize(
    ("group", "destination", "code", "message"),
    [
        (
            GROUP,
            FUNCTION,
            "InvalidParameterException",
            "Could not execute the lambda function. Make sure you have given CloudWatch Logs permission to execute "
            "your function.",
        ),
        (f"{GROUP}-gone", FUNCTION, "ResourceNotFoundException", "The specified log group does not exist."),
        (
            GROUP,
            QUEUE,
            "InvalidParameterException",
            "PutSubscriptionFilter operation cannot work with destinationArn for vendor sqs",
        ),
    ],
)
def test_subscription_filters(daemon: Daemon, group: str, destination: str, code: str, message: str) -> None:
    refused = refusal(
        daemon.client("logs").put_subscription_filter,
        logGroupName=group,
        filterName="f",
        filterPattern="",
        destinationArn=destination,
    )
    assert refused == (code, 400, message)
