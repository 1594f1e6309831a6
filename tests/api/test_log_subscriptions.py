"""Subscription filters of log groups, through boto3 and the AWS CLI against the real daemon.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/SubscriptionFilters.html#LambdaFunctionExample
"""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any

from api_calls import refusal
from daemons import Daemon, create_python
from faults.events import await_idle
from faults.wire import get
from queued_events import awaited

ACCOUNT, REGION = "000000000000", "us-east-1"
PRINTS = """
def handler(event, context):
    for line in event:
        print(line)
"""
READS = """
import base64, gzip, json

def handler(event, context):
    data = gzip.decompress(base64.b64decode(event["awslogs"]["data"]))
    print("got " + json.dumps(json.loads(data)))
"""
REFUSED = (
    "InvalidParameterException",
    400,
    "Could not execute the lambda function. Make sure you have given CloudWatch Logs permission to execute your "
    "function.",
)


class Subscriber:
    """A log group and a function that prints what it gets of it."""

    def __init__(self, daemon: Daemon, name: str, group: str) -> None:
        self.name, self.group = name, group
        self.arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}"
        self.connect(daemon)

    def connect(self, daemon: Daemon) -> None:
        self.functions, self.logs = daemon.client("lambda"), daemon.client("logs")

    def create(self) -> None:
        create_python(self.functions, self.name, READS)
        self.logs.create_log_group(logGroupName=self.group)
        self.logs.create_log_stream(logGroupName=self.group, logStreamName="client")

    def permit(self, **conditions: str) -> None:
        self.functions.add_permission(
            FunctionName=self.name,
            StatementId="logs",
            Action="lambda:InvokeFunction",
            Principal="logs.amazonaws.com",
            **conditions,
        )

    def subscribe(self, pattern: str = "", name: str = "demo") -> None:
        self.logs.put_subscription_filter(
            logGroupName=self.group, filterName=name, filterPattern=pattern, destinationArn=self.arn
        )

    def put(self, *messages: str) -> None:
        events = [{"timestamp": int(time.time() * 1000), "message": message} for message in messages]
        self.logs.put_log_events(logGroupName=self.group, logStreamName="client", logEvents=events)

    def events(self) -> list[dict[str, Any]]:
        """What the function has got so far."""
        try:
            pages = self.logs.get_paginator("filter_log_events").paginate(
                logGroupName=f"/aws/lambda/{self.name}", filterPattern='"got "'
            )
            return [json.loads(event["message"][4:]) for page in pages for event in page["events"]]
        except self.logs.exceptions.ResourceNotFoundException:
            return []

    def messages(self) -> list[str]:
        return [event["message"].rstrip("\n") for document in self.events() for event in document["logEvents"]]

    def await_messages(self, *expected: str) -> None:
        awaited(lambda: len(self.messages()) >= len(expected))
        assert self.messages() == list(expected)


