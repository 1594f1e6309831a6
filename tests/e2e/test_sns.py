"""Topics of the embedded SNS, end to end: functions, queues and web servers, by the real daemon with boto3."""

from __future__ import annotations

import base64
import json
import queue
import re
import threading
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from botocore.exceptions import ClientError
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from daemons import Daemon, create_python
from neighbours import Queue
from queued_events import HASTY, PATIENCE_S, await_dead, await_lines

ACCOUNT, REGION = "000000000000", "us-east-1"
PRINTS = """
import json


def handler(event, context):
    print("Event: " + json.dumps(event))
"""
MESSAGE_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
ATTRIBUTES = {
    "Test": {"DataType": "String", "StringValue": "TestString"},
    "TestBinary": {"DataType": "Binary", "BinaryValue": b"\x00\xff\x01"},
    "Price": {"DataType": "Number", "StringValue": "9.50"},
}


class Post(NamedTuple):
    path: str
    headers: dict[str, str]
    body: str


class WebServer:
    """A subscriber: keeps what is posted, and answers each post with the next of `statuses`, then with 200."""

    def __init__(self, port: int = 0) -> None:
        self.posts: queue.Queue[Post] = queue.Queue()
        self.statuses: list[int] = []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                self.send_response(owner.statuses.pop(0) if owner.statuses else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()
                owner.posts.put(Post(self.path, {k.lower(): v for k, v in self.headers.items()}, body))

            def log_message(self, format: str, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def next(self) -> Post:
        return self.posts.get(timeout=PATIENCE_S)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def web() -> Iterator[WebServer]:
    server = WebServer()
    try:
        yield server
    finally:
        server.close()


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon that retries soon."""
    with Daemon(tmp_path_factory.mktemp("sns") / "data", HASTY) as own:
        yield own


@pytest.fixture
def sns(daemon: Daemon) -> Any:
    return daemon.client("sns")


@pytest.fixture
def topic(sns: Any, unique: Callable[[str], str]) -> str:
    return str(sns.create_topic(Name=unique("topic"))["TopicArn"])


@pytest.fixture
def make_queue(daemon: Daemon, unique: Callable[[str], str]) -> Callable[[str], Queue]:
    return lambda prefix: Queue(daemon.client("sqs"), unique(prefix))


def read(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
        content: bytes = answer.read()
    return content


def verify(document: dict[str, Any]) -> None:
    """Check a signature as AWS tells subscribers to: https://docs.aws.amazon.com/sns/latest/dg/
    sns-verify-signature-of-message-verify-message-signature.html"""
    names = ["Message", "MessageId", "Subject", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"]
    text = "".join(f"{name}\n{document[name]}\n" for name in names if document.get(name) is not None)
    pem = read(document.get("SigningCertURL") or document["SigningCertUrl"])
    key = x509.load_pem_x509_certificate(pem).public_key()
    assert isinstance(key, RSAPublicKey)
    algorithm: hashes.HashAlgorithm = hashes.SHA1() if document["SignatureVersion"] == "1" else hashes.SHA256()
    key.verify(base64.b64decode(document["Signature"]), text.encode(), padding.PKCS1v15(), algorithm)


def subscribe(sns: Any, topic: str, endpoint: str, protocol: str = "sqs", **attributes: str) -> str:
    answer = sns.subscribe(
        TopicArn=topic, Protocol=protocol, Endpoint=endpoint, Attributes=attributes, ReturnSubscriptionArn=True
    )
    return str(answer["SubscriptionArn"])


def allow(daemon: Daemon, name: str, topic: str) -> None:
    daemon.client("lambda").add_permission(
        FunctionName=name,
        StatementId="sns",
        Action="lambda:InvokeFunction",
        Principal="sns.amazonaws.com",
        SourceArn=topic,
    )


def test_a_function_gets_the_event_that_aws_documents(
    daemon: Daemon, sns: Any, topic: str, unique: Callable[[str], str]
) -> None:
    name = unique("fn")
    arn = create_python(daemon.client("lambda"), name, PRINTS)["FunctionArn"]
    allow(daemon, name, topic)
    subscription = subscribe(sns, topic, arn, "lambda")
    message_id = sns.publish(TopicArn=topic, Message="Hello ü", Subject="TestInvoke", MessageAttributes=ATTRIBUTES)[
        "MessageId"
    ]
    (line,) = await_lines(daemon, name, "Event: ", 1)
    event = json.loads(line.removeprefix("Event: "))
    verify(event["Records"][0]["Sns"])
    assert MESSAGE_ID.fullmatch(message_id)
    taken = {name: event["Records"][0]["Sns"].pop(name) for name in ("Signature", "SigningCertUrl", "Timestamp")}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", taken["Timestamp"])
    assert event == {
        "Records": [
            {
                "EventSource": "aws:sns",
                "EventVersion": "1.0",
                "EventSubscriptionArn": subscription,
                "Sns": {
                    "Type": "Notification",
                    "MessageId": message_id,
                    "TopicArn": topic,
                    "Subject": "TestInvoke",
                    "Message": "Hello ü",
                    "SignatureVersion": "1",
                    "UnsubscribeUrl": (
                        f"{daemon.url}/?Action=Unsubscribe&SubscriptionArn={subscription}&Version=2010-03-31"
                    ),
                    "MessageAttributes": {
                        "Test": {"Type": "String", "Value": "TestString"},
                        "TestBinary": {"Type": "Binary", "Value": "AP8B"},
                        "Price": {"Type": "Number", "Value": "9.50"},
                    },
                },
            }
        ]
    }


def test_a_function_that_does_not_let_the_topic_in_is_told_to_the_dead_letter_queue(
    daemon: Daemon, sns: Any, topic: str, unique: Callable[[str], str], make_queue: Callable[[str], Queue]
) -> None:
    arn = create_python(daemon.client("lambda"), unique("fn"), PRINTS)["FunctionArn"]
    dead = make_queue("dead")
    policy = json.dumps({"deadLetterTargetArn": dead.arn})
    subscribe(sns, topic, arn, "lambda", RedrivePolicy=policy)
    sns.publish(TopicArn=topic, Message="m")
    (letter,) = dead.bodies(1)
    assert (letter["Type"], letter["Message"]) == ("Notification", "m")


def test_a_queue_gets_the_envelope_signed_as_the_topic_says(
    sns: Any, topic: str, make_queue: Callable[[str], Queue]
) -> None:
    target = make_queue("q")
    subscription = subscribe(sns, topic, target.arn)
    sns.set_topic_attributes(TopicArn=topic, AttributeName="SignatureVersion", AttributeValue="2")
    texts = json.dumps({"default": "d", "sqs": "q ü\n"})
    message_id = sns.publish(
        TopicArn=topic, Message=texts, MessageStructure="json", Subject="s", MessageAttributes=ATTRIBUTES
    )["MessageId"]
    (document,) = target.bodies(1)
    verify(document)
    assert (document["MessageId"], document["Message"], document["Subject"]) == (message_id, "q ü\n", "s")
    assert document["SignatureVersion"] == "2"
    assert document["MessageAttributes"]["Price"] == {"Type": "Number", "Value": "9.50"}
    read(document["UnsubscribeURL"])
    assert subscription not in [
        each["SubscriptionArn"] for each in sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
    ]


def test_a_queue_may_get_the_message_alone_with_its_attributes(
    daemon: Daemon, sns: Any, topic: str, make_queue: Callable[[str], Queue]
) -> None:
    target = make_queue("q")
    subscribe(sns, topic, target.arn, RawMessageDelivery="true")
    sns.publish(TopicArn=topic, Message="just this", MessageAttributes=ATTRIBUTES)
    (message,) = daemon.client("sqs").receive_message(
        QueueUrl=target.url, WaitTimeSeconds=20, MessageAttributeNames=["All"]
    )["Messages"]
    assert message["Body"] == "just this"
    assert message["MessageAttributes"] == ATTRIBUTES


def test_filter_policies_choose_by_attributes_and_by_body(
    sns: Any, topic: str, make_queue: Callable[[str], Queue]
) -> None:
    by_attribute, by_body, all_of_it = (make_queue(name) for name in ("attribute", "body", "all"))
    subscribe(sns, topic, all_of_it.arn, RawMessageDelivery="true")
    subscribe(
        sns,
        topic,
        by_attribute.arn,
        RawMessageDelivery="true",
        FilterPolicy=json.dumps({"price": [{"numeric": [">", 5]}], "kind": [{"wildcard": "b*k"}]}),
    )
    subscribe(
        sns,
        topic,
        by_body.arn,
        RawMessageDelivery="true",
        FilterPolicyScope="MessageBody",
        FilterPolicy=json.dumps({"store": {"city": [{"anything-but": ["Rome"]}]}}),
    )

    def entry(number: int, city: str, price: str, kind: str) -> dict[str, Any]:
        return {
            "Id": str(number),
            "Message": json.dumps({"n": number, "store": {"city": city}}),
            "MessageAttributes": {
                "price": {"DataType": "Number", "StringValue": price},
                "kind": {"DataType": "String", "StringValue": kind},
            },
        }

    entries = [entry(0, "Rome", "7", "book"), entry(1, "Oslo", "5", "book"), entry(2, "Oslo", "6.5", "brick")]
    answer = sns.publish_batch(TopicArn=topic, PublishBatchRequestEntries=[*entries, entry(3, "Rome", "7", "pen")])
    assert len({each["MessageId"] for each in answer["Successful"]}) == 4
    assert sorted(body["n"] for body in all_of_it.bodies(4)) == [0, 1, 2, 3]
    assert sorted(body["n"] for body in by_attribute.bodies(2)) == [0, 2]
    assert sorted(body["n"] for body in by_body.bodies(2)) == [1, 2]


def test_a_bad_filter_policy_is_refused(sns: Any, topic: str, make_queue: Callable[[str], Queue]) -> None:
    with pytest.raises(ClientError) as raised:
        subscribe(sns, topic, make_queue("q").arn, FilterPolicy='{"a": [{"around": 1}]}')
    error = raised.value.response["Error"]
    assert error["Code"] == "InvalidParameter"
    assert error["Message"] == ("Invalid parameter: Attributes Reason: FilterPolicy: Unrecognized match type around")


# Web servers


def test_a_web_server_confirms_is_told_and_unsubscribes(sns: Any, topic: str, web: WebServer) -> None:
    subscription = subscribe(sns, topic, f"{web.url}/hook?a=b", "http")
    question = web.next()
    asked = json.loads(question.body)
    verify(asked)
    assert question.path == "/hook?a=b"
    assert question.headers["x-amz-sns-message-type"] == "SubscriptionConfirmation"
    assert question.headers["x-amz-sns-message-id"] == asked["MessageId"]
    (listed,) = sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
    assert listed["SubscriptionArn"] == "PendingConfirmation"
    sns.publish(TopicArn=topic, Message="too early")

    assert subscription.encode() in read(asked["SubscribeURL"])
    message_id = sns.publish(TopicArn=topic, Message="m", Subject="s")["MessageId"]
    post = web.next()
    document = json.loads(post.body)
    verify(document)
    assert (document["Type"], document["Message"], document["MessageId"]) == ("Notification", "m", message_id)
    assert {name: value for name, value in post.headers.items() if name.startswith("x-amz")} == {
        "x-amz-sns-message-id": message_id,
        "x-amz-sns-message-type": "Notification",
        "x-amz-sns-subscription-arn": subscription,
        "x-amz-sns-topic-arn": topic,
    }
    assert post.headers["content-type"] == "text/plain; charset=UTF-8"
    assert post.headers["user-agent"] == "Amazon Simple Notification Service Agent"

    read(document["UnsubscribeURL"])
    assert sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"] == []


def confirmed(sns: Any, topic: str, web: WebServer, **attributes: str) -> str:
    """Subscribe a web server and have it confirm."""
    arn = subscribe(sns, topic, web.url, "http", **attributes)
    read(json.loads(web.next().body)["SubscribeURL"])
    return arn


def test_a_wrong_token_confirms_nothing(sns: Any, topic: str, web: WebServer) -> None:
    subscribe(sns, topic, web.url, "http")
    with pytest.raises(ClientError) as raised:
        sns.confirm_subscription(TopicArn=topic, Token="abc")
    error = raised.value.response["Error"]
    assert (error["Type"], error["Code"], error["Message"]) == ("Sender", "InvalidParameter", "Invalid token")


def test_a_web_server_that_fails_is_tried_again_and_may_get_the_message_alone(
    sns: Any, topic: str, web: WebServer
) -> None:
    confirmed(sns, topic, web, RawMessageDelivery="true")
    web.statuses = [503, 429]
    sns.publish(TopicArn=topic, Message="just this")
    posts = [web.next() for _ in range(3)]
    assert {post.body for post in posts} == {"just this"}
    assert posts[0].headers["x-amz-sns-rawdelivery"] == "true"
    assert len({post.headers["x-amz-sns-message-id"] for post in posts}) == 1


@pytest.mark.parametrize(("status", "attempts"), [(403, 1), (500, 3)])
def test_what_a_web_server_does_not_take_goes_to_the_dead_letter_queue(
    sns: Any, topic: str, web: WebServer, make_queue: Callable[[str], Queue], status: int, attempts: int
) -> None:
    dead = make_queue("dead")
    confirmed(
        sns,
        topic,
        web,
        RedrivePolicy=json.dumps({"deadLetterTargetArn": dead.arn}),
        DeliveryPolicy=json.dumps({"healthyRetryPolicy": {"numRetries": 2}}),
    )
    web.statuses = [status] * 10
    message_id = sns.publish(TopicArn=topic, Message="m")["MessageId"]
    (letter,) = dead.bodies(1)
    assert (letter["MessageId"], letter["Message"]) == (message_id, "m")
    assert [json.loads(web.next().body)["MessageId"] for _ in range(attempts)] == [message_id] * attempts
    assert web.posts.empty()


# Order, and what a kill leaves


def fifo_topic(sns: Any, sqs: Any, name: str) -> tuple[str, str]:
    """A FIFO topic, and the URL of the FIFO queue that gets its messages alone."""
    topic = sns.create_topic(
        Name=f"{name}.fifo", Attributes={"FifoTopic": "true", "ContentBasedDeduplication": "true"}
    )["TopicArn"]
    url = sqs.create_queue(QueueName=f"{name}.fifo", Attributes={"FifoQueue": "true"})["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    subscribe(sns, topic, arn, RawMessageDelivery="true")
    return topic, url


def in_order(sqs: Any, url: str, count: int) -> list[tuple[str, str]]:
    """So many messages in the order of the queue: group and body."""
    found: list[tuple[str, str]] = []
    while len(found) < count:
        answer = sqs.receive_message(
            QueueUrl=url, WaitTimeSeconds=20, MaxNumberOfMessages=10, AttributeNames=["MessageGroupId"]
        )
        assert answer.get("Messages"), f"there are only {found}"
        for message in answer["Messages"]:
            found.append((message["Attributes"]["MessageGroupId"], message["Body"]))
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    return found


def test_a_fifo_topic_keeps_the_order_and_drops_duplicates_over_a_kill(tmp_path: Path) -> None:
    with Daemon(tmp_path / "data", HASTY) as daemon:
        sns, sqs = daemon.client("sns"), daemon.client("sqs")
        topic, url = fifo_topic(sns, sqs, "ordered")
        texts = [str(number) for number in range(30)]
        numbers = [sns.publish(TopicArn=topic, Message=text, MessageGroupId="g")["SequenceNumber"] for text in texts]
        assert numbers == sorted(set(numbers))
        first = sns.publish(TopicArn=topic, Message="0", MessageGroupId="g")
        assert first["SequenceNumber"] == numbers[0]
        assert in_order(sqs, url, 30) == [("g", text) for text in texts]

        daemon.kill()
        daemon.start()
        sns, sqs = daemon.client("sns"), daemon.client("sqs")
        again = sns.publish(TopicArn=topic, Message="0", MessageGroupId="g")
        assert again["SequenceNumber"] >= numbers[0]
        last = sns.publish(TopicArn=topic, Message="30", MessageGroupId="g")
        assert last["SequenceNumber"] > numbers[-1]
        assert in_order(sqs, url, 1) == [("g", "30")]


def test_what_was_acknowledged_arrives_after_a_kill(tmp_path: Path) -> None:
    """Nobody listens while it is published; the subscriber comes back after the daemon has died and was started."""
    web = WebServer()
    try:
        with Daemon(tmp_path / "data", ("--retry-delay-scale", "0.2")) as daemon:
            sns = daemon.client("sns")
            topic = sns.create_topic(Name="t")["TopicArn"]
            policy = json.dumps({"healthyRetryPolicy": {"numRetries": 100}})
            confirmed(sns, topic, web, DeliveryPolicy=policy, RawMessageDelivery="true")
            web.close()
            texts = {str(number) for number in range(50)}
            for text in sorted(texts):
                assert sns.publish(TopicArn=topic, Message=text)["MessageId"]
            daemon.kill()
            web = WebServer(web.port)
            daemon.start()
            got: set[str] = set()
            while got != texts:
                got.add(web.next().body)
    finally:
        web.close()


def test_a_queue_that_is_gone_is_not_tried_again(
    daemon: Daemon, sns: Any, topic: str, make_queue: Callable[[str], Queue]
) -> None:
    target = make_queue("gone")
    subscribe(sns, topic, target.arn)
    daemon.client("sqs").delete_queue(QueueUrl=target.url)
    sns.publish(TopicArn=topic, Message="m")
    (event,) = await_dead(daemon, f"{target.arn} from {topic}")
    assert (event["condition"], event["invocations"]) == ("Refused", 1)


def test_requests_of_sns_that_are_none_are_refused_as_aws_does(sns: Any, topic: str) -> None:
    for call, parameters, message in (
        (sns.publish, {"TopicArn": topic, "Message": ""}, "Invalid parameter: Empty message"),
        (
            sns.subscribe,
            {"TopicArn": topic, "Protocol": "sqs", "Endpoint": f"arn:aws:sqs:{REGION}:{ACCOUNT}:q.fifo"},
            "Invalid parameter: Invalid parameter: Endpoint Reason: FIFO SQS Queues can not be subscribed to "
            "standard SNS topics",
        ),
    ):
        with pytest.raises(ClientError) as raised:
            call(**parameters)
        assert raised.value.response["Error"]["Message"] == message
        assert raised.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
