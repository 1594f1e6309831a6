"""Requests to SNS as botocore sends them, and its answers."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import pytest
from botocore.serialize import create_serializer
from botocore.session import Session

from lambdad.domain.sns_requests import MessageAttribute, Publication, Receipt, form, publications, receipts

TOPIC = "arn:aws:sns:us-east-1:000000000000:t"
MODEL = Session().get_service_model("sns")


def sent(operation: str, **parameters: Any) -> bytes:
    """The body that botocore makes."""
    serialized = create_serializer("query").serialize_to_request(parameters, MODEL.operation_model(operation))
    return urlencode(serialized["body"]).encode()


def test_sns_has_the_query_protocol_alone() -> None:
    """When this fails, `sns_requests` has another protocol to read."""
    assert MODEL.metadata["protocols"] == ["query"]


def test_a_message_is_read_with_all_that_it_has() -> None:
    body = sent(
        "Publish",
        TopicArn=TOPIC,
        Message="a=b&c ü\n",
        Subject="s",
        MessageGroupId="g",
        MessageDeduplicationId="d",
        MessageAttributes={
            "a.b": {"DataType": "String", "StringValue": "x"},
            "n": {"DataType": "Number", "StringValue": "1"},
            "b": {"DataType": "Binary", "BinaryValue": b"\x01\x02"},
            "l": {"DataType": "String.Array", "StringValue": '["x"]'},
        },
    )
    assert publications(form("", body)) == [
        Publication(
            target_arn=TOPIC,
            message="a=b&c ü\n",
            subject="s",
            group_id="g",
            deduplication_id="d",
            attributes={
                "a.b": MessageAttribute("String", "x"),
                "n": MessageAttribute("Number", "1"),
                "b": MessageAttribute("Binary", "AQI="),
                "l": MessageAttribute("String.Array", '["x"]'),
            },
        )
    ]


def test_a_message_may_have_another_target_or_none_and_a_structure() -> None:
    (read,) = publications(form("", sent("Publish", TargetArn=TOPIC, Message="{}", MessageStructure="json")))
    assert read == Publication(target_arn=TOPIC, message="{}", structured=True)
    (read,) = publications(form("", sent("Publish", PhoneNumber="+1", Message="m")))
    assert read.target_arn == ""


def test_a_request_may_be_a_query() -> None:
    assert publications(form(f"Action=Publish&TopicArn={TOPIC}&Message=m", b"")) == [Publication(TOPIC, "m")]


def test_the_entries_of_a_batch_are_read_in_order() -> None:
    entries = [
        {
            "Id": f"e{number}",
            "Message": str(number),
            "MessageAttributes": {"a": {"DataType": "String", "StringValue": str(number)}},
        }
        for number in range(10)
    ]
    read = publications(form("", sent("PublishBatch", TopicArn=TOPIC, PublishBatchRequestEntries=entries)))
    assert read == [
        Publication(
            TOPIC, str(number), attributes={"a": MessageAttribute("String", str(number))}, entry_id=f"e{number}"
        )
        for number in range(10)
    ]


@pytest.mark.parametrize(
    "text",
    ["Action=Publish&Message.a=1&Message=m", "Action=Publish&Message=m&Message.a=1", "Action=PublishBatch&A.b=c"],
)
def test_nonsense_does_no_harm(text: str) -> None:
    assert len(publications(form(text, b""))) <= 1


def test_the_answer_to_one_message_is_read() -> None:
    body = b"""<?xml version="1.0"?>
    <PublishResponse xmlns="http://sns.amazonaws.com/doc/2010-03-31/"><PublishResult>
      <MessageId>m</MessageId><SequenceNumber>10000000000000000001</SequenceNumber>
    </PublishResult><ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></PublishResponse>"""
    assert receipts(body) == {"": Receipt("m", "10000000000000000001")}


def test_the_answer_to_a_batch_is_read_without_what_has_failed() -> None:
    body = b"""<PublishBatchResponse xmlns="http://sns.amazonaws.com/doc/2010-03-31/"><PublishBatchResult>
      <Successful><member><Id>1</Id><MessageId>m1</MessageId></member>
      <member><MessageId>m2</MessageId><Id>2</Id></member></Successful>
      <Failed><member><Id>3</Id><Code>InvalidParameter</Code></member></Failed>
    </PublishBatchResult></PublishBatchResponse>"""
    assert receipts(body) == {"1": Receipt("m1", ""), "2": Receipt("m2", "")}


def test_answers_may_be_json() -> None:
    assert receipts(b'{"PublishResponse": {"PublishResult": {"MessageId": "m"}}}') == {"": Receipt("m", "")}
    body = b'{"R": {"Successful": [{"Id": "1", "MessageId": "m", "SequenceNumber": "2"}], "Failed": []}}'
    assert receipts(body) == {"1": Receipt("m", "2")}
