"""What a message becomes for a function, a queue and a web server, and how often each of them is tried."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from lambdad.domain.dispatches import Dispatch, DispatchPolicy
from lambdad.domain.sns_deliveries import Deduplication, Subscription, Topic, confirmation, dispatch, text_for
from lambdad.domain.sns_messages import CONFIRMATION, Message, Signed, envelope, unsubscribe_url
from lambdad.domain.sns_requests import MessageAttribute

ACCOUNT = "123456789012"
ENDPOINT = "http://127.0.0.1:4566"
URL = "https://example.com/hook"
QUEUE = "arn:aws:sqs:eu-west-1:999999999999:q"
DEAD = f"arn:aws:sqs:us-east-1:{ACCOUNT}:dead"
TOPIC = Topic(arn=f"arn:aws:sns:us-east-1:{ACCOUNT}:t")
ARN = f"{TOPIC.arn}:1"
SIGNED = Signed("1", "c2lnbmVk", f"{ENDPOINT}/c.pem")
ATTRIBUTES = {"a": MessageAttribute("String", "x"), "b": MessageAttribute("Binary", "AQI=")}
MESSAGE = Message(
    message_id="m", topic_arn=TOPIC.arn, text="hello", timestamp="2019-01-02T12:45:07.000Z", attributes=ATTRIBUTES
)
DAY_MS = 24 * 3600 * 1000


def subscription(protocol: str, endpoint: str, **more: object) -> Subscription:
    return replace(Subscription(arn=ARN, protocol=protocol, endpoint=endpoint), **more)  # type: ignore[arg-type]


def sent(subscribed: Subscription, fifo: Deduplication | None = None, message: Message = MESSAGE) -> Dispatch:
    made = dispatch(TOPIC, subscribed, message, SIGNED, fifo or Deduplication(), ENDPOINT)
    assert made is not None
    return made


ENVELOPE = envelope(MESSAGE, SIGNED, unsubscribe_url(ENDPOINT, ARN))


def test_a_function_gets_its_event() -> None:
    arn = f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:f:live"
    made = sent(subscription("lambda", arn))
    event = json.loads(made.parameters["Payload"])
    assert event["Records"][0]["EventSubscriptionArn"] == ARN
    assert (made.service, made.target, made.source, made.principal) == (
        "lambda",
        arn,
        TOPIC.arn,
        "sns.amazonaws.com",
    )
    assert (made.account_id, made.region) == (ACCOUNT, "us-east-1")
    assert made.policy == DispatchPolicy(100_015, 23 * DAY_MS)
    assert made.dead_letter is None


def test_a_queue_gets_the_envelope_where_it_is() -> None:
    made = sent(subscription("sqs", QUEUE))
    assert made.parameters == {"MessageBody": ENVELOPE}
    assert (made.service, made.operation, made.target, made.region) == ("sqs", "SendMessage", QUEUE, "eu-west-1")
    assert made.policy == DispatchPolicy(100_015, 23 * DAY_MS)


def test_a_queue_may_get_the_message_alone() -> None:
    made = sent(subscription("sqs", QUEUE, raw=True))
    assert made.parameters == {
        "MessageBody": "hello",
        "MessageAttributes": {
            "a": {"DataType": "String", "StringValue": "x"},
            "b": {"DataType": "Binary", "BinaryValue": b"\x01\x02"},
        },
    }
    assert sent(subscription("sqs", QUEUE, raw=True), message=replace(MESSAGE, attributes={})).parameters == {
        "MessageBody": "hello"
    }


def test_group_and_deduplication_id_go_on_to_queues() -> None:
    fifo = Deduplication(group_id="g", deduplication_id="d")
    ordered = sent(subscription("sqs", f"{QUEUE}.fifo", dead_letter_arn=f"{DEAD}.fifo"), fifo)
    assert ordered.parameters == {
        "MessageBody": ENVELOPE,
        "MessageGroupId": "g",
        "MessageDeduplicationId": "d",
    }
    assert ordered.dead_letter is not None
    assert (ordered.dead_letter.group_id, ordered.dead_letter.deduplication_id) == ("g", "d")
    standard = sent(subscription("sqs", QUEUE, dead_letter_arn=DEAD), fifo)
    assert standard.parameters == {"MessageBody": ENVELOPE, "MessageGroupId": "g"}
    assert standard.dead_letter is not None
    assert (standard.dead_letter.group_id, standard.dead_letter.deduplication_id) == ("g", "")


@pytest.mark.parametrize("protocol", ["sqs", "lambda", "https"])
def test_a_dead_letter_is_what_a_queue_would_get(protocol: str) -> None:
    endpoint = {"sqs": QUEUE, "lambda": f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:f", "https": URL}[protocol]
    letter = sent(subscription(protocol, endpoint, dead_letter_arn=DEAD)).dead_letter
    assert letter is not None
    assert (letter.queue_arn, letter.body, letter.attributes) == (DEAD, ENVELOPE, {})
    raw = sent(subscription(protocol, endpoint, dead_letter_arn=DEAD, raw=True)).dead_letter
    assert raw is not None
    assert raw.body == "hello"
    assert raw.attributes["a"] == {"DataType": "String", "StringValue": "x"}


def test_more_attributes_than_a_queue_takes_lead_to_the_dead_letter_queue() -> None:
    def attributes(count: int) -> Message:
        return replace(MESSAGE, attributes={str(number): ATTRIBUTES["a"] for number in range(count)})

    raw = subscription("sqs", QUEUE, raw=True)
    assert len(sent(raw, message=attributes(10)).parameters["MessageAttributes"]) == 10
    assert dispatch(TOPIC, raw, attributes(11), SIGNED, Deduplication(), ENDPOINT) is None
    made = sent(replace(raw, dead_letter_arn=DEAD), message=attributes(11))
    assert made.target == DEAD
    assert len(json.loads(made.parameters["MessageBody"])["MessageAttributes"]) == 11
    assert len(json.loads(sent(subscription("sqs", QUEUE), message=attributes(11)).parameters["MessageBody"])) > 1
    web = sent(subscription("https", URL, raw=True, dead_letter_arn=DEAD), message=attributes(11))
    assert web.dead_letter is not None
    assert web.dead_letter.attributes == {}


def test_a_web_server_gets_the_envelope_with_headers() -> None:
    made = sent(subscription("https", URL))
    assert (made.service, made.target, made.region) == ("http", URL, "us-east-1")
    assert made.parameters == {
        "Body": ENVELOPE,
        "Headers": {
            "Content-Type": "text/plain; charset=UTF-8",
            "User-Agent": "Amazon Simple Notification Service Agent",
            "x-amz-sns-message-id": "m",
            "x-amz-sns-message-type": "Notification",
            "x-amz-sns-subscription-arn": ARN,
            "x-amz-sns-topic-arn": TOPIC.arn,
        },
    }
    assert made.policy == DispatchPolicy(4, 3600 * 1000)


def test_a_web_server_may_get_the_message_alone() -> None:
    made = sent(subscription("https", URL, raw=True))
    assert made.parameters["Body"] == "hello"
    assert made.parameters["Headers"]["x-amz-sns-rawdelivery"] == "true"


@pytest.mark.parametrize(
    ("own", "of_topic", "attempts", "content_type"),
    [
        ("", "", 4, "text/plain; charset=UTF-8"),
        ('{"healthyRetryPolicy": {"numRetries": 50}}', "", 51, "text/plain; charset=UTF-8"),
        ('{"healthyRetryPolicy": {"numRetries": 0}}', "", 1, "text/plain; charset=UTF-8"),
        ('{"healthyRetryPolicy": null}', '{"http": {"defaultHealthyRetryPolicy": {"numRetries": 7}}}', 8, None),
        (
            '{"requestPolicy": {"headerContentType": "application/json"}}',
            '{"http": {"defaultHealthyRetryPolicy": {"numRetries": 7}}}',
            8,
            "application/json",
        ),
        (
            '{"healthyRetryPolicy": {"numRetries": 50}}',
            '{"http": {"defaultHealthyRetryPolicy": {"numRetries": 7}, "disableSubscriptionOverrides": true, '
            '"defaultRequestPolicy": {"headerContentType": "text/xml"}}}',
            8,
            "text/xml",
        ),
    ],
)
def test_delivery_policies_are_honoured(own: str, of_topic: str, attempts: int, content_type: str | None) -> None:
    topic = replace(TOPIC, delivery_policy=of_topic)
    made = dispatch(topic, subscription("http", URL, delivery_policy=own), MESSAGE, SIGNED, Deduplication(), ENDPOINT)
    assert made is not None
    assert made.policy.max_attempts == attempts
    assert made.parameters["Headers"]["Content-Type"] == (content_type or "text/plain; charset=UTF-8")


def test_who_is_to_confirm_is_asked() -> None:
    question = replace(MESSAGE, type=CONFIRMATION, token="t", subscribe_url=f"{ENDPOINT}/?Token=t", attributes={})
    made = confirmation(TOPIC, subscription("https", URL), question, SIGNED)
    assert made.target == URL
    assert json.loads(made.parameters["Body"])["Token"] == "t"
    assert made.parameters["Headers"]["x-amz-sns-message-type"] == "SubscriptionConfirmation"
    assert "x-amz-sns-subscription-arn" not in made.parameters["Headers"]
    asked = confirmation(TOPIC, subscription("sqs", QUEUE), question, SIGNED)
    assert (asked.target, asked.operation) == (QUEUE, "SendMessage")
    assert json.loads(asked.parameters["MessageBody"])["SubscribeURL"] == f"{ENDPOINT}/?Token=t"


def test_each_protocol_has_its_text() -> None:
    texts = json.dumps({"default": "d", "sqs": "q", "http": 1})
    assert text_for("sqs", texts, structured=True) == "q"
    assert text_for("lambda", texts, structured=True) == "d"
    assert text_for("http", texts, structured=True) == "d"
    assert text_for("sqs", texts, structured=False) == texts


def test_who_has_not_confirmed_wants_nothing() -> None:
    assert not subscription("https", URL, confirmed=False).wants("m", {})
    assert subscription("https", URL).wants("m", {})
    filtered = subscription("https", URL, filter_policy='{"a": ["y"]}')
    assert not filtered.wants("m", ATTRIBUTES)
    assert subscription("https", URL, filter_policy='{"a": ["x"]}').wants("m", ATTRIBUTES)
    by_body = replace(filtered, filter_policy_scope="MessageBody")
    assert by_body.wants('{"a": "y"}', {})
