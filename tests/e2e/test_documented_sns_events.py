"""The messages of SNS, key by key, as AWS documents them: to functions, web servers and queues."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from daemons import Daemon
from documented_events import CERTIFICATE, MILLISECONDS, SIGNATURE, TOKEN, UUID, Source, assert_like
from e2e.test_sns import WebServer, read, verify


@pytest.fixture
def source(shared_daemon: Daemon, unique: Callable[[str], str]) -> Source:
    return Source(shared_daemon, unique("sample"))


@pytest.fixture
def web() -> Iterator[WebServer]:
    server = WebServer()
    try:
        yield server
    finally:
        server.close()


# SNS to a function: https://docs.aws.amazon.com/lambda/latest/dg/with-sns.html

SNS_TO_FUNCTION = {
    "Records": [
        {
            "EventVersion": "1.0",
            "EventSubscriptionArn": "arn:aws:sns:us-east-2:123456789012:sns-lambda:"
            "21be56ed-a058-49f5-8c98-aedd2564c486",
            "EventSource": "aws:sns",
            "Sns": {
                "SignatureVersion": "1",
                "Timestamp": "2019-01-02T12:45:07.000Z",
                "Signature": "tcc6faL2yUC6dgZdmrwh1Y4cGa/ebXEkAi6RibDsvpi+tE/1+82j...65r==",
                "SigningCertUrl": "https://sns.us-east-2.amazonaws.com/"
                "SimpleNotificationService-ac565b8b1a6c5d002d285f9598aa1d9b.pem",
                "MessageId": "95df01b4-ee98-5cb9-9903-4c221d41eb5e",
                "Message": "Hello from SNS!",
                "MessageAttributes": {
                    "Test": {"Type": "String", "Value": "TestString"},
                    "TestBinary": {"Type": "Binary", "Value": "TestBinary"},
                },
                "Type": "Notification",
                "UnsubscribeUrl": "https://sns.us-east-2.amazonaws.com/?Action=Unsubscribe&SubscriptionArn="
                "arn:aws:sns:us-east-2:123456789012:test-lambda:21be56ed-a058-49f5-8c98-aedd2564c486",
                "TopicArn": "arn:aws:sns:us-east-2:123456789012:sns-lambda",
                "Subject": "TestInvoke",
            },
        }
    ]
}
UNSUBSCRIBE_URL = re.compile(
    r"https?://[^/]+/\?Action=Unsubscribe&SubscriptionArn=arn:aws:sns:[a-z0-9-]+:\d{12}:[A-Za-z0-9_-]+:"
    r"[0-9a-f-]{36}(&Version=2010-03-31)?"
)
"""Ours names the version too, by which the one endpoint knows that the request is for SNS."""


def test_sns_to_a_function(source: Source) -> None:
    sns = source.client("sns")
    topic = sns.create_topic(Name=source.name)["TopicArn"]
    source.make_function("sns")
    subscribed = sns.subscribe(TopicArn=topic, Protocol="lambda", Endpoint=source.function_arn)
    attributes = {
        "Test": {"DataType": "String", "StringValue": "TestString"},
        "TestBinary": {"DataType": "Binary", "BinaryValue": base64.b64decode("TestBinary==")},
    }
    published = sns.publish(
        TopicArn=topic, Message="Hello from SNS!", Subject="TestInvoke", MessageAttributes=attributes
    )
    event = source.got()
    varying = {
        "EventSubscriptionArn": subscribed["SubscriptionArn"],
        "Timestamp": MILLISECONDS,
        "Signature": SIGNATURE,
        "SigningCertUrl": CERTIFICATE,
        "MessageId": published["MessageId"],
        "TestBinary.Value": base64.b64encode(base64.b64decode("TestBinary==")).decode(),
        "UnsubscribeUrl": UNSUBSCRIBE_URL,
        "TopicArn": topic,
    }
    assert_like(event, SNS_TO_FUNCTION, varying)


# SNS to web servers and queues:
# https://docs.aws.amazon.com/sns/latest/dg/http-subscription-confirmation-json.html
# https://docs.aws.amazon.com/sns/latest/dg/http-notification-json.html and http-header.html

SNS_HEADERS = {
    "x-amz-sns-message-type": "Notification",
    "x-amz-sns-message-id": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
    "x-amz-sns-topic-arn": "arn:aws:sns:us-west-2:123456789012:MyTopic",
    "x-amz-sns-subscription-arn": "arn:aws:sns:us-west-2:123456789012:MyTopic:c9135db0-26c4-47ec-8998-413945fb5a96",
    "content-length": "773",
    "content-type": "text/plain; charset=UTF-8",
    "host": "myhost.example.com",
    "user-agent": "Amazon Simple Notification Service Agent",
}
SNS_CONFIRMATION = {
    "Type": "SubscriptionConfirmation",
    "MessageId": "165545c9-2a5c-472c-8df2-7ff2be2b3b1b",
    "Token": "2336412f37fb687f5d51e6e241d09c805a5a57b30d712f794cc5f6a988666d92768dd60a747ba6f3beb71854e285d6ad02428b09"
    "ceece29417f1f02d609c582afbacc99c583a916b9981dd2728f4ae6fdb82efd087cc3b7849e05798d2d2785c03b0879594eeac82c01f235d0"
    "e717736",
    "TopicArn": "arn:aws:sns:us-west-2:123456789012:MyTopic",
    "Message": "You have chosen to subscribe to the topic arn:aws:sns:us-west-2:123456789012:MyTopic.\n"
    "To confirm the subscription, visit the SubscribeURL included in this message.",
    "SubscribeURL": "https://sns.us-west-2.amazonaws.com/?Action=ConfirmSubscription"
    "&TopicArn=arn:aws:sns:us-west-2:123456789012:MyTopic&Token=2336412f37fb687f5d51e6e241d09c805a5a57b30d712f794cc5f6",
    "Timestamp": "2012-04-26T20:45:04.751Z",
    "SignatureVersion": "1",
    "Signature": "EXAMPLEpH+DcEwjAPg8O9mY8dReBSwksfg2S7WKQcikcNKWLQjwu6A4VbeS0QHVCkhRS7fUQvi2egU3N858fiTDN6bkkOxYDVrY0A"
    "d8L10Hs3zH81mtnPk5uvvolIC1CXGu43obcgFxeL3khZl8IKvO61GWB6jI9b5+gLPoBc1Q=",
    "SigningCertURL": "https://sns.us-west-2.amazonaws.com/"
    "SimpleNotificationService-f3ecfb7224c7233fe7bb5f59f96de52f.pem",
}
SNS_NOTIFICATION = {
    "Type": "Notification",
    "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
    "TopicArn": "arn:aws:sns:us-west-2:123456789012:MyTopic",
    "Subject": "My First Message",
    "Message": "Hello world!",
    "Timestamp": "2012-05-02T00:54:06.655Z",
    "SignatureVersion": "1",
    "Signature": "EXAMPLEw6JRNwm1LFQL4ICB0bnXrdB8ClRMTQFGBqwLpGbM78tJ4etTwC5zU7O3tS6tGpey3ejedNdOJ+1fkIp9F2/LmNVKb5aFlY"
    "q+9rk9ZiPph5YlLmWsDcyC5T+Sy9/umic5S0UQc2PEtgdpVBahwNOdMW4JPwk0kAJJztnc=",
    "SigningCertURL": "https://sns.us-west-2.amazonaws.com/"
    "SimpleNotificationService-f3ecfb7224c7233fe7bb5f59f96de52f.pem",
    "UnsubscribeURL": "https://sns.us-west-2.amazonaws.com/?Action=Unsubscribe&SubscriptionArn="
    "arn:aws:sns:us-west-2:123456789012:MyTopic:c9135db0-26c4-47ec-8998-413945fb5a96",
}
SUBSCRIBE_URL = re.compile(
    r"https?://[^/]+/\?Action=ConfirmSubscription&TopicArn=arn:aws:sns:[a-z0-9-]+:\d{12}:[A-Za-z0-9_-]+"
    r"&Token=[0-9a-f]+(&Version=2010-03-31)?"
)


def sns_varying(topic: str) -> dict[str, Any]:
    return {
        "MessageId": UUID,
        "Token": TOKEN,
        "TopicArn": topic,
        "SubscribeURL": SUBSCRIBE_URL,
        "Timestamp": MILLISECONDS,
        "Signature": SIGNATURE,
        "SigningCertURL": CERTIFICATE,
        "UnsubscribeURL": UNSUBSCRIBE_URL,
    }


def test_sns_to_a_web_server(source: Source, web: WebServer) -> None:
    sns = source.client("sns")
    topic = sns.create_topic(Name=source.name)["TopicArn"]
    arn = sns.subscribe(TopicArn=topic, Protocol="http", Endpoint=web.url, ReturnSubscriptionArn=True)[
        "SubscriptionArn"
    ]
    question = web.next()
    asked = json.loads(question.body)
    # The members come in the order of the sample, which some subscribers rely upon, and in its spacing.
    assert list(asked) == list(SNS_CONFIRMATION)
    assert '{\n  "Type" : "SubscriptionConfirmation",\n  "MessageId" : "' in question.body
    words = SNS_CONFIRMATION["Message"].replace("arn:aws:sns:us-west-2:123456789012:MyTopic", topic)
    assert_like(asked, SNS_CONFIRMATION, {**sns_varying(topic), "Message": words})
    assert asked["SubscribeURL"].partition("&Token=")[2].startswith(asked["Token"])
    verify(asked)
    headers = {
        "x-amz-sns-message-id": UUID,
        "x-amz-sns-topic-arn": topic,
        "x-amz-sns-subscription-arn": arn,
        "content-length": str(len(question.body.encode())),
        "host": web.url.removeprefix("http://"),
    }
    sample = {**SNS_HEADERS, "x-amz-sns-message-type": "SubscriptionConfirmation"}
    del sample["x-amz-sns-subscription-arn"]
    assert_like({name: question.headers.get(name) for name in sample}, sample, headers)
    assert "x-amz-sns-subscription-arn" not in question.headers

    read(asked["SubscribeURL"])
    sns.publish(TopicArn=topic, Message="Hello world!", Subject="My First Message")
    post = web.next()
    document = json.loads(post.body)
    assert list(document) == list(SNS_NOTIFICATION)
    assert_like(document, SNS_NOTIFICATION, sns_varying(topic))
    headers["content-length"] = str(len(post.body.encode()))
    assert_like({name: post.headers.get(name) for name in SNS_HEADERS}, SNS_HEADERS, headers)


def test_sns_to_a_queue(source: Source) -> None:
    """https://docs.aws.amazon.com/sns/latest/dg/sns-sqs-as-subscriber.html and sns-message-attributes.html"""
    sns = source.client("sns")
    topic = sns.create_topic(Name=source.name)["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=source.queue.arn)
    sns.publish(TopicArn=topic, Message="Hello world!", Subject="My First Message")
    (document,) = source.queue.bodies(1)
    assert_like(document, SNS_NOTIFICATION, sns_varying(topic))
    attribute = {"DataType": "Number", "StringValue": "100"}
    sns.publish(TopicArn=topic, Message="Hello world!", MessageAttributes={"price": attribute})
    (document,) = source.queue.bodies(1)
    sample = {**SNS_NOTIFICATION, "MessageAttributes": {"price": {"Type": "Number", "Value": "100"}}}
    del sample["Subject"]
    assert_like(document, sample, sns_varying(topic))


def test_a_fifo_topic_to_a_queue(source: Source) -> None:
    """Numbered and not signed, as users have it: https://github.com/aws-powertools/powertools-lambda-python/issues/1590"""
    sns, sqs = source.client("sns"), source.client("sqs")
    topic = sns.create_topic(Name=f"{source.name}.fifo", Attributes={"FifoTopic": "true"})["TopicArn"]
    queue = sqs.create_queue(QueueName=f"{source.name}.fifo", Attributes={"FifoQueue": "true"})["QueueUrl"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=f"{source.queue.arn}.fifo")
    order = {"MessageGroupId": "g", "MessageDeduplicationId": "d"}
    published = sns.publish(TopicArn=topic, Message="Hello world!", Subject="My First Message", **order)
    (message,) = sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=20, AttributeNames=["All"])["Messages"]
    assert {name: message["Attributes"][name] for name in order} == order
    signature = "SignatureVersion", "Signature", "SigningCertURL"
    sample = {name: value for name, value in SNS_NOTIFICATION.items() if name not in signature}
    sample["SequenceNumber"] = "10000000000000000000"
    varying = {"SequenceNumber": re.compile(r"\d{20}"), **sns_varying(topic)}
    varying["UnsubscribeURL"] = re.compile(UNSUBSCRIBE_URL.pattern.replace("[A-Za-z0-9_-]+:", r"[A-Za-z0-9_.-]+:"))
    assert_like(json.loads(message["Body"]), sample, varying)
    assert json.loads(message["Body"])["SequenceNumber"] == published["SequenceNumber"]


def test_what_a_topic_could_not_deliver(source: Source) -> None:
    """https://docs.aws.amazon.com/sns/latest/dg/sns-dead-letter-queues.html: the message as it was to be sent."""
    sns = source.client("sns")
    topic = sns.create_topic(Name=source.name)["TopicArn"]
    policy = json.dumps({"deadLetterTargetArn": source.queue.arn})
    gone = f"{source.queue.arn}-gone"
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=gone, Attributes={"RedrivePolicy": policy})
    sns.publish(TopicArn=topic, Message="Hello world!", Subject="My First Message")
    (letter,) = source.queue.await_messages(1)
    assert "MessageAttributes" not in letter
    assert_like(json.loads(letter["Body"]), SNS_NOTIFICATION, sns_varying(topic))
