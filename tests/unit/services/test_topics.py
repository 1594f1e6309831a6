"""What is published goes to the subscriptions that want it, once, and is on disk before the publisher knows."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

import pytest

from lambdad.adapters.clock import FakeClock
from lambdad.adapters.memory_backends import MemoryBackends
from lambdad.domain.dispatches import Dispatch
from lambdad.ports.backends import Attention, NeighbourAnswer, NeighbourRequest
from lambdad.ports.neighbours import NeighbourUnavailable
from lambdad.ports.signatures import Signature
from lambdad.ports.store import StoreUnavailable
from lambdad.services.topics import DEDUPLICATION_MS, FORGOTTEN_TOGETHER, MARKS, SUBSCRIPTIONS, Topics

ACCOUNT, REGION = "000000000000", "us-east-1"
TOPIC = f"arn:aws:sns:{REGION}:{ACCOUNT}:t"
FIFO = f"{TOPIC}.fifo"
QUEUE = f"arn:aws:sqs:{REGION}:{ACCOUNT}:q"
FUNCTION = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:f"
URL = "https://example.com/hook"
ENDPOINT = "http://127.0.0.1:4566"


class Queue:
    """A durable queue that notes what it takes."""

    def __init__(self) -> None:
        self.accepted: list[Dispatch] = []
        self.traces: list[str] = []
        self.kept: dict[str, int] = {}
        self.full = False

    async def accept(
        self, dispatches: Sequence[Dispatch], *, marks: Mapping[str, int] | None = None, trace: str = ""
    ) -> None:
        await asyncio.sleep(0)
        if self.full:
            raise StoreUnavailable("the disk is full")
        self.accepted += dispatches
        self.traces.append(trace)
        self.kept.update(marks or {})

    async def marks(self, prefix: str) -> Mapping[str, int]:
        await asyncio.sleep(0)
        return {name: number for name, number in self.kept.items() if name.startswith(prefix)}

    async def forget_mark(self, name: str) -> None:
        self.kept.pop(name, None)


class Signer:
    """Signs by naming the version; counts."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    async def sign(self, text: str, version: str) -> Signature:
        self.texts.append(text)
        return Signature(f"signed-{version}", "c.pem")

    async def certificate(self, name: str) -> str | None:
        return None


class World:
    def __init__(self, external: Sequence[str] = ()) -> None:
        self.topics: dict[str, dict[str, Any]] = {}
        self.clock = FakeClock()
        self.queue = Queue()
        self.signer = Signer()
        self.backends = MemoryBackends(
            ["sns"],
            inspections={SUBSCRIPTIONS: lambda parameters: self.topics.get(parameters["topic_arn"])},
            external=external,
        )
        self.restart()

    def restart(self) -> None:
        """A new daemon with what is on disk."""
        self.observer = Topics(self.backends, self.queue, self.clock, self.signer, lambda: ENDPOINT)

    def topic(self, arn: str = TOPIC, **more: Any) -> None:
        self.topics[arn] = {
            "fifo": arn.endswith(".fifo"),
            "content_based_deduplication": True,
            "deduplication_by_group": False,
            "signature_version": "1",
            "delivery_policy": "",
            "subscriptions": [],
            **more,
        }

    def subscribe(self, protocol: str, endpoint: str, arn: str = TOPIC, **more: Any) -> None:
        subscriptions = self.topics[arn]["subscriptions"]
        subscriptions.append(
            {
                "arn": f"{arn}:{len(subscriptions)}",
                "protocol": protocol,
                "endpoint": endpoint,
                "owner": ACCOUNT,
                "confirmed": True,
                "token": "",
                "raw": False,
                "filter_policy": "",
                "filter_policy_scope": "MessageAttributes",
                "delivery_policy": "",
                "redrive_policy": {},
                **more,
            }
        )

    async def publish(self, message: str = "m", *, arn: str = TOPIC, message_id: str = "1", **more: str) -> None:
        fields = {"Action": "Publish", "TopicArn": arn, "Message": message, **more}
        number = "<SequenceNumber>10000000000000000001</SequenceNumber>" if arn == FIFO else ""
        result = f"<PublishResult><MessageId>{message_id}</MessageId>{number}</PublishResult>"
        await self.observe(fields, f"<PublishResponse>{result}</PublishResponse>")

    async def observe(self, fields: Mapping[str, str], answer: str = "<Response/>") -> None:
        await self.observer.after(request(urlencode(fields).encode()), NeighbourAnswer(200, [], answer.encode()))

    def bodies(self) -> list[Any]:
        return [json.loads(each.parameters["MessageBody"]) for each in self.queue.accepted]


