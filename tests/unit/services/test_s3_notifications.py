"""Notifications of buckets on the in-memory store: their configuration, and what requests to S3 send."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import pytest

from lambdad.adapters.clock import FakeClock
from lambdad.adapters.memory_store import MemoryStore
from lambdad.domain.arns import FunctionReference
from lambdad.domain.dispatches import Dispatch
from lambdad.domain.s3_notifications import BUCKET_NOTIFICATIONS
from lambdad.domain.s3_requests import POST_OBJECT
from lambdad.domain.s3_xml import read, text_of
from lambdad.ports.backends import Attention, NeighbourAnswer, NeighbourRequest
from lambdad.ports.neighbours import NeighbourRefused, NeighbourUnavailable
from lambdad.ports.store import StoreUnavailable
from lambdad.services.s3_notifications import POLICY, S3Notifications

ACCOUNT, OTHER_ACCOUNT, REGION, BUCKET = "111122223333", "444455556666", "us-west-2", "photos"
FUNCTION = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:thumbnails"
QUEUE = f"arn:aws:sqs:{REGION}:{ACCOUNT}:uploads"
TOPIC = f"arn:aws:sns:{REGION}:{ACCOUNT}:uploads"
BUCKET_ARN = f"arn:aws:s3:::{BUCKET}"
NOW_S = 1_700_000_000.5
ETAG = "b1946ac92492d2347c6235b4d2611184"


class Neighbours:
    """Buckets, objects, queues and topics by name, each with what the service says of it."""

    def __init__(self) -> None:
        self.buckets: dict[str, Mapping[str, Any]] = {BUCKET: {"BucketRegion": REGION}}
        self.objects: dict[str, Mapping[str, Any]] = {}
        self.targets = {"uploads", TOPIC}
        self.versioning: Mapping[str, Any] = {}
        self.failure: Exception | None = None
        self.calls: list[tuple[str, Mapping[str, Any]]] = []

    def has(self, service: str) -> bool:
        return True

    def describe(self) -> Mapping[str, str]:
        return {}

    async def close(self) -> None: ...

    async def call(
        self,
        service: str,
        operation: str,
        parameters: Mapping[str, Any],
        *,
        account_id: str,
        region: str,
        trace: str = "",
    ) -> Mapping[str, Any]:
        await asyncio.sleep(0)
        self.calls.append((operation, parameters))
        if self.failure is not None:
            raise self.failure
        match operation:
            case "HeadBucket":
                return self._found(self.buckets, parameters["Bucket"])
            case "HeadObject":
                return self._found(self.objects, parameters["Key"])
            case "GetBucketVersioning":
                return self.versioning
            case "GetQueueUrl":
                return self._found({name: {} for name in self.targets}, parameters["QueueName"])
            case "GetTopicAttributes":
                return self._found({arn: {} for arn in self.targets}, parameters["TopicArn"])
        raise AssertionError(operation)

    @staticmethod
    def _found(known: Mapping[str, Mapping[str, Any]], name: str) -> Mapping[str, Any]:
        if name not in known:
            raise NeighbourRefused("404", "Not Found", 404)
        return known[name]


class Permissions:
    def __init__(self) -> None:
        self.allowed = {FUNCTION}
        self.asked: list[tuple[str, str, str, str]] = []

    async def allows_service(
        self, reference: FunctionReference, service: str, source_arn: str, source_account: str
    ) -> bool:
        self.asked.append((reference.arn, service, source_arn, source_account))
        return reference.arn in self.allowed


class Dispatcher:
    def __init__(self) -> None:
        self.dispatches: list[Dispatch] = []
        self.traces: list[str] = []
        self.failure: StoreUnavailable | None = None

    async def accept(self, dispatches: Sequence[Dispatch], *, trace: str = "") -> None:
        await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure
        self.dispatches += dispatches
        self.traces.append(trace)


class EventBuses:
    def __init__(self) -> None:
        self.received: list[tuple[str, str, str, Sequence[Mapping[str, Any]]]] = []

    async def receive(
        self, account_id: str, region: str, bus_name: str, events: Sequence[Mapping[str, Any]], trace: str = ""
    ) -> None:
        self.received.append((account_id, region, bus_name, events))


class World:
    def __init__(self, store: MemoryStore | None = None) -> None:
        self.store = store or MemoryStore()
        self.permissions = Permissions()
        self.neighbours = Neighbours()
        self.dispatcher = Dispatcher()
        self.buses = EventBuses()
        self.clock = FakeClock(NOW_S)
        self.notifications = S3Notifications(
            self.store, self.permissions, self.neighbours, self.dispatcher, self.buses, self.clock
        )

    async def put(self, body: str, bucket: str = BUCKET, **headers: str) -> NeighbourAnswer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = request_of("PutBucketNotificationConfiguration", bucket, body=body.encode(), headers=named)
        answer = await self.notifications.before(request)
        assert answer is not None
        return answer

    async def get(self, bucket: str = BUCKET) -> NeighbourAnswer:
        answer = await self.notifications.before(request_of("GetBucketNotificationConfiguration", bucket))
        assert answer is not None
        return answer

    async def happens(
        self,
        operation: str,
        key: str = "in/a.jpg",
        *,
        status: int = 200,
        answer: bytes = b"",
        answered: Mapping[str, str] | None = None,
        **request: Any,
    ) -> list[Any]:
        """The records that a request sends, in order."""
        sent = request_of(operation, f"{BUCKET}/{key}" if key else BUCKET, **request)
        before = len(self.dispatcher.dispatches)
        assert self.notifications.attention(sent) is not Attention.NONE
        if await self.notifications.before(sent) is None:
            await self.notifications.after(sent, NeighbourAnswer(status, list((answered or {}).items()), answer))
        return [record_of(dispatch) for dispatch in self.dispatcher.dispatches[before:]]


def request_of(
    operation: str,
    path: str,
    *,
    body: bytes = b"",
    query: str = "",
    headers: Mapping[str, str] | None = None,
    account_id: str = ACCOUNT,
) -> NeighbourRequest:
    return NeighbourRequest(
        "s3", operation, account_id, REGION, "7b1e4a0e", "PUT", f"/{path}", query, headers or {}, body
    )


def record_of(dispatch: Dispatch) -> Any:
    carriers = ("Payload", "MessageBody", "Message")
    (text,) = (value for name, value in dispatch.parameters.items() if name in carriers)
    return json.loads(text)["Records"][0]


def configuration(*elements: str) -> str:
    return f"<NotificationConfiguration>{''.join(elements)}</NotificationConfiguration>"


def function(*events: str, arn: str = FUNCTION, prefix: str = "", suffix: str = "") -> str:
    return element("CloudFunction", arn, events, prefix, suffix)


def queue(*events: str, arn: str = QUEUE, prefix: str = "", suffix: str = "") -> str:
    return element("Queue", arn, events, prefix, suffix)


def topic(*events: str, arn: str = TOPIC) -> str:
    return element("Topic", arn, events)


def element(kind: str, arn: str, events: Sequence[str], prefix: str = "", suffix: str = "") -> str:
    rules = "".join(
        f"<FilterRule><Name>{name}</Name><Value>{value}</Value></FilterRule>"
        for name, value in (("prefix", prefix), ("suffix", suffix))
        if value
    )
    filtered = f"<Filter><S3Key>{rules}</S3Key></Filter>" if rules else ""
    listed = "".join(f"<Event>{event}</Event>" for event in events)
    return f"<{kind}Configuration><Id>{kind}</Id><{kind}>{arn}</{kind}>{listed}{filtered}</{kind}Configuration>"


EVENT_BRIDGE = "<EventBridgeConfiguration/>"


def error_of(answer: NeighbourAnswer) -> dict[str, str | None]:
    assert isinstance(answer.body, bytes)
    root = read(answer.body)
    assert root.tag == "Error"
    return {child.tag: child.text for child in root}


def in_event_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(**fixtures: Any) -> None:
        asyncio.run(asyncio.wait_for(test(**fixtures), 10))

    return run


# The configuration.


@in_event_loop
async def test_a_configuration_is_kept_beyond_a_restart():
    world = World()
    assert (await world.put(configuration(function("s3:ObjectCreated:*"), EVENT_BRIDGE))).status == 200
    before = await world.get()
    again = World(world.store)
    await again.notifications.start()
    after = await again.get()
    assert after == before
    assert isinstance(after.body, bytes)
    assert read(after.body).find("CloudFunctionConfiguration/Event") is not None
    assert await again.happens("PutObject", headers={"content-length": "1"})


@in_event_loop
async def test_a_bucket_that_is_not_there_has_no_configuration():
    world = World()
    for answer in (await world.put(configuration(EVENT_BRIDGE), "gone"), await world.get("gone")):
        assert answer.status == 404
        error = error_of(answer)
        assert error["Code"] == "NoSuchBucket"
        assert error["Message"] == "The specified bucket does not exist"
        assert error["BucketName"] == "gone"
        assert error["RequestId"] == answer.header("x-amz-request-id")
        assert error["HostId"] == answer.header("x-amz-id-2")


@in_event_loop
async def test_a_bucket_without_configuration_has_an_empty_one():
    answer = await World().get()
    assert answer.status == 200
    assert isinstance(answer.body, bytes)
    assert list(read(answer.body)) == []


@in_event_loop
async def test_another_bucket_owner_than_the_expected_is_refused():
    world = World()
    answer = await world.put(configuration(EVENT_BRIDGE), x_amz_expected_bucket_owner=OTHER_ACCOUNT)
    assert (answer.status, error_of(answer)["Code"]) == (403, "AccessDenied")
    assert (await world.put(configuration(EVENT_BRIDGE), x_amz_expected_bucket_owner=ACCOUNT)).status == 200
    world.neighbours.failure = NeighbourRefused("403", "Forbidden", 403)
    assert (await world.get()).status == 403


@in_event_loop
async def test_while_s3_cannot_be_reached_the_client_is_asked_to_come_again():
    world = World()
    world.neighbours.failure = NeighbourUnavailable("it is being started again")
    answer = await world.put(configuration(EVENT_BRIDGE))
    assert (answer.status, answer.header("retry-after")) == (503, "1")
    assert error_of(answer)["Code"] == "ServiceUnavailable"


@in_event_loop
async def test_a_bad_document_is_malformed():
    world = World()
    answer = await world.put("<NotificationConfiguration>")
    assert (answer.status, error_of(answer)["Code"]) == (400, "MalformedXML")


@in_event_loop
async def test_a_function_is_there_and_lets_s3_in():
    world = World()
    assert (await world.put(configuration(function("s3:ObjectCreated:*")))).status == 200
    assert world.permissions.asked == [(FUNCTION, "s3.amazonaws.com", BUCKET_ARN, ACCOUNT)]
    live = f"{FUNCTION}:live"
    answer = await world.put(configuration(function("s3:ObjectCreated:*", arn=live)))
    error = error_of(answer)
    assert answer.status == 400
    assert error["Code"] == "InvalidArgument"
    assert error["Message"] == "Unable to validate the following destination configurations"
    assert error["ArgumentName1"] == f"{live}, null"
    assert error["ArgumentValue1"] == f"Not authorized to invoke function [{live}]"


@in_event_loop
async def test_queues_and_topics_are_there():
    world = World()
    world.neighbours.targets.clear()
    answer = await world.put(configuration(queue("s3:ObjectCreated:*"), topic("s3:ObjectRemoved:*")))
    error = error_of(answer)
    assert [error[f"Argument{part}{number}"] for number in (1, 2) for part in ("Name", "Value")] == [
        QUEUE,
        "The destination queue does not exist",
        TOPIC,
        "The destination topic does not exist",
    ]
    assert not world.dispatcher.dispatches
    assert await world.store.read(lambda tables: tables.records(BUCKET_NOTIFICATIONS)) == []


@pytest.mark.parametrize("skips", ["true", "false"])
@in_event_loop
async def test_queues_and_topics_are_not_fifo(skips: str):
    world = World()
    world.neighbours.targets |= {"uploads.fifo", f"{TOPIC}.fifo"}
    elements = (
        queue("s3:ObjectCreated:*", arn=f"{QUEUE}.fifo"),
        topic("s3:ObjectRemoved:*", arn=f"{TOPIC}.fifo"),
    )
    error = error_of(await world.put(configuration(*elements), x_amz_skip_destination_validation=skips))
    assert error["ArgumentName1"] == f"{QUEUE}.fifo"
    assert error["ArgumentName2"] == f"{TOPIC}.fifo"


@in_event_loop
async def test_the_check_of_destinations_can_be_skipped():
    world = World()
    world.neighbours.targets.clear()
    world.permissions.allowed.clear()
    body = configuration(queue("s3:ObjectCreated:*"), function("s3:ObjectRemoved:*"))
    assert (await world.put(body, x_amz_skip_destination_validation="true")).status == 200
    assert not world.dispatcher.dispatches


@in_event_loop
async def test_new_queues_and_topics_get_a_test_event():
    world = World()
    body = configuration(queue("s3:ObjectCreated:*"), function("s3:ObjectRemoved:*"))
    answer = await world.put(body)
    (dispatch,) = world.dispatcher.dispatches
    assert (dispatch.target, dispatch.service, dispatch.operation) == (QUEUE, "sqs", "SendMessage")
    assert json.loads(dispatch.parameters["MessageBody"]) == {
        "Service": "Amazon S3",
        "Event": "s3:TestEvent",
        "Time": "2023-11-14T22:13:20.500Z",
        "Bucket": BUCKET,
        "RequestId": answer.header("x-amz-request-id"),
        "HostId": answer.header("x-amz-id-2"),
    }
    await world.put(configuration(queue("s3:ObjectCreated:*"), topic("s3:ObjectRemoved:*")))
    (_, dispatch) = world.dispatcher.dispatches
    assert (dispatch.target, dispatch.service, dispatch.operation) == (TOPIC, "sns", "Publish")


@in_event_loop
async def test_a_queue_that_is_configured_twice_at_once_gets_one_test_event():
    world = World()
    body = configuration(queue("s3:ObjectCreated:*"))
    await asyncio.gather(world.put(body), world.put(body))
    assert len(world.dispatcher.dispatches) == 1


@in_event_loop
async def test_what_cannot_be_tried_is_not_configured():
    world = World()
    world.dispatcher.failure = StoreUnavailable("the disk is full")
    with pytest.raises(StoreUnavailable):
        await world.put(configuration(queue("s3:ObjectCreated:*")))
    assert await world.store.read(lambda tables: tables.records(BUCKET_NOTIFICATIONS)) == []
    world.dispatcher.failure = None
    assert (await world.put(configuration(queue("s3:ObjectCreated:*")))).status == 200
    assert len(world.dispatcher.dispatches) == 1


@in_event_loop
async def test_an_empty_configuration_ends_it():
    world = World()
    await world.put(configuration(function("s3:ObjectCreated:*")))
    await world.put(configuration())
    assert await world.store.read(lambda tables: tables.records(BUCKET_NOTIFICATIONS)) == []
    assert world.notifications.attention(request_of("PutObject", f"{BUCKET}/a")) is Attention.NONE


@in_event_loop
async def test_a_deleted_bucket_has_no_configuration_left():
    world = World()
    await world.put(configuration(function("s3:ObjectCreated:*")))
    assert await world.happens("DeleteBucket", "", status=204) == []
    assert await world.store.read(lambda tables: tables.records(BUCKET_NOTIFICATIONS)) == []
    assert world.notifications.attention(request_of("PutObject", f"{BUCKET}/a")) is Attention.NONE


@in_event_loop
async def test_a_bucket_that_s3_has_lost_leaves_its_namesake_nothing():
    world = World()
    await world.put(configuration(function("s3:ObjectCreated:*")))
    assert await world.happens("CreateBucket", "") == []
    assert len(await world.store.read(lambda tables: tables.records(BUCKET_NOTIFICATIONS))) == 1, "it is there still"
    del world.neighbours.buckets[BUCKET]
    create = request_of("CreateBucket", BUCKET)
    assert world.notifications.attention(create) is Attention.HEAD
    assert await world.notifications.before(create) is None
    assert await world.store.read(lambda tables: tables.records(BUCKET_NOTIFICATIONS)) == []


# Attention.


@in_event_loop
async def test_attention_costs_nothing_where_nobody_listens():
    world = World()
    await world.put(configuration(function("s3:ObjectCreated:*"), queue("s3:ObjectRemoved:DeleteMarkerCreated")))
    attention = world.notifications.attention
    assert attention(request_of("PutObject", "other/a")) is Attention.NONE
    assert attention(request_of("GetObject", f"{BUCKET}/a")) is Attention.NONE
    assert attention(request_of("UploadPart", f"{BUCKET}/a")) is Attention.NONE
    assert attention(request_of("PutObjectTagging", f"{BUCKET}/a")) is Attention.NONE
    assert attention(request_of(POST_OBJECT, BUCKET)) is Attention.WHOLE
    assert attention(request_of("PutObject", f"{BUCKET}/a")) is Attention.HEAD
    assert attention(request_of("DeleteObject", f"{BUCKET}/a")) is Attention.HEAD
    assert attention(request_of("DeleteObjects", BUCKET)) is Attention.WHOLE
    assert attention(request_of("CompleteMultipartUpload", f"{BUCKET}/a")) is Attention.WHOLE
    assert attention(request_of("GetBucketNotificationConfiguration", "other")) is Attention.WHOLE
    elsewhere = NeighbourRequest("sqs", "PutObject", ACCOUNT, REGION, "r", "PUT", f"/{BUCKET}/a", "", {}, b"")
    assert attention(elsewhere) is Attention.NONE


# What is sent.


@in_event_loop
async def test_each_kind_of_destination_gets_the_event_in_its_way():
    world = World()
    await world.put(
        configuration(function("s3:ObjectCreated:Put"), queue("s3:ObjectCreated:Copy"), topic("s3:ObjectTagging:Put"))
    )
    world.dispatcher.dispatches.clear()
    world.neighbours.objects["in/a.jpg"] = {"ContentLength": 5, "ETag": f'"{ETAG}"'}
    await world.happens("PutObject", headers={"content-length": "5", "x-amzn-trace-id": "Root=1"})
    await world.happens("CopyObject", answer=b"<CopyObjectResult/>")
    await world.happens("PutObjectTagging")
    to_function, to_queue, to_topic = world.dispatcher.dispatches
    assert [(one.target, one.service, one.operation) for one in (to_function, to_queue, to_topic)] == [
        (FUNCTION, "lambda", ""),
        (QUEUE, "sqs", "SendMessage"),
        (TOPIC, "sns", "Publish"),
    ]
    assert set(to_function.parameters) == {"Payload"}
    assert set(to_queue.parameters) == {"MessageBody"}
    assert to_topic.parameters["TopicArn"] == TOPIC
    assert to_topic.parameters["Subject"] == "Amazon S3 Notification"
    for dispatch in (to_function, to_queue, to_topic):
        assert (dispatch.source, dispatch.principal) == (BUCKET_ARN, "s3.amazonaws.com")
        assert (dispatch.account_id, dispatch.region, dispatch.policy) == (ACCOUNT, REGION, POLICY)
    assert world.dispatcher.traces[-3:] == ["Root=1", "", ""]


@in_event_loop
async def test_an_upload_is_told_of():
    world = World()
    await world.put(configuration(function("s3:ObjectCreated:*", prefix="in/", suffix=".jpg")))
    (record,) = await world.happens(
        "PutObject",
        "in/red%20flower%2B.jpg",
        headers={
            "content-length": "1024",
            "x-amz-decoded-content-length": "1000",
            "x-forwarded-for": "1.2.3.4, 5.6.7.8",
        },
        account_id=OTHER_ACCOUNT,
        answered={
            "ETag": f'"{ETAG}"',
            "x-amz-version-id": "v1",
            "x-amz-request-id": "N4N7GDK58NMKJ12R",
            "x-amz-id-2": "host",
        },
    )
    assert record["eventName"] == "ObjectCreated:Put"
    assert record["eventTime"] == "2023-11-14T22:13:20.500Z"
    assert record["awsRegion"] == REGION
    assert record["userIdentity"] == {"principalId": f"AWS:{OTHER_ACCOUNT}"}
    assert record["requestParameters"] == {"sourceIPAddress": "1.2.3.4"}
    assert record["responseElements"] == {"x-amz-request-id": "N4N7GDK58NMKJ12R", "x-amz-id-2": "host"}
    assert record["s3"]["configurationId"] == "CloudFunction"
    found = record["s3"]["object"]
    assert len(found.pop("sequencer")) == 18
    assert found == {"key": "in/red+flower%2B.jpg", "size": 1000, "eTag": ETAG, "versionId": "v1"}
    assert await world.happens("PutObject", "out/a.jpg") == []
    assert await world.happens("PutObject", "in/a.png") == []
    assert not [call for call in world.neighbours.calls if call[0] == "HeadObject"]


@in_event_loop
async def test_the_size_of_an_upload_that_did_not_say_it_is_looked_up():
    world = World()
    await world.put(configuration(function("s3:ObjectCreated:*")))
    world.neighbours.objects["a"] = {"ContentLength": 7}
    for headers in ({}, {"x-amz-decoded-content-length": "9" * 5000, "content-length": "1"}):
        (record,) = await world.happens("PutObject", "a", headers=headers)
        assert record["s3"]["object"]["size"] == 7


@in_event_loop
async def test_sequencers_grow_though_the_clock_stands_still():
    world = World()
    await world.put(configuration(function("s3:ObjectCreated:*", "s3:ObjectRemoved:*")))
    records = [
        record
        for operation in ("PutObject", "DeleteObject", "PutObject")
        for record in await world.happens(operation, headers={"content-length": "1"})
    ]
    sequencers = [record["s3"]["object"]["sequencer"] for record in records]
    assert len(set(sequencers)) == 3
    assert sequencers == sorted(sequencers)


@pytest.mark.parametrize(
    ("operation", "name", "answer"),
    [
        ("CopyObject", "ObjectCreated:Copy", b"<CopyObjectResult/>"),
        ("CompleteMultipartUpload", "ObjectCreated:CompleteMultipartUpload", b"<CompleteMultipartUploadResult/>"),
    ],
)
@in_event_loop
async def test_copies_and_completed_uploads_are_looked_up(operation: str, name: str, answer: bytes):
    world = World()
    await world.put(configuration(function("s3:ObjectCreated:*")))
    world.neighbours.objects["in/a.jpg"] = {"ContentLength": 5, "ETag": f'"{ETAG}-2"'}
    (record,) = await world.happens(operation, answer=answer, answered={"x-amz-version-id": "v1"})
    assert record["eventName"] == name
    found = record["s3"]["object"]
    assert found.pop("sequencer")
    assert found == {"key": "in/a.jpg", "size": 5, "eTag": f"{ETAG}-2", "versionId": "v1"}
    assert world.neighbours.calls[-1] == ("HeadObject", {"Bucket": BUCKET, "Key": "in/a.jpg", "VersionId": "v1"})
    assert await world.happens(operation, answer=b"<Error><Code>InternalError</Code></Error>") == []


@in_event_loop
async def test_what_is_gone_already_is_told_of_without_what_is_not_known():
    world = World()
    await world.put(configuration(function("s3:ObjectCreated:*")))
    (record,) = await world.happens("CopyObject", answer=b"<CopyObjectResult/>")
    assert set(record["s3"]["object"]) == {"key", "sequencer"}


def form(*fields: tuple[str, str]) -> dict[str, Any]:
    parts = [f'--xyz\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in fields]
    file = '--xyz\r\nContent-Disposition: form-data; name="file"; filename="cat.jpg"\r\n\r\nname="key"\r\n--xyz--\r\n'
    return {"body": ("".join(parts) + file).encode(), "headers": {"content-type": "multipart/form-data; boundary=xyz"}}


@pytest.mark.parametrize(("field", "key"), [("in/a b.jpg", "in/a b.jpg"), ("in/${filename}", "in/cat.jpg")])
@in_event_loop
async def test_a_form_is_told_of(field: str, key: str):
    world = World()
    await world.put(configuration(function("s3:ObjectCreated:Post", prefix="in/")))
    world.neighbours.objects[key] = {"ContentLength": 5, "ETag": f'"{ETAG}"'}
    (record,) = await world.happens(POST_OBJECT, "", status=204, **form(("acl", "private"), ("key", field)))
    assert record["eventName"] == "ObjectCreated:Post"
    assert record["s3"]["object"]["key"] == key.replace(" ", "+")
    assert record["s3"]["object"]["size"] == 5


@pytest.mark.parametrize(
    ("query", "answered", "name", "version", "etag"),
    [
        ("", {}, "ObjectRemoved:Delete", None, None),
        ("versionId=v1", {"x-amz-version-id": "v1"}, "ObjectRemoved:Delete", "v1", None),
        (
            "",
            {"x-amz-delete-marker": "true", "x-amz-version-id": "m1"},
            "ObjectRemoved:DeleteMarkerCreated",
            "m1",
            "d41d8cd98f00b204e9800998ecf8427e",
        ),
        ("versionId=m1", {"x-amz-delete-marker": "true", "x-amz-version-id": "m1"}, "ObjectRemoved:Delete", "m1", None),
    ],
)
@in_event_loop
async def test_a_deletion_is_told_of(
    query: str, answered: dict[str, str], name: str, version: str | None, etag: str | None
):
    world = World()
    await world.put(configuration(function("s3:ObjectRemoved:*")))
    (record,) = await world.happens("DeleteObject", status=204, query=query, answered=answered)
    assert record["eventName"] == name
    found = record["s3"]["object"]
    assert (found.get("versionId"), found.get("eTag"), found.get("size")) == (version, etag, None)
    assert found["sequencer"]


def deleting(*keys: str) -> bytes:
    return f"<Delete>{''.join(f'<Object><Key>{key}</Key></Object>' for key in keys)}</Delete>".encode()


@in_event_loop
async def test_of_many_objects_each_that_was_deleted_is_told_of():
    world = World()
    await world.put(configuration(function("s3:ObjectRemoved:*", prefix="in/")))
    answer = (
        b"<DeleteResult xmlns='http://s3.amazonaws.com/doc/2006-03-01/'><Deleted><Key>in/a</Key></Deleted>"
        b"<Deleted><Key>in/b &amp; c</Key><DeleteMarker>true</DeleteMarker>"
        b"<DeleteMarkerVersionId>m1</DeleteMarkerVersionId></Deleted>"
        b"<Deleted><Key>out/d</Key></Deleted>"
        b"<Error><Key>in/e</Key><Code>AccessDenied</Code></Error></DeleteResult>"
    )
    body = deleting("in/a", "in/b &amp; c", "out/d", "in/e")
    records = await world.happens("DeleteObjects", "", body=body, answer=answer)
    assert [(record["eventName"], record["s3"]["object"]["key"]) for record in records] == [
        ("ObjectRemoved:Delete", "in/a"),
        ("ObjectRemoved:DeleteMarkerCreated", "in/b+%26+c"),
    ]


@pytest.mark.parametrize(
    ("versioning", "name"),
    [({}, "ObjectRemoved:Delete"), ({"Status": "Enabled"}, "ObjectRemoved:DeleteMarkerCreated")],
)
@in_event_loop
async def test_a_quiet_answer_leaves_out_what_was_deleted(versioning: Mapping[str, Any], name: str):
    world = World()
    world.neighbours.versioning = versioning
    await world.put(configuration(function("s3:ObjectRemoved:*")))
    body = (
        b"<Delete><Quiet>true</Quiet><Object><Key>a</Key></Object><Object><Key>b</Key></Object>"
        b"<Object><Key>c</Key><VersionId>v1</VersionId></Object>"
        b"<Object><Key>d</Key><VersionId>v1</VersionId></Object></Delete>"
    )
    refused = "".join(f"<Error><Key>{key}</Key><Code>AccessDenied</Code></Error>" for key in "bd")
    answer = f"<DeleteResult>{refused}</DeleteResult>".encode()
    records = await world.happens("DeleteObjects", "", body=body, answer=answer)
    assert [(record["eventName"], record["s3"]["object"]["key"]) for record in records] == [
        (name, "a"),
        ("ObjectRemoved:Delete", "c"),
    ]


@pytest.mark.parametrize(
    ("operation", "status", "name"),
    [
        ("PutObjectTagging", 200, "ObjectTagging:Put"),
        ("DeleteObjectTagging", 204, "ObjectTagging:Delete"),
        ("PutObjectAcl", 200, "ObjectAcl:Put"),
    ],
)
@in_event_loop
async def test_tags_and_acls_are_told_of_with_the_etag(operation: str, status: int, name: str):
    world = World()
    await world.put(configuration(function("s3:ObjectTagging:*", "s3:ObjectAcl:Put")))
    world.neighbours.objects["in/a.jpg"] = {"ContentLength": 5, "ETag": f'"{ETAG}"'}
    (record,) = await world.happens(operation, status=status, query="tagging&versionId=v1")
    assert record["eventName"] == name
    assert record["s3"]["object"] == {"key": "in/a.jpg", "eTag": ETAG, "versionId": "v1"}
    world.neighbours.objects["in/a.jpg"]["VersionId"] = "v2"
    (record,) = await world.happens(operation, status=status, query="tagging")
    assert record["s3"]["object"]["versionId"] == "v2", "without a version it is the newest"
    world.neighbours.objects["in/a.jpg"]["VersionId"] = "null"
    (record,) = await world.happens(operation, status=status, query="tagging")
    assert "versionId" not in record["s3"]["object"], "the bucket has no versions"


@in_event_loop
async def test_a_restore_is_told_of_when_it_begins_and_when_it_has_ended():
    world = World()
    await world.put(configuration(function("s3:ObjectRestore:*"), EVENT_BRIDGE))
    head = {
        "ContentLength": 5,
        "ETag": f'"{ETAG}"',
        "StorageClass": "GLACIER",
        "Restore": 'ongoing-request="true"',
        "VersionId": "v1",
    }
    world.neighbours.objects["in/a.jpg"] = head
    (begun,) = await world.happens("RestoreObject", status=202)
    assert begun["eventName"] == "ObjectRestore:Post"
    assert "glacierEventData" not in begun
    head["Restore"] = 'ongoing-request="false", expiry-date="Sat, 13 Nov 2021 00:00:00 GMT"'
    begun, ended = await world.happens("RestoreObject", status=202)
    assert [begun["eventName"], ended["eventName"]] == ["ObjectRestore:Post", "ObjectRestore:Completed"]
    assert [each["s3"]["object"]["versionId"] for each in (begun, ended)] == ["v1", "v1"]
    assert ended["glacierEventData"]["restoreEventData"] == {
        "lifecycleRestorationExpiryTime": "2021-11-13T00:00:00.000Z",
        "lifecycleRestoreStorageClass": "GLACIER",
    }
    assert await world.happens("RestoreObject", status=200) == [], "it was restored before"


@in_event_loop
async def test_event_bridge_hears_of_everything():
    world = World()
    await world.put(configuration(EVENT_BRIDGE))
    await world.happens("PutObject", headers={"content-length": "1"}, account_id=OTHER_ACCOUNT)
    await world.happens("DeleteObject", status=204)
    assert [bus[:3] for bus in world.buses.received] == [(ACCOUNT, REGION, "default")] * 2
    events = [event for *_, sent in world.buses.received for event in sent]
    assert [event["detail-type"] for event in events] == ["Object Created", "Object Deleted"]
    assert events[0]["detail"]["requester"] == OTHER_ACCOUNT
    assert events[0]["account"] == ACCOUNT
    assert not world.dispatcher.dispatches


@in_event_loop
async def test_an_event_that_cannot_be_kept_fails_the_request():
    world = World()
    await world.put(configuration(function("s3:ObjectCreated:*")))
    world.dispatcher.failure = StoreUnavailable("the disk is full")
    with pytest.raises(StoreUnavailable):
        await world.happens("PutObject", headers={"content-length": "1"})


@in_event_loop
async def test_configurations_put_at_once_end_the_same_in_memory_and_on_disk():
    world = World()
    bodies = [configuration(function("s3:ObjectCreated:*", prefix=f"{number}/")) for number in range(20)]
    await asyncio.gather(*(world.put(body) for body in bodies))
    (kept,) = await world.store.read(lambda tables: tables.records(BUCKET_NOTIFICATIONS))
    answer = await world.get()
    assert isinstance(answer.body, bytes)
    rule = read(answer.body).find("CloudFunctionConfiguration/Filter/S3Key/FilterRule")
    assert rule is not None
    assert text_of(rule, "Value") == kept.notifications[0].rules[0].value
