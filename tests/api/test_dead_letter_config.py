"""DeadLetterConfig of a function: where its asynchronous events go that have failed.

https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html#invocation-dlq
"""

from __future__ import annotations

from typing import Any

import pytest

from api_calls import refusal
from daemons import Daemon, create_python

ECHO = "def handler(event, context):\n    return event\n"
PLACE = "us-east-1:000000000000"


@pytest.fixture
def client(daemon_with_neighbours: Daemon) -> Any:
    return daemon_with_neighbours.client("lambda")


def test_a_queue_or_topic_is_shown_wherever_the_configuration_is(client: Any, moto: Any, unique: Any) -> None:
    name = unique()
    queue = moto.queue(name).arn
    topic = moto.client("sns").create_topic(Name=name)["TopicArn"]
    created = create_python(client, name, ECHO, DeadLetterConfig={"TargetArn": queue})
    assert created["DeadLetterConfig"] == {"TargetArn": queue}
    assert client.get_function(FunctionName=name)["Configuration"]["DeadLetterConfig"] == {"TargetArn": queue}
    published = client.publish_version(FunctionName=name)
    assert published["DeadLetterConfig"] == {"TargetArn": queue}
    updated = client.update_function_configuration(FunctionName=name, DeadLetterConfig={"TargetArn": topic})
    assert updated["DeadLetterConfig"] == {"TargetArn": topic}
    assert client.publish_version(FunctionName=name)["Version"] == "2"
    versions = client.list_versions_by_function(FunctionName=name)["Versions"]
    assert [version["DeadLetterConfig"]["TargetArn"] for version in versions] == [topic, queue, topic]
    client.update_function_configuration(FunctionName=name, Timeout=9)
    got = client.get_function_configuration(FunctionName=name)
    assert (got["Timeout"], got["DeadLetterConfig"]) == (9, {"TargetArn": topic})


@pytest.mark.parametrize("empty", [{}, {"TargetArn": ""}], ids=["empty object", "empty text"])
def test_an_empty_one_removes_what_was_there(client: Any, moto: Any, unique: Any, empty: dict[str, str]) -> None:
    name = unique()
    create_python(client, name, ECHO, DeadLetterConfig={"TargetArn": moto.queue(name).arn})
    assert "DeadLetterConfig" not in client.update_function_configuration(FunctionName=name, DeadLetterConfig=empty)
    assert "DeadLetterConfig" not in client.get_function_configuration(FunctionName=name)


def test_region_and_account_may_be_words(client: Any, moto: Any, unique: Any) -> None:
    name = unique()
    queue = moto.queue(f"{name}-dlq").arn
    created = create_python(
        client, name, ECHO, DeadLetterConfig={"TargetArn": f"arn:aws:sqs:region:account:{name}-dlq"}
    )
    assert created["DeadLetterConfig"] == {"TargetArn": queue} == {"TargetArn": f"arn:aws:sqs:{PLACE}:{name}-dlq"}


def test_a_queue_or_topic_that_is_not_there_is_refused(client: Any, unique: Any) -> None:
    name = unique()
    create_python(client, name, ECHO)
    for service in ("sqs", "sns"):
        target = {"TargetArn": f"arn:aws:{service}:{PLACE}:{name}"}
        refused = refusal(client.update_function_configuration, FunctionName=name, DeadLetterConfig=target)
        assert refused[:2] == ("InvalidParameterValueException", 400)
        assert target["TargetArn"] in refused.message
        other = unique()
        assert refusal(create_python, client=client, name=other, source=ECHO, DeadLetterConfig=target) == refused
        assert refusal(client.get_function, FunctionName=other).status == 404
    assert "DeadLetterConfig" not in client.get_function_configuration(FunctionName=name)


@pytest.mark.parametrize(
    "arn",
    [
        f"arn:aws:sqs:{PLACE}:dead.fifo",
        f"arn:aws:sns:{PLACE}:dead.fifo",
        f"arn:aws:lambda:{PLACE}:function:dead",
        f"arn:aws:events:{PLACE}:event-bus/default",
        "arn:aws:s3:::dead-letters",
    ],
)
def test_nothing_but_a_standard_queue_or_topic_is_accepted(aws_lambda: Any, unique: Any, arn: str) -> None:
    target = {"TargetArn": arn}
    assert refusal(create_python, client=aws_lambda, name=unique(), source=ECHO, DeadLetterConfig=target) == (
        "InvalidParameterValueException",
        400,
        f"Invalid dead letter ARN: {arn} does not name a standard SQS queue or a standard SNS topic",
    )