def request(body: bytes = b"", service: str = "sns", operation: str = "", query: str = "") -> NeighbourRequest:
    return NeighbourRequest(
        service=service,
        operation=operation,
        account_id=ACCOUNT,
        region=REGION,
        request_id="r",
        method="POST",
        path="/",
        query=query,
        headers={"x-amzn-trace-id": "Root=1-5"},
        body=body,
    )


@pytest.mark.parametrize(
    ("service", "operation", "attention"),
    [
        ("sns", "Publish", Attention.WHOLE),
        ("sns", "PublishBatch", Attention.WHOLE),
        ("sns", "Subscribe", Attention.WHOLE),
        ("sns", "", Attention.WHOLE),
        ("sns", "ListTopics", Attention.NONE),
        ("sqs", "Publish", Attention.NONE),
    ],
)
def test_only_what_leads_to_deliveries_is_looked_at(service: str, operation: str, attention: Attention) -> None:
    asked = request(service=service, operation=operation)
    assert World().observer.attention(asked) is attention
    assert asyncio.run(World().observer.before(asked)) is None


def test_an_sns_somewhere_else_delivers_for_itself() -> None:
    assert World(external=["sns"]).observer.attention(request(operation="Publish")) is Attention.NONE


def run(test: Callable[[World], Any]) -> World:
    world = World()
    world.topic()
    asyncio.run(test(world))
    return world


def test_every_subscription_that_wants_a_message_gets_it() -> None:
    async def test(world: World) -> None:
        world.subscribe("sqs", QUEUE)
        world.subscribe("lambda", FUNCTION)
        world.subscribe("https", URL)
        world.subscribe("https", f"{URL}/pending", confirmed=False)
        world.subscribe("sqs", f"{QUEUE}2", filter_policy='{"a": ["x"]}')
        world.subscribe("sqs", f"{QUEUE}3", filter_policy='{"a": ["x"]}', filter_policy_scope="MessageBody")
        await world.publish('{"a": "x"}', message_id="id")

    world = run(test)
    assert [each.target for each in world.queue.accepted] == [QUEUE, FUNCTION, URL, f"{QUEUE}3"]
    assert world.queue.traces == ["Root=1-5"]
    document = json.loads(world.queue.accepted[0].parameters["MessageBody"])
    assert document == {
        "Type": "Notification",
        "MessageId": "id",
        "TopicArn": TOPIC,
        "Message": '{"a": "x"}',
        "Timestamp": "2023-11-14T22:13:20.000Z",
        "SignatureVersion": "1",
        "Signature": "signed-1",
        "SigningCertURL": f"{ENDPOINT}/_lambdad/sns/c.pem",
        "UnsubscribeURL": f"{ENDPOINT}/?Action=Unsubscribe&SubscriptionArn={TOPIC}:0&Version=2010-03-31",
    }
    assert len(world.signer.texts) == 1


def test_nothing_is_accepted_for_nobody() -> None:
    assert run(lambda world: world.publish()).queue.traces == []


def test_each_protocol_gets_its_text_signed() -> None:
    async def test(world: World) -> None:
        world.subscribe("sqs", QUEUE)
        world.subscribe("lambda", FUNCTION)
        world.topics[TOPIC]["signature_version"] = "2"
        await world.publish('{"default": "d", "sqs": "q"}', MessageStructure="json")

    world = run(test)
    queue, function = world.queue.accepted
    assert json.loads(queue.parameters["MessageBody"])["Message"] == "q"
    record = json.loads(function.parameters["Payload"])["Records"][0]["Sns"]
    assert (record["Message"], record["SignatureVersion"], record["Signature"]) == ("d", "2", "signed-2")
    assert [text.splitlines()[1] for text in world.signer.texts] == ["q", "d"]


def test_attributes_and_subject_go_along() -> None:
    async def test(world: World) -> None:
        world.subscribe("sqs", QUEUE)
        await world.publish(
            Subject="s",
            **{
                "MessageAttributes.entry.1.Name": "a",
                "MessageAttributes.entry.1.Value.DataType": "Number",
                "MessageAttributes.entry.1.Value.StringValue": "7",
            },
        )

    (body,) = run(test).bodies()
    assert body["Subject"] == "s"
    assert body["MessageAttributes"] == {"a": {"Type": "Number", "Value": "7"}}


def batch(arn: str, entries: Sequence[Mapping[str, str]]) -> dict[str, str]:
    fields = {"Action": "PublishBatch", "TopicArn": arn}
    for number, entry in enumerate(entries, 1):
        for name, value in entry.items():
            fields[f"PublishBatchRequestEntries.member.{number}.{name}"] = value
    return fields


def batch_answer(message_ids: Mapping[str, str]) -> str:
    members = "".join(f"<member><Id>{id_}</Id><MessageId>{m}</MessageId></member>" for id_, m in message_ids.items())
    return f"<PublishBatchResponse><Successful>{members}</Successful></PublishBatchResponse>"


