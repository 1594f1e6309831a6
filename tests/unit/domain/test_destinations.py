"""ARNs of destinations and dead-letter queues."""

from __future__ import annotations

import pytest

from lambdad.domain import destinations
from lambdad.domain.destinations import Destination
from lambdad.domain.errors import InvalidParameterValueException

ACCOUNT, REGION = "000000000000", "us-east-1"
PLACE = f"{REGION}:{ACCOUNT}"


@pytest.mark.parametrize(
    ("arn", "service", "name", "qualifier"),
    [
        (f"arn:aws:sqs:{PLACE}:my-queue_1", "sqs", "my-queue_1", None),
        (f"arn:aws:sns:{PLACE}:topic", "sns", "topic", None),
        (f"arn:aws:lambda:{PLACE}:function:f", "lambda", "f", None),
        (f"arn:aws:lambda:{PLACE}:function:f:PROD", "lambda", "f", "PROD"),
        (f"arn:aws:lambda:{PLACE}:function:f:$LATEST", "lambda", "f", "$LATEST"),
        (f"arn:aws:events:{PLACE}:event-bus/my.bus", "events", "my.bus", None),
    ],
)
def test_a_destination_is_read_from_its_arn(arn: str, service: str, name: str, qualifier: str | None) -> None:
    assert destinations.parse(arn) == Destination(arn, service, ACCOUNT, REGION, name, qualifier)


def test_a_bucket_has_neither_account_nor_region() -> None:
    arn = "arn:aws:s3:::my.bucket-1"
    assert destinations.parse(arn) == Destination(arn, "s3", "", "", "my.bucket-1")


@pytest.mark.parametrize(
    "arn",
    [
        "",
        "queue",
        "arn:aws:sqs",
        f"arn:aws:sqs:{PLACE}:",
        f"arn:aws:sqs:{PLACE}:orders.fifo",
        f"arn:aws:sqs:{REGION}::orders",
        f"arn:aws:sqs::{ACCOUNT}:orders",
        "arn:aws:sqs:::orders",
        f"arn:aws:sqs:{REGION}:account:orders",
        f"arn:aws:sqs:{PLACE}:orders\n",
        f"arn:aws:sns:{PLACE}:orders.fifo",
        f"arn:aws:sns:{PLACE}:orders:subscription",
        f"arn:aws:lambda:{PLACE}:f",
        f"arn:aws:lambda:{PLACE}:layer:f",
        f"arn:aws:lambda:{PLACE}:function:f:$OTHER",
        f"arn:aws:events:{PLACE}:rule/default",
        f"arn:aws:events:{PLACE}:event-bus/aws.partner/example.com/1",
        f"arn:aws:s3:{PLACE}:bucket",
        "arn:aws:s3:::bucket/key",
        f"arn:aws:kinesis:{PLACE}:stream/s",
        f"arn:aws-cn:sqs:{PLACE}:orders",
    ],
)
def test_everything_else_is_refused(arn: str) -> None:
    with pytest.raises(InvalidParameterValueException) as caught:
        destinations.parse(arn)
    assert caught.value.message == f"The destination ARN {arn} is invalid."


def test_a_dead_letter_queue_is_a_queue_or_a_topic() -> None:
    for service in ("sqs", "sns"):
        arn = f"arn:aws:{service}:{PLACE}:dead"
        assert destinations.parse_dead_letter(arn) == destinations.parse(arn)


@pytest.mark.parametrize(
    "arn",
    [f"arn:aws:lambda:{PLACE}:function:f", f"arn:aws:sqs:{PLACE}:dead.fifo", "arn:aws:s3:::bucket", "arn:aws:sqs"],
)
def test_nothing_else_is_a_dead_letter_queue(arn: str) -> None:
    with pytest.raises(InvalidParameterValueException, match="Invalid dead letter ARN: " + arn):
        destinations.parse_dead_letter(arn)
