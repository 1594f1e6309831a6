"""What the embedded SNS keeps, refuses and answers: through boto3, at moto's own seam."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError
from moto import mock_aws
from moto.core import DEFAULT_ACCOUNT_ID
from moto.sns.models import sns_backends

from lambdad_neighbours import topics
from lambdad_neighbours.inspections import INSPECTIONS

REGION = "us-east-1"
QUEUE = f"arn:aws:sqs:{REGION}:{DEFAULT_ACCOUNT_ID}:q"
FUNCTION = f"arn:aws:lambda:{REGION}:{DEFAULT_ACCOUNT_ID}:function:f"
URL = "https://example.com/hook"


@pytest.fixture
def sns(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A client of moto's SNS as it is changed here."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    for owner, name, replacement in topics.REPLACEMENTS:
        monkeypatch.setattr(owner, name, replacement)
    with mock_aws():
        yield boto3.client("sns", region_name=REGION)


@pytest.fixture
def topic(sns: Any) -> str:
    return str(sns.create_topic(Name="t")["TopicArn"])


@pytest.fixture
def fifo(sns: Any) -> str:
    attributes = {"FifoTopic": "true", "ContentBasedDeduplication": "true"}
    return str(sns.create_topic(Name="t.fifo", Attributes=attributes)["TopicArn"])


def known(topic_arn: str) -> Any:
    return INSPECTIONS["sns-subscriptions"]({"topic_arn": topic_arn})


def refused(call: Any, **parameters: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as raised:
        call(**parameters)
    return raised.value.response["Error"]["Code"], raised.value.response["Error"]["Message"]


def test_install_makes_every_replacement(monkeypatch: pytest.MonkeyPatch) -> None:
    for owner, name, _ in topics.REPLACEMENTS:
        monkeypatch.setattr(owner, name, getattr(owner, name))
    topics.install()
    assert all(getattr(owner, name) is replacement for owner, name, replacement in topics.REPLACEMENTS)


def test_a_message_is_taken_and_neither_sent_nor_kept(sns: Any, topic: str) -> None:
    sqs = boto3.client("sqs", region_name=REGION)
    url = sqs.create_queue(QueueName="q")["QueueUrl"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=QUEUE)
    answer = sns.publish(TopicArn=topic, Message="m")
    assert re.fullmatch(r"[0-9a-f-]{36}", answer["MessageId"])
    assert "SequenceNumber" not in answer
    assert "Messages" not in sqs.receive_message(QueueUrl=url)
    assert sns.publish(PhoneNumber="+15551234567", Message="m")["MessageId"]
    backend = sns_backends[DEFAULT_ACCOUNT_ID][REGION]
    assert (backend.topics[topic].sent_notifications, backend.sms_messages, backend.sms_message_objects) == ([], {}, {})


def test_an_endpoint_of_an_application_takes_messages_and_keeps_none(sns: Any) -> None:
    application = sns.create_platform_application(Name="a", Platform="GCM", Attributes={})["PlatformApplicationArn"]
    endpoint = sns.create_platform_endpoint(PlatformApplicationArn=application, Token="t", Attributes={})["EndpointArn"]
    assert sns.publish(TargetArn=endpoint, Message="m")["MessageId"]
    assert sns_backends[DEFAULT_ACCOUNT_ID][REGION].platform_endpoints[endpoint].messages == {}
    sns.set_endpoint_attributes(EndpointArn=endpoint, Attributes={"Enabled": "false"})
    assert refused(sns.publish, TargetArn=endpoint, Message="m") == ("EndpointDisabled", "Endpoint is disabled")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"Message": ""}, "Invalid parameter: Empty message"),
        ({"Message": "é" * (128 * 1024) + "x"}, "Invalid parameter: Message too long"),
        (
            {
                "Message": "x" * (256 * 1024 - 3),
                "MessageAttributes": {"a": {"DataType": "String", "StringValue": "1"}},
            },
            "Invalid parameter: Message too long",
        ),
        ({"Message": "m", "Subject": "s" * 101}, "Invalid parameter: Subject"),
        ({"Message": "m", "MessageStructure": "xml"}, "Invalid parameter: MessageStructure"),
        (
            {"Message": "m", "MessageStructure": "json"},
            "Invalid parameter: Message Structure - JSON message body failed to parse",
        ),
        (
            {"Message": '{"sqs": "m"}', "MessageStructure": "json"},
            "Invalid parameter: Message Structure - No default entry in JSON message body",
        ),
        (
            {"Message": "m", "MessageDeduplicationId": "d"},
            "Invalid parameter: MessageDeduplicationId Reason: The request includes MessageDeduplicationId parameter "
            "that is not valid for this topic type",
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_message_that_is_none_is_refused(sns: Any, topic: str, parameters: dict[str, Any], message: str) -> None:
    assert refused(sns.publish, TopicArn=topic, **parameters) == ("InvalidParameter", message)


def test_the_largest_message_is_taken(sns: Any, topic: str) -> None:
    assert sns.publish(TopicArn=topic, Message="x" * (256 * 1024))["MessageId"]


def test_a_message_needs_a_target_that_exists(sns: Any, topic: str) -> None:
    code, message = refused(sns.publish, Message="m")
    assert (code, message) == (
        "InvalidParameter",
        "Invalid parameter: TopicArn or TargetArn Reason: no value for required parameter",
    )
    assert refused(sns.publish, TopicArn=f"{topic}2", Message="m")[0] == "NotFound"


def test_a_batch_says_what_became_of_each_entry(sns: Any, topic: str) -> None:
    entries = [{"Id": "1", "Message": "a"}, {"Id": "2", "Message": "b", "Subject": "s" * 101}]
    answer = sns.publish_batch(TopicArn=topic, PublishBatchRequestEntries=entries)
    assert [each["Id"] for each in answer["Successful"]] == ["1"]
    assert [(each["Id"], each["Code"]) for each in answer["Failed"]] == [("2", "InvalidParameter")]
    entries = [{"Id": str(number), "Message": "x" * (100 * 1024)} for number in range(3)]
    assert refused(sns.publish_batch, TopicArn=topic, PublishBatchRequestEntries=entries)[0] == "BatchRequestTooLong"
    assert refused(sns.publish_batch, TopicArn=topic, PublishBatchRequestEntries=[])[0] == "EmptyBatchRequest"


# FIFO topics


def test_messages_of_a_fifo_topic_have_growing_numbers(sns: Any, fifo: str) -> None:
    answers = [sns.publish(TopicArn=fifo, Message=text, MessageGroupId="g") for text in "abc"]
    batch = [{"Id": str(number), "Message": f"m{number}", "MessageGroupId": "g"} for number in range(3)]
    answers += sns.publish_batch(TopicArn=fifo, PublishBatchRequestEntries=batch)["Successful"]
    numbers = [answer["SequenceNumber"] for answer in answers]
    assert all(re.fullmatch(r"\d{20}", number) for number in numbers)
    assert numbers == sorted(set(numbers))


def test_what_is_published_twice_in_five_minutes_is_one_message(
    sns: Any, fifo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1_700_000_000.0]
    monkeypatch.setattr(topics.time, "time", lambda: now[0])

    def publish(**more: str) -> tuple[str, str]:
        answer = sns.publish(**{"TopicArn": fifo, "Message": "m", "MessageGroupId": "g", **more})
        return answer["MessageId"], answer["SequenceNumber"]

    first = publish()
    assert publish() == first
    assert publish(MessageGroupId="other") == first
    assert publish(MessageDeduplicationId="d") != first
    now[0] += topics.DEDUPLICATION_S + 1
    again = publish()
    assert again[0] != first[0]
    assert again[1] > first[1]
    assert len(sns_backends[DEFAULT_ACCOUNT_ID][REGION].topics[fifo].lambdad_numbered) == 1


def test_a_fifo_topic_may_tell_duplicates_by_group(sns: Any) -> None:
    attributes = {"FifoTopic": "true", "FifoThroughputScope": "MessageGroup"}
    topic = sns.create_topic(Name="g.fifo", Attributes=attributes)["TopicArn"]
    ids = [
        sns.publish(TopicArn=topic, Message="m", MessageGroupId=group, MessageDeduplicationId="d")["MessageId"]
        for group in "aba"
    ]
    assert ids[0] == ids[2] != ids[1]
    assert known(topic)["deduplication_by_group"] is True
    assert sns.get_topic_attributes(TopicArn=topic)["Attributes"]["FifoThroughputScope"] == "MessageGroup"


def test_a_fifo_topic_asks_for_group_and_deduplication_id(sns: Any) -> None:
    topic = sns.create_topic(Name="t.fifo", Attributes={"FifoTopic": "true"})["TopicArn"]
    assert refused(sns.publish, TopicArn=topic, Message="m") == (
        "InvalidParameter",
        "Invalid parameter: The MessageGroupId parameter is required for FIFO topics",
    )
    assert refused(sns.publish, TopicArn=topic, Message="m", MessageGroupId="g") == (
        "InvalidParameter",
        "Invalid parameter: The topic should either have ContentBasedDeduplication enabled or "
        "MessageDeduplicationId provided explicitly",
    )


def test_what_is_kept_of_topics_and_subscriptions_can_be_pickled(sns: Any, fifo: str, topic: str) -> None:
    sns.publish(TopicArn=fifo, Message="m", MessageGroupId="g")
    sns.subscribe(TopicArn=topic, Protocol="https", Endpoint=URL)
    backend = sns_backends[DEFAULT_ACCOUNT_ID][REGION]
    (subscription,) = backend.subscriptions.values()
    for model, names in (
        (backend.topics[fifo], ("lambdad_numbered", "lambdad_last_number")),
        (subscription, ("lambdad_token", "lambdad_token_until")),
    ):
        kept = {name: vars(model)[name] for name in names}
        assert pickle.loads(pickle.dumps(kept)) == kept


# Subscriptions


@pytest.mark.parametrize(
    ("name", "protocol", "endpoint", "message"),
    [
        ("t", "ftp", "ftp://a", "Invalid parameter: Amazon SNS does not support this protocol string: ftp"),
        ("t", "https", "http://a", "Invalid parameter: Endpoint must match the specified protocol"),
        ("t", "sqs", "q", "Invalid parameter: SQS endpoint ARN"),
        ("t", "lambda", QUEUE, "Invalid parameter: Lambda endpoint ARN"),
        ("t", "email", "", "Invalid parameter: Endpoint"),
        ("t.fifo", "lambda", FUNCTION, "Invalid parameter: Invalid protocol type: lambda"),
        (
            "t",
            "sqs",
            f"{QUEUE}.fifo",
            "Invalid parameter: Invalid parameter: Endpoint Reason: FIFO SQS Queues can not be subscribed to standard "
            "SNS topics",
        ),
    ],
)
def test_what_cannot_be_subscribed_is_refused(
    sns: Any, topic: str, fifo: str, name: str, protocol: str, endpoint: str, message: str
) -> None:
    arn = fifo if name == "t.fifo" else topic
    assert refused(sns.subscribe, TopicArn=arn, Protocol=protocol, Endpoint=endpoint) == ("InvalidParameter", message)
    assert known(arn)["subscriptions"] == []


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("Colour", "red", "Unknown attribute Colour"),
        ("RawMessageDelivery", "yes", "RawMessageDelivery: Invalid value [yes]. Must be true or false."),
        (
            "FilterPolicyScope",
            "Body",
            "FilterPolicyScope: Invalid value [Body]. Please use either MessageBody or MessageAttributes",
        ),
        ("FilterPolicy", '{"a": [{"around": 1}]}', "FilterPolicy: Unrecognized match type around"),
        (
            "FilterPolicy",
            '{"a": {"b": ["c"]}}',
            "FilterPolicy: Filter policy scope MessageAttributes does not support nested filter policy",
        ),
        ("RedrivePolicy", "{}", "RedrivePolicy: deadLetterTargetArn is an invalid arn"),
        ("RedrivePolicy", "dlq", "RedrivePolicy: failed to parse JSON."),
        (
            "DeliveryPolicy",
            '{"healthyRetryPolicy": {"numRetries": 101}}',
            "DeliveryPolicy: numRetries must be between 0 and 100",
        ),
        ("DeliveryPolicy", '{"requestPolicy": 1}', "DeliveryPolicy: its policies must be objects"),
        (
            "DeliveryPolicy",
            '{"requestPolicy": {"headerContentType": "text/plain\\r\\nx: y"}}',
            "DeliveryPolicy: headerContentType is no content type",
        ),
    ],
)
def test_a_bad_attribute_is_refused_and_nothing_subscribed(
    sns: Any, topic: str, name: str, value: str, reason: str
) -> None:
    code, message = refused(sns.subscribe, TopicArn=topic, Protocol="sqs", Endpoint=QUEUE, Attributes={name: value})
    assert (code, message) == ("InvalidParameter", f"Invalid parameter: Attributes Reason: {reason}")
    assert known(topic)["subscriptions"] == []
    arn = sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=QUEUE)["SubscriptionArn"]
    code, message = refused(
        sns.set_subscription_attributes, SubscriptionArn=arn, AttributeName=name, AttributeValue=value
    )
    assert code == "InvalidParameter"
    assert message == "Invalid parameter: " + ("AttributeName" if name == "Colour" else reason)


def test_the_attributes_of_a_subscription_are_told(sns: Any, topic: str) -> None:
    policy, body_policy = '{"a": [{"wildcard": "x*y"}]}', '{"a": {"b": [{"cidr": "10.0.0.0/8"}]}}'
    dead_letters = json.dumps({"deadLetterTargetArn": f"{QUEUE}-dead"})
    arn = sns.subscribe(
        TopicArn=topic,
        Protocol="sqs",
        Endpoint=QUEUE,
        Attributes={"FilterPolicy": policy, "RawMessageDelivery": "true", "RedrivePolicy": dead_letters},
    )["SubscriptionArn"]
    attributes = sns.get_subscription_attributes(SubscriptionArn=arn)["Attributes"]
    assert attributes["RawMessageDelivery"] == "true"
    assert attributes["FilterPolicyScope"] == "MessageAttributes"
    assert attributes["PendingConfirmation"] == "false"
    assert known(topic)["subscriptions"] == [
        {
            "arn": arn,
            "protocol": "sqs",
            "endpoint": QUEUE,
            "owner": DEFAULT_ACCOUNT_ID,
            "confirmed": True,
            "token": "",
            "raw": True,
            "filter_policy": policy,
            "filter_policy_scope": "MessageAttributes",
            "delivery_policy": "",
            "redrive_policy": {"deadLetterTargetArn": f"{QUEUE}-dead"},
        }
    ]
    for name, value in (
        ("FilterPolicyScope", "MessageBody"),
        ("FilterPolicy", body_policy),
        ("RawMessageDelivery", "false"),
        ("RedrivePolicy", ""),
    ):
        sns.set_subscription_attributes(SubscriptionArn=arn, AttributeName=name, AttributeValue=value)
    (told,) = known(topic)["subscriptions"]
    assert (told["filter_policy"], told["filter_policy_scope"]) == (body_policy, "MessageBody")
    assert (told["raw"], told["redrive_policy"]) == (False, {})
    _, message = refused(
        sns.set_subscription_attributes,
        SubscriptionArn=arn,
        AttributeName="FilterPolicyScope",
        AttributeValue="MessageAttributes",
    )
    assert "does not support nested" in message
    assert known(topic)["subscriptions"][0]["filter_policy_scope"] == "MessageBody"


def test_subscribing_again_is_the_same_subscription_unless_attributes_differ(sns: Any, topic: str) -> None:
    attributes = {"RawMessageDelivery": "true"}
    first = sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=QUEUE, Attributes=attributes)
    again = sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=QUEUE, Attributes=attributes)
    assert again["SubscriptionArn"] == first["SubscriptionArn"]
    assert refused(
        sns.subscribe, TopicArn=topic, Protocol="sqs", Endpoint=QUEUE, Attributes={"RawMessageDelivery": "false"}
    ) == (
        "InvalidParameter",
        "Invalid parameter: Attributes Reason: Subscription already exists with different attributes",
    )


def test_a_web_server_is_subscribed_when_it_has_confirmed_it(sns: Any, topic: str) -> None:
    assert sns.subscribe(TopicArn=topic, Protocol="https", Endpoint=URL)["SubscriptionArn"] == "pending confirmation"
    arn = sns.subscribe(TopicArn=topic, Protocol="https", Endpoint=URL, ReturnSubscriptionArn=True)["SubscriptionArn"]
    (pending,) = known(topic)["subscriptions"]
    assert (pending["arn"], pending["confirmed"]) == (arn, False)
    assert sns.list_subscriptions()["Subscriptions"][0]["SubscriptionArn"] == "PendingConfirmation"
    assert sns.get_subscription_attributes(SubscriptionArn=arn)["Attributes"]["PendingConfirmation"] == "true"
    counts = sns.get_topic_attributes(TopicArn=topic)["Attributes"]
    assert (counts["SubscriptionsPending"], counts["SubscriptionsConfirmed"]) == ("1", "0")

    anybody = boto3.client("sns", region_name="eu-west-1", config=Config(signature_version=UNSIGNED))
    for wrong in ("x", "é", pending["token"][:-1]):
        assert refused(anybody.confirm_subscription, TopicArn=topic, Token=wrong) == (
            "InvalidParameter",
            "Invalid token",
        )
    assert refused(anybody.confirm_subscription, TopicArn=f"{topic}2", Token=pending["token"])[0] == "NotFound"
    confirmed = anybody.confirm_subscription(TopicArn=topic, Token=pending["token"])
    assert confirmed["SubscriptionArn"] == arn
    assert known(topic)["subscriptions"][0]["confirmed"] is True
    (listed,) = sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
    assert listed == {
        "SubscriptionArn": arn,
        "Owner": DEFAULT_ACCOUNT_ID,
        "Protocol": "https",
        "Endpoint": URL,
        "TopicArn": topic,
    }

    anybody.unsubscribe(SubscriptionArn=arn)
    assert known(topic)["subscriptions"] == []


def test_a_token_is_good_for_two_days(sns: Any, topic: str, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1_700_000_000.0]
    monkeypatch.setattr(topics.time, "time", lambda: now[0])
    sns.subscribe(TopicArn=topic, Protocol="https", Endpoint=URL)
    token = known(topic)["subscriptions"][0]["token"]
    now[0] += topics.TOKEN_VALID_S + 1
    assert refused(sns.confirm_subscription, TopicArn=topic, Token=token)[1] == "Invalid token"
    sns.subscribe(TopicArn=topic, Protocol="https", Endpoint=URL)
    assert sns.confirm_subscription(TopicArn=topic, Token=token)["SubscriptionArn"].startswith(topic)


def test_a_subscription_may_ask_for_signed_unsubscribing(sns: Any, topic: str) -> None:
    sns.subscribe(TopicArn=topic, Protocol="https", Endpoint=URL)
    token = known(topic)["subscriptions"][0]["token"]
    arn = sns.confirm_subscription(TopicArn=topic, Token=token, AuthenticateOnUnsubscribe="true")["SubscriptionArn"]
    anybody = boto3.client("sns", region_name=REGION, config=Config(signature_version=UNSIGNED))
    assert refused(anybody.unsubscribe, SubscriptionArn=arn)[0] == "AuthorizationError"
    sns.unsubscribe(SubscriptionArn=arn)
    assert known(topic)["subscriptions"] == []


def test_a_pending_subscription_has_no_arn_to_unsubscribe(sns: Any) -> None:
    assert refused(sns.unsubscribe, SubscriptionArn="PendingConfirmation") == (
        "InvalidParameter",
        "Invalid parameter: SubscriptionArn Reason: An ARN must have at least 6 elements, not 1",
    )


def test_a_queue_of_another_account_has_to_confirm(sns: Any, topic: str) -> None:
    foreign = f"arn:aws:sqs:{REGION}:999999999999:q"
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=foreign)
    (pending,) = known(topic)["subscriptions"]
    assert pending["confirmed"] is False
    assert pending["token"]


def test_a_topic_goes_with_its_subscriptions(sns: Any, topic: str) -> None:
    sns.subscribe(TopicArn=topic, Protocol="lambda", Endpoint=FUNCTION)
    sns.delete_topic(TopicArn=topic)
    assert known(topic) is None
    assert sns.list_subscriptions()["Subscriptions"] == []


def test_the_attributes_of_a_topic_that_deliveries_need_are_told(sns: Any, topic: str, fifo: str) -> None:
    delivery_policy = '{"http": {"defaultHealthyRetryPolicy": {"numRetries": 5}}}'
    sns.set_topic_attributes(TopicArn=topic, AttributeName="SignatureVersion", AttributeValue="2")
    sns.set_topic_attributes(TopicArn=topic, AttributeName="DeliveryPolicy", AttributeValue=delivery_policy)
    told = known(topic)
    assert (told["fifo"], told["signature_version"], told["delivery_policy"]) == (False, "2", delivery_policy)
    assert sns.get_topic_attributes(TopicArn=topic)["Attributes"]["SignatureVersion"] == "2"
    told = known(fifo)
    assert (told["fifo"], told["content_based_deduplication"], told["signature_version"]) == (True, True, "1")


@pytest.mark.parametrize("arn", ["", "t", f"arn:aws:sns:nowhere:{DEFAULT_ACCOUNT_ID}:t"])
def test_there_is_nothing_to_tell_of_a_topic_that_is_not_there(sns: Any, arn: str) -> None:
    assert known(arn) is None


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("Arn", "x", "Unknown attribute Arn"),
        ("ArchivePolicy", "{}", "Unknown attribute ArchivePolicy"),
        ("SignatureVersion", "3", "SignatureVersion: Invalid value [3]. Must be 1 or 2."),
        ("FifoThroughputScope", "x", "FifoThroughputScope: Invalid value [x]. Must be Topic or MessageGroup."),
        ("DeliveryPolicy", "[]", "DeliveryPolicy: failed to parse JSON."),
        ("DeliveryPolicy", '{"http": [1]}', "DeliveryPolicy: http must be an object"),
        (
            "DeliveryPolicy",
            '{"http": {"defaultHealthyRetryPolicy": {"numRetries": "3"}}}',
            "DeliveryPolicy: numRetries must be between 0 and 100",
        ),
    ],
)
def test_a_bad_attribute_of_a_topic_is_refused(sns: Any, topic: str, name: str, value: str, reason: str) -> None:
    change = {"TopicArn": topic, "AttributeName": name, "AttributeValue": value}
    message = "AttributeName" if reason.startswith("Unknown") else reason
    assert refused(sns.set_topic_attributes, **change) == ("InvalidParameter", f"Invalid parameter: {message}")
    assert refused(sns.create_topic, Name="other", Attributes={name: value}) == (
        "InvalidParameter",
        f"Invalid parameter: Attributes Reason: {reason}",
    )
    assert len(sns.list_topics()["Topics"]) == 1
