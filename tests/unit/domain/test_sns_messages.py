"""What subscribers get, key by key as AWS documents it."""

from __future__ import annotations

import json

from lambdad.domain.sns_messages import (
    CONFIRMATION,
    Message,
    Signed,
    confirmation_text,
    envelope,
    function_event,
    queue_attributes,
    string_to_sign,
    subscribe_url,
    timestamp,
    unsubscribe_url,
)
from lambdad.domain.sns_requests import MessageAttribute

TOPIC = "arn:aws:sns:us-east-1:123456789012:t"
SUBSCRIPTION = f"{TOPIC}:21be56ed-a058-49f5-8c98-aedd2564c486"
NOW = "2019-01-02T12:45:07.000Z"
ENDPOINT = "http://127.0.0.1:4566"
SIGNED = Signed("1", "c2lnbmVk", f"{ENDPOINT}/_lambdad/sns/c.pem")
UNSUBSCRIBE = f"{ENDPOINT}/?Action=Unsubscribe&SubscriptionArn={SUBSCRIPTION}&Version=2010-03-31"
ATTRIBUTES = {
    "Test": MessageAttribute("String", "TestString"),
    "TestBinary": MessageAttribute("Binary", "AQI="),
}
MESSAGE = Message(
    message_id="95df01b4-ee98-5cb9-9903-4c221d41eb5e",
    topic_arn=TOPIC,
    text="Hello from SNS!",
    timestamp=NOW,
    subject="TestInvoke",
    attributes=ATTRIBUTES,
)
PLAIN = Message(message_id="m", topic_arn=TOPIC, text="ü", timestamp=NOW)
QUESTION = Message(
    type=CONFIRMATION,
    message_id="m",
    topic_arn=TOPIC,
    text=confirmation_text(TOPIC),
    timestamp=NOW,
    token="2336412f37",
    subscribe_url=subscribe_url(ENDPOINT, TOPIC, "2336412f37"),
)


def test_a_function_gets_the_event_that_aws_documents() -> None:
    """https://docs.aws.amazon.com/lambda/latest/dg/with-sns.html"""
    assert json.loads(function_event(MESSAGE, SIGNED, SUBSCRIPTION, UNSUBSCRIBE)) == {
        "Records": [
            {
                "EventVersion": "1.0",
                "EventSubscriptionArn": SUBSCRIPTION,
                "EventSource": "aws:sns",
                "Sns": {
                    "SignatureVersion": "1",
                    "Timestamp": NOW,
                    "Signature": "c2lnbmVk",
                    "SigningCertUrl": SIGNED.certificate_url,
                    "MessageId": "95df01b4-ee98-5cb9-9903-4c221d41eb5e",
                    "Message": "Hello from SNS!",
                    "MessageAttributes": {
                        "Test": {"Type": "String", "Value": "TestString"},
                        "TestBinary": {"Type": "Binary", "Value": "AQI="},
                    },
                    "Type": "Notification",
                    "UnsubscribeUrl": UNSUBSCRIBE,
                    "TopicArn": TOPIC,
                    "Subject": "TestInvoke",
                },
            }
        ]
    }


def test_a_function_is_told_that_there_is_no_subject() -> None:
    (record,) = json.loads(function_event(PLAIN, SIGNED, SUBSCRIPTION, UNSUBSCRIBE))["Records"]
    assert record["Sns"]["Subject"] is None
    assert record["Sns"]["MessageAttributes"] == {}


def test_a_queue_gets_the_envelope_that_aws_documents() -> None:
    """https://docs.aws.amazon.com/sns/latest/dg/sns-message-and-json-formats.html, in its order and spacing."""
    text = envelope(MESSAGE, SIGNED, UNSUBSCRIBE)
    assert text.startswith('{\n  "Type" : "Notification",\n  "MessageId" : "95df01b4')
    document = json.loads(text)
    assert list(document) == [
        "Type",
        "MessageId",
        "TopicArn",
        "Subject",
        "Message",
        "Timestamp",
        "SignatureVersion",
        "Signature",
        "SigningCertURL",
        "UnsubscribeURL",
        "MessageAttributes",
    ]
    assert document["MessageAttributes"]["TestBinary"] == {"Type": "Binary", "Value": "AQI="}
    assert (document["SigningCertURL"], document["UnsubscribeURL"]) == (SIGNED.certificate_url, UNSUBSCRIBE)