def test_what_a_function_prints_reaches_a_subscribed_function(daemon: Daemon) -> None:
    reader = Subscriber(daemon, "reader", "/aws/lambda/printer")
    reader.create()
    create_python(reader.functions, "printer", PRINTS)
    reader.permit(SourceArn=f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/aws/lambda/printer:*", SourceAccount=ACCOUNT)
    reader.subscribe("ERROR")
    started = time.monotonic()
    reader.functions.invoke(FunctionName="printer", Payload=json.dumps(["fine", "an ERROR", "fine again"]))
    reader.await_messages("an ERROR")
    assert time.monotonic() - started < 5
    (document,) = reader.events()
    (printed,) = reader.logs.filter_log_events(logGroupName="/aws/lambda/printer", filterPattern="ERROR")["events"]
    assert document == {
        "messageType": "DATA_MESSAGE",
        "owner": ACCOUNT,
        "logGroup": "/aws/lambda/printer",
        "logStream": printed["logStreamName"],
        "subscriptionFilters": ["demo"],
        "logEvents": [
            {"id": printed["eventId"], "timestamp": printed["timestamp"], "message": printed["message"]},
        ],
    }


def test_what_clients_put_is_filtered_by_json_and_space_delimited_patterns(daemon: Daemon) -> None:
    reader = Subscriber(daemon, "reader", "app")
    reader.create()
    reader.permit()
    reader.subscribe('{ $.level = "ERROR" && $.code > 499 }', "json")
    reader.subscribe("[word = GET, path, code]", "words")
    reader.put('{"level": "ERROR", "code": 500}', '{"level": "ERROR", "code": 404}', "GET /a 200", "PUT /a 200")
    found = awaited(lambda: documents if len(documents := reader.events()) == 2 else [])
    by_filter = {document["subscriptionFilters"][0]: document["logEvents"] for document in found}
    assert [event["message"] for event in by_filter["json"]] == ['{"level": "ERROR", "code": 500}']
    assert [event["message"] for event in by_filter["words"]] == ["GET /a 200"]
    assert by_filter["words"][0]["extractedFields"] == {"word": "GET", "path": "/a", "code": "200"}


def test_filters_are_described_replaced_and_deleted(daemon: Daemon) -> None:
    reader = Subscriber(daemon, "reader", "app")
    reader.create()
    reader.permit()
    for name in ("ab", "b"):
        reader.subscribe("old", name)
    reader.subscribe("ERROR", "b")
    assert refusal(
        reader.logs.put_subscription_filter,
        logGroupName="app",
        filterName="c",
        filterPattern="",
        destinationArn=reader.arn,
    ) == ("LimitExceededException", 400, "Resource limit exceeded.")
    pages = reader.logs.get_paginator("describe_subscription_filters").paginate(
        logGroupName="app", PaginationConfig={"PageSize": 1}
    )
    found = [each for page in pages for each in page["subscriptionFilters"]]
    assert [(each["filterName"], each["filterPattern"]) for each in found] == [("ab", "old"), ("b", "ERROR")]
    assert found[1].pop("creationTime") > 0
    assert found[1] == {
        "filterName": "b",
        "logGroupName": "app",
        "filterPattern": "ERROR",
        "destinationArn": reader.arn,
        "distribution": "ByLogStream",
        "applyOnTransformedLogs": False,
    }
    answer = reader.logs.describe_subscription_filters(logGroupName="app", filterNamePrefix="a")
    assert [each["filterName"] for each in answer["subscriptionFilters"]] == ["ab"]
    gone = "ResourceNotFoundException", 400, "The specified subscription filter does not exist."
    assert refusal(reader.logs.delete_subscription_filter, logGroupName="app", filterName="x") == gone
    no_group = "ResourceNotFoundException", 400, "The specified log group does not exist."
    assert refusal(reader.logs.describe_subscription_filters, logGroupName="other") == no_group
    assert refusal(reader.logs.delete_subscription_filter, logGroupName="other", filterName="x") == no_group

    reader.put("ERROR 1")
    reader.await_messages("ERROR 1")
    reader.logs.delete_subscription_filter(logGroupName="app", filterName="b")
    reader.put("ERROR 2")
    # Of one more filter, it is seen that what came before it was passed over.
    reader.subscribe("", "c")
    reader.put("ERROR 3")
    reader.await_messages("ERROR 1", "ERROR 3")


def test_a_function_that_may_not_be_invoked_is_refused(daemon: Daemon) -> None:
    reader = Subscriber(daemon, "reader", "app")
    reader.create()
    wanted = {"logGroupName": "app", "filterName": "demo", "filterPattern": "", "destinationArn": reader.arn}
    assert refusal(reader.logs.put_subscription_filter, **wanted) == REFUSED
    reader.permit(SourceArn=f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:another:*")
    assert refusal(reader.logs.put_subscription_filter, **wanted) == REFUSED
    assert refusal(reader.logs.put_subscription_filter, **{**wanted, "destinationArn": f"{reader.arn}2"}) == REFUSED
    code, status, message = refusal(
        reader.logs.put_subscription_filter,
        **{**wanted, "destinationArn": f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/s"},
        roleArn="arn:aws:iam::000000000000:role/r",
    )
    assert (code, status) == ("InvalidParameterException", 400)
    assert message == "PutSubscriptionFilter operation cannot work with destinationArn for vendor kinesis"
    assert reader.logs.describe_subscription_filters(logGroupName="app")["subscriptionFilters"] == []


def test_what_a_withdrawn_permission_keeps_back_is_counted(daemon: Daemon) -> None:
    reader = Subscriber(daemon, "reader", "app")
    reader.create()
    reader.permit()
    reader.subscribe()
    reader.functions.remove_permission(FunctionName="reader", StatementId="logs")
    reader.put("one", "two")

    assert awaited(lambda: get(daemon, "/_lambdad/info").json["log_events_undelivered"]) == 2
    assert get(daemon, "/_lambdad/info").json["log_events_discarded"] == 0
    assert reader.events() == []
    assert "2 log events of app are not delivered" in daemon.stderr()


def test_filters_survive_stops_and_kills_and_nothing_that_was_put_is_lost(tmp_path: Path) -> None:
    with Daemon(tmp_path / "data") as daemon:
        reader = Subscriber(daemon, "reader", "app")
        reader.create()
        reader.permit()
        reader.subscribe()
        reader.put("one")
        reader.await_messages("one")
        daemon.stop()
        daemon.start()
        reader.connect(daemon)
        reader.put("two")
        # At least once: a kill may come between the acceptance of an event and the note of it.
        daemon.kill()
        daemon.start()
        reader.connect(daemon)
        reader.put("three")
        awaited(lambda: {"one", "two", "three"} <= set(reader.messages()))
        assert reader.messages().count("one") == 1


def test_a_function_that_is_subscribed_to_its_own_log_feeds_itself_until_the_filter_goes(daemon: Daemon) -> None:
    reader = Subscriber(daemon, "reader", "/aws/lambda/reader")
    create_python(reader.functions, "reader", 'def handler(event, context):\n    print("got {}")\n')
    reader.logs.create_log_group(logGroupName=reader.group)
    reader.permit()
    reader.subscribe("got")
    reader.functions.invoke(FunctionName="reader", Payload=b"{}")
    awaited(lambda: len(reader.events()) >= 4)
    reader.logs.delete_subscription_filter(logGroupName=reader.group, filterName="demo")
    await_idle(daemon)
    before = len(reader.events())
    reader.functions.invoke(FunctionName="reader", Payload=b"{}")
    assert len(reader.events()) == before + 1
    # What another group's filter gets shows that everything before it was passed over.
    reader.logs.create_log_group(logGroupName="app")
    reader.logs.create_log_stream(logGroupName="app", logStreamName="client")
    reader.group = "app"
    reader.subscribe()
    reader.put("one")
    awaited(lambda: len(reader.events()) == before + 2)
    await_idle(daemon)
    assert len(reader.events()) == before + 2


def test_the_command_of_the_guide(daemon: Daemon) -> None:
    reader = Subscriber(daemon, "helloworld", "myLogGroup")
    reader.create()
    script = f"""
aws lambda add-permission \\
    --function-name "helloworld" \\
    --statement-id "helloworld" \\
    --principal "logs.amazonaws.com" \\
    --action "lambda:InvokeFunction" \\
    --source-arn "arn:aws:logs:{REGION}:{ACCOUNT}:log-group:myLogGroup:*" \\
    --source-account "{ACCOUNT}"
aws logs put-subscription-filter \\
    --log-group-name myLogGroup \\
    --filter-name demo \\
    --filter-pattern "" \\
    --destination-arn {reader.arn}
aws logs put-log-events --log-group-name myLogGroup --log-stream-name client \\
    --log-events "[{{\\"timestamp\\":$(date +%s000), \\"message\\": \\"Simple Lambda Test\\"}}]"
"""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        env=daemon.cli_environ(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    reader.await_messages("Simple Lambda Test")