def test_of_a_batch_goes_out_what_was_taken() -> None:
    async def test(world: World) -> None:
        world.subscribe("sqs", QUEUE)
        entries = [{"Id": text, "Message": text} for text in "abc"]
        await world.observe(batch(TOPIC, entries), batch_answer({"c": "m3", "a": "m1"}))
        await world.observe(batch(TOPIC, entries), batch_answer({}))

    world = run(test)
    assert [(body["Message"], body["MessageId"]) for body in world.bodies()] == [("a", "m1"), ("c", "m3")]
    assert len(world.queue.traces) == 1


def test_the_publisher_is_told_when_the_queue_is_full_or_sns_has_gone() -> None:
    async def test(world: World) -> None:
        world.subscribe("sqs", QUEUE)
        world.queue.full = True
        with pytest.raises(StoreUnavailable):
            await world.publish()
        world.backends.failure = NeighbourUnavailable("it is being started again")
        with pytest.raises(NeighbourUnavailable):
            await world.publish()

    run(test)


def test_a_raw_message_with_too_many_attributes_is_dropped_and_said(caplog: pytest.LogCaptureFixture) -> None:
    fields = {}
    for number in range(1, 12):
        fields[f"MessageAttributes.entry.{number}.Name"] = str(number)
        fields[f"MessageAttributes.entry.{number}.Value.DataType"] = "String"
        fields[f"MessageAttributes.entry.{number}.Value.StringValue"] = "x"

    async def test(world: World) -> None:
        world.subscribe("sqs", QUEUE, raw=True)
        await world.publish(**fields)

    assert run(test).queue.accepted == []
    assert "has more attributes than" in caplog.text


def test_of_other_protocols_the_log_says_once_that_nothing_is_sent(caplog: pytest.LogCaptureFixture) -> None:
    async def test(world: World) -> None:
        world.subscribe("firehose", "arn:aws:firehose:us-east-1:000000000000:deliverystream/d")
        await world.publish()
        await world.publish()
        for _ in range(2):
            await world.observe(
                {"Action": "Publish", "PhoneNumber": "+1", "Message": "m"},
                "<PublishResponse><PublishResult><MessageId>m</MessageId></PublishResult></PublishResponse>",
            )

    assert run(test).queue.accepted == []
    assert [record.message.rpartition(" ")[2] for record in caplog.records] == ["firehose", "sms"]


# FIFO topics


def test_messages_of_a_fifo_topic_carry_group_and_number_on() -> None:
    async def test(world: World) -> None:
        world.topic(FIFO)
        world.subscribe("sqs", f"{QUEUE}.fifo", FIFO)
        await world.publish(arn=FIFO, MessageGroupId="g", MessageDeduplicationId="d")
        await world.publish("by content", arn=FIFO, MessageGroupId="g")

    world = run(test)
    explicit, by_content = (each.parameters for each in world.queue.accepted)
    assert (explicit["MessageGroupId"], explicit["MessageDeduplicationId"]) == ("g", "d")
    assert json.loads(explicit["MessageBody"])["SequenceNumber"] == "10000000000000000001"
    assert by_content["MessageDeduplicationId"] == hashlib.sha256(b"by content").hexdigest()


def test_what_is_published_twice_goes_out_once_over_a_restart_too() -> None:
    async def test(world: World) -> None:
        world.topic(FIFO)
        world.subscribe("sqs", f"{QUEUE}.fifo", FIFO)
        await asyncio.gather(
            *(world.publish(arn=FIFO, MessageGroupId="g", MessageDeduplicationId="d") for _ in range(3))
        )
        assert len(world.queue.accepted) == 1
        await world.publish(arn=FIFO, MessageGroupId="other", MessageDeduplicationId="d")
        world.restart()
        await world.publish(arn=FIFO, MessageGroupId="g", MessageDeduplicationId="d")
        assert len(world.queue.accepted) == 1
        await world.publish(arn=FIFO, MessageGroupId="g", MessageDeduplicationId="e")
        assert len(world.queue.accepted) == 2
        await world.clock.advance(DEDUPLICATION_MS / 1000)
        await world.publish(arn=FIFO, MessageGroupId="g", MessageDeduplicationId="d")
        assert len(world.queue.accepted) == 3

    world = run(test)
    assert len(world.queue.kept) == 1
    assert all(name.startswith(f"{MARKS}{FIFO}/") for name in world.queue.kept)