def test_an_envelope_leaves_out_what_a_message_does_not_have() -> None:
    document = json.loads(envelope(PLAIN, SIGNED, UNSUBSCRIBE))
    assert document.keys().isdisjoint({"Subject", "MessageAttributes", "SequenceNumber", "Token", "SubscribeURL"})
    assert document["Message"] == "ü"


def test_an_empty_subject_is_a_subject() -> None:
    message = Message(message_id="m", topic_arn=TOPIC, text="t", timestamp=NOW, subject="")
    assert json.loads(envelope(message, SIGNED, ""))["Subject"] == ""
    assert "Subject\n\n" in string_to_sign(message)


def test_a_message_of_a_fifo_topic_has_its_number_and_no_signature() -> None:
    """https://github.com/aws-powertools/powertools-lambda-python/issues/1590"""
    message = Message(message_id="m", topic_arn=TOPIC, text="t", timestamp=NOW, sequence_number="10000000000000003000")
    assert list(json.loads(envelope(message, SIGNED, UNSUBSCRIBE))) == [
        "Type",
        "MessageId",
        "SequenceNumber",
        "TopicArn",
        "Message",
        "Timestamp",
        "UnsubscribeURL",
    ]


def test_a_confirmation_has_token_and_url() -> None:
    """https://docs.aws.amazon.com/sns/latest/dg/http-subscription-confirmation-json.html"""
    document = json.loads(envelope(QUESTION, SIGNED, ""))
    assert list(document) == [
        "Type",
        "MessageId",
        "Token",
        "TopicArn",
        "Message",
        "SubscribeURL",
        "Timestamp",
        "SignatureVersion",
        "Signature",
        "SigningCertURL",
    ]
    assert document["Message"] == (
        f"You have chosen to subscribe to the topic {TOPIC}.\nTo confirm the subscription, visit the SubscribeURL "
        "included in this message."
    )
    assert (
        document["SubscribeURL"]
        == f"{ENDPOINT}/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token=2336412f37&Version=2010-03-31"
    )


def test_what_is_signed_are_names_and_values_line_by_line() -> None:
    assert string_to_sign(MESSAGE) == (
        "Message\nHello from SNS!\nMessageId\n95df01b4-ee98-5cb9-9903-4c221d41eb5e\nSubject\nTestInvoke\n"
        f"Timestamp\n{NOW}\nTopicArn\n{TOPIC}\nType\nNotification\n"
    )
    assert string_to_sign(PLAIN) == (
        f"Message\nü\nMessageId\nm\nTimestamp\n{NOW}\nTopicArn\n{TOPIC}\nType\nNotification\n"
    )
    assert string_to_sign(QUESTION) == (
        f"Message\n{QUESTION.text}\nMessageId\nm\nSubscribeURL\n{QUESTION.subscribe_url}\nTimestamp\n{NOW}\n"
        f"Token\n2336412f37\nTopicArn\n{TOPIC}\nType\nSubscriptionConfirmation\n"
    )


def test_times_have_milliseconds() -> None:
    assert timestamp(1_546_433_107.0) == "2019-01-02T12:45:07.000Z"
    assert timestamp(1_546_433_107.0625) == "2019-01-02T12:45:07.062Z"


def test_the_link_to_unsubscribe_names_the_subscription() -> None:
    assert unsubscribe_url(ENDPOINT, SUBSCRIPTION) == UNSUBSCRIBE


def test_attributes_of_raw_messages_are_those_of_queues() -> None:
    assert queue_attributes(ATTRIBUTES) == {
        "Test": {"DataType": "String", "StringValue": "TestString"},
        "TestBinary": {"DataType": "Binary", "BinaryValue": b"\x01\x02"},
    }