def test_old_marks_are_forgotten_little_by_little() -> None:
    async def test(world: World) -> None:
        world.topic(FIFO)
        for number in range(3 * FORGOTTEN_TOGETHER):
            await world.publish(arn=FIFO, MessageGroupId="g", MessageDeduplicationId=str(number))
        await world.clock.advance(DEDUPLICATION_MS / 1000)
        world.restart()
        for number in range(3):
            assert len(world.queue.kept) == (3 - number) * FORGOTTEN_TOGETHER + number
            await world.publish(arn=FIFO, MessageGroupId="g", MessageDeduplicationId=f"new {number}")
        assert len(world.queue.kept) == 3

    run(test)


def test_duplicates_may_be_told_by_group() -> None:
    async def test(world: World) -> None:
        world.topic(FIFO, deduplication_by_group=True)
        world.subscribe("sqs", f"{QUEUE}.fifo", FIFO)
        for group in ("a", "b", "a"):
            await world.publish(arn=FIFO, MessageGroupId=group, MessageDeduplicationId="d")

    assert [each.parameters["MessageGroupId"] for each in run(test).queue.accepted] == ["a", "b"]


def test_a_publisher_that_was_told_of_a_failure_is_heard_again() -> None:
    async def test(world: World) -> None:
        world.topic(FIFO)
        world.subscribe("sqs", f"{QUEUE}.fifo", FIFO)
        world.queue.full = True
        with pytest.raises(StoreUnavailable):
            await world.publish(arn=FIFO, MessageGroupId="g")
        world.queue.full = False
        await world.publish(arn=FIFO, MessageGroupId="g")

    assert len(run(test).queue.accepted) == 1


def test_a_duplicate_of_what_nobody_wanted_stays_one() -> None:
    async def test(world: World) -> None:
        world.topic(FIFO)
        await world.publish(arn=FIFO, MessageGroupId="g")
        world.subscribe("sqs", f"{QUEUE}.fifo", FIFO)
        await world.publish(arn=FIFO, MessageGroupId="g")

    assert run(test).queue.accepted == []


def test_duplicates_within_a_batch_go_out_once_and_in_order() -> None:
    async def test(world: World) -> None:
        world.topic(FIFO)
        world.subscribe("sqs", f"{QUEUE}.fifo", FIFO)
        entries = [
            {"Id": str(number), "Message": text, "MessageGroupId": "g"} for number, text in enumerate(["a", "b", "a"])
        ]
        await world.observe(batch(FIFO, entries), batch_answer({"0": "m0", "1": "m1", "2": "m0"}))

    world = run(test)
    assert [body["Message"] for body in world.bodies()] == ["a", "b"]
    assert len(world.queue.traces) == 1


# Subscriptions


def test_who_is_subscribed_is_asked_until_it_has_confirmed() -> None:
    async def test(world: World) -> None:
        world.subscribe("https", URL, confirmed=False, token="abc")
        world.subscribe("https", f"{URL}/other", confirmed=False, token="xyz")
        fields = {"Action": "Subscribe", "TopicArn": TOPIC, "Protocol": "https", "Endpoint": URL}
        await world.observe(fields)
        world.topics[TOPIC]["subscriptions"][0]["confirmed"] = True
        await world.observe(fields)

    (asked,) = run(test).queue.accepted
    assert asked.target == URL
    document = json.loads(asked.parameters["Body"])
    assert (document["Type"], document["Token"], document["Timestamp"]) == (
        "SubscriptionConfirmation",
        "abc",
        "2023-11-14T22:13:20.000Z",
    )
    assert (
        document["SubscribeURL"]
        == f"{ENDPOINT}/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token=abc&Version=2010-03-31"
    )
    assert document["Signature"] == "signed-1"


def test_nobody_is_asked_by_mail(caplog: pytest.LogCaptureFixture) -> None:
    async def test(world: World) -> None:
        world.subscribe("email", "a@example.com", confirmed=False, token="abc")
        fields = {"Action": "Subscribe", "TopicArn": TOPIC, "Protocol": "email", "Endpoint": "a@example.com"}
        await world.observe(fields)
        await world.observe({**fields, "TopicArn": f"{TOPIC}2"})

    assert run(test).queue.accepted == []
    assert "nothing is sent by email" in caplog.text


def test_other_requests_lead_to_nothing() -> None:
    assert run(lambda world: world.observe({"Action": "CreateTopic", "Name": "t"})).queue.traces == []


def test_a_request_may_be_a_query() -> None:
    async def test(world: World) -> None:
        world.subscribe("sqs", QUEUE)
        query = urlencode({"Action": "Publish", "TopicArn": TOPIC, "Message": "m"})
        answer = b"<R><PublishResult><MessageId>1</MessageId></PublishResult></R>"
        await world.observer.after(request(query=query), NeighbourAnswer(200, [], answer))

    assert len(run(test).queue.accepted) == 1
