"""Notifications of buckets: their configuration, which is lambdad's own state, and the events that are sent for it.

What a client is told has been done has its events on disk by then. They are sent at least once, as on AWS, and in no
promised order. An event that was stored by S3 and not yet in the queue when lambdad was killed is lost with the
answer: the client was not told of success.

AWS does not say how long S3 tries to reach a queue or topic. Here it is an hour; functions have their own policy.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/EventNotifications.html
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol
from urllib.parse import unquote

from lambdad.domain.arns import parse_foreign_name
from lambdad.domain.dispatches import LAMBDA, SQS, Dispatch, DispatchPolicy
from lambdad.domain.errors import ServiceError
from lambdad.domain.s3_events import (
    TOPIC_SUBJECT,
    ObjectEvent,
    S3Caller,
    event_bridge_event,
    host_id_of,
    message,
    request_id_of,
    trial_event,
)
from lambdad.domain.s3_notifications import (
    BUCKET_NOTIFICATIONS,
    BucketNotifications,
    Kind,
    Notification,
    bucket_arn,
    invalid_destinations,
    parse,
    render,
)
from lambdad.domain.s3_xml import AccessDenied, NoSuchBucket, S3Error, ServiceUnavailable, error_document
from lambdad.ports.backends import Attention, NeighbourAnswer, NeighbourRequest
from lambdad.ports.clock import Clock
from lambdad.ports.dispatcher import Dispatcher
from lambdad.ports.neighbours import NeighbourRefused, Neighbours, NeighbourUnavailable
from lambdad.ports.permissions import Permissions
from lambdad.ports.store import Store
from lambdad.services.s3_observation import OPERATIONS, Observation, attention

PRINCIPAL: Final = "s3.amazonaws.com"
POLICY: Final = DispatchPolicy(max_attempts=100, max_age_ms=60 * 60 * 1000)
"""So many attempts that it is the age that ends them."""
RETRY_AFTER_S: Final = 1
DEFAULT_BUS: Final = "default"

_PUT: Final = "PutBucketNotificationConfiguration"
_GET: Final = "GetBucketNotificationConfiguration"
_BUCKET_OPERATIONS: Final = ("CreateBucket", "DeleteBucket")
_LOCAL_ADDRESS: Final = "127.0.0.1"
_NOT_FOUND: Final = 404
_FORBIDDEN: Final = 403
_NS_A_SECOND: Final = 1_000_000_000


class EventBuses(Protocol):
    """EventBridge."""

    async def receive(
        self, account_id: str, region: str, bus_name: str, events: Sequence[Mapping[str, Any]], trace: str = ""
    ) -> None:
        """Match whole events with the rules of a bus. Raises StoreUnavailable."""


class S3Notifications:
    """An `Observer` of S3. `start` comes before the first request."""

    def __init__(
        self,
        store: Store,
        permissions: Permissions,
        neighbours: Neighbours,
        dispatcher: Dispatcher,
        event_buses: EventBuses,
        clock: Clock,
    ) -> None:
        self._store = store
        self._permissions = permissions
        self._neighbours = neighbours
        self._dispatcher = dispatcher
        self._event_buses = event_buses
        self._clock = clock
        self._observation = Observation(neighbours, self._next_sequencer)
        self._buckets: dict[str, BucketNotifications] = {}
        self._changing = asyncio.Lock()
        self._sequence = 0

    async def start(self) -> None:
        """Take up the configurations. Raises StoreUnavailable."""
        found = await self._store.read(lambda tables: tables.records(BUCKET_NOTIFICATIONS))
        self._buckets = {configuration.bucket: configuration for configuration in found}

    def attention(self, request: NeighbourRequest) -> Attention:
        if request.service != "s3":
            return Attention.NONE
        if request.operation in (_PUT, _GET):
            return Attention.WHOLE
        bucket = self._buckets.get(_place(request)[0]) if self._buckets else None
        if bucket is None:
            return Attention.NONE
        return Attention.HEAD if request.operation in _BUCKET_OPERATIONS else attention(request.operation, bucket)

    async def before(self, request: NeighbourRequest) -> NeighbourAnswer | None:
        """Answer what is about the configuration, errors too. Raises StoreUnavailable."""
        bucket = _place(request)[0]
        if request.operation == "CreateBucket":
            await self._forget_lost(request, bucket)
        try:
            if request.operation == _PUT:
                await self._put(request, bucket)
                return _answer(request, 200)
            if request.operation == _GET:
                await self._require_bucket(request, bucket)
                return _answer(request, 200, render(self._buckets.get(bucket)))
        except S3Error as error:
            body = error_document(error, request_id_of(request.request_id), host_id_of(request.request_id))
            headers = [("Retry-After", str(RETRY_AFTER_S))] if isinstance(error, ServiceUnavailable) else []
            return _answer(request, error.status, body, headers)
        return None

    async def after(self, request: NeighbourRequest, answer: NeighbourAnswer) -> None:
        """Send the events of a request. Raises StoreUnavailable."""
        name, key = _place(request)
        bucket = self._buckets.get(name)
        if bucket is None:
            return
        if request.operation == "DeleteBucket":
            await self._forget(name)
        elif request.operation in OPERATIONS:
            events = await self._observation.events(request, answer, bucket, key)
            await self._send(request, answer, bucket, events)

    # The configuration.

    async def _put(self, request: NeighbourRequest, name: str) -> None:
        region = await self._require_bucket(request, name)
        body = request.body if isinstance(request.body, bytes) else b""
        wanted = parse(body, name, request.account_id, region)
        skips = request.headers.get("x-amz-skip-destination-validation", "").lower() == "true"
        reasons = [
            (one, reason) for one in wanted.notifications if (reason := await self._refusal(wanted, one, skips=skips))
        ]
        if reasons:
            raise invalid_destinations(reasons)
        async with self._changing:
            if not skips:
                await self._try(request, wanted)
            if wanted.is_empty:
                await self._store.write(lambda tables: tables.delete_record(BUCKET_NOTIFICATIONS, name))
                self._buckets.pop(name, None)
            else:
                await self._store.write(lambda tables: tables.put_record(BUCKET_NOTIFICATIONS, wanted))
                self._buckets[name] = wanted

    async def _require_bucket(self, request: NeighbourRequest, name: str) -> str:
        """The region of a bucket. Raises NoSuchBucket, AccessDenied for another owner's, and ServiceUnavailable."""
        expected = request.headers.get("x-amz-expected-bucket-owner")
        configured = self._buckets.get(name)
        owner = configured.account_id if configured else request.account_id
        parameters = {"Bucket": name} | ({"ExpectedBucketOwner": expected} if expected else {})
        try:
            head = await self._ask("HeadBucket", parameters, request)
        except NeighbourRefused as error:
            if error.status == _NOT_FOUND:
                raise NoSuchBucket(name) from error
            if error.status == _FORBIDDEN:
                raise AccessDenied from error
            raise S3Error(error.message) from error
        if expected is not None and expected != owner:
            raise AccessDenied
        region: str = head.get("BucketRegion") or request.region
        return region

    async def _forget_lost(self, request: NeighbourRequest, name: str) -> None:
        """A bucket that S3 has lost, or that was deleted behind lambdad's back, leaves its namesake nothing."""
        try:
            await self._ask("HeadBucket", {"Bucket": name}, request)
        except NeighbourRefused as error:
            if error.status == _NOT_FOUND:
                await self._forget(name)
        except ServiceUnavailable:
            return  # then the bucket is not created either

    async def _forget(self, name: str) -> None:
        async with self._changing:
            await self._store.write(lambda tables: tables.delete_record(BUCKET_NOTIFICATIONS, name))
            self._buckets.pop(name, None)

    async def _refusal(self, bucket: BucketNotifications, wanted: Notification, *, skips: bool) -> str:
        """Why events cannot go to a destination, in S3's words; empty when they can."""
        # S3 sends to standard queues and topics only, and says of others no more than that they are not valid.
        if wanted.is_fifo:
            return f"The destination {wanted.argument.lower()} is FIFO, which S3 event notifications do not support"
        if skips:
            return ""
        if wanted.kind is Kind.FUNCTION:
            return "" if await self._may_invoke(bucket, wanted) else f"Not authorized to invoke function [{wanted.arn}]"
        service, operation, parameters = _question(wanted)
        try:
            await self._neighbours.call(
                service, operation, parameters, account_id=bucket.account_id, region=bucket.region
            )
        except NeighbourRefused:
            return f"The destination {wanted.argument.lower()} does not exist"
        except NeighbourUnavailable as error:
            raise ServiceUnavailable(f"lambdad cannot look for {wanted.arn}: {error}") from error
        return ""

    async def _may_invoke(self, bucket: BucketNotifications, wanted: Notification) -> bool:
        try:
            reference = parse_foreign_name(wanted.arn, bucket.account_id, bucket.region)
        except ServiceError:
            return False
        return await self._permissions.allows_service(reference, PRINCIPAL, bucket.arn, bucket.account_id)

    async def _try(self, request: NeighbourRequest, wanted: BucketNotifications) -> None:
        """Send the test event to queues and topics that are new. It is on disk before the configuration is."""
        before = self._buckets.get(wanted.bucket)
        known = {one.arn for one in before.notifications} if before else set()
        new = {one.arn: one for one in wanted.notifications if one.arn not in known and one.kind is not Kind.FUNCTION}
        if new:
            event = trial_event(
                wanted.bucket,
                self._clock.time(),
                request_id_of(request.request_id),
                host_id_of(request.request_id),
            )
            await self._dispatcher.accept(
                [_dispatch(wanted, one, event) for one in new.values()], trace=_trace(request)
            )

    async def _ask(self, operation: str, parameters: Mapping[str, str], request: NeighbourRequest) -> Mapping[str, Any]:
        """Raises NeighbourRefused and ServiceUnavailable."""
        try:
            return await self._neighbours.call(
                "s3", operation, parameters, account_id=request.account_id, region=request.region
            )
        except NeighbourUnavailable as error:
            raise ServiceUnavailable(f"lambdad cannot reach S3: {error}") from error

    # The events.

    async def _send(
        self,
        request: NeighbourRequest,
        answer: NeighbourAnswer,
        bucket: BucketNotifications,
        events: Sequence[ObjectEvent],
    ) -> None:
        now_s = self._clock.time()
        caller = S3Caller(
            request.account_id,
            request.headers.get("x-forwarded-for", _LOCAL_ADDRESS).split(",")[0].strip(),
            answer.header("x-amz-request-id") or request_id_of(request.request_id),
            answer.header("x-amz-id-2") or host_id_of(request.request_id),
        )
        dispatches = [
            _dispatch(bucket, one, message(bucket, event, caller, now_s, one.id))
            for event in events
            for one in bucket.matching(f"s3:{event.name}", event.key)
        ]
        if dispatches:
            await self._dispatcher.accept(dispatches, trace=_trace(request))
        if events and bucket.event_bridge:
            await self._event_buses.receive(
                bucket.account_id,
                bucket.region,
                DEFAULT_BUS,
                [event_bridge_event(bucket, event, caller, now_s) for event in events],
                _trace(request),
            )

    def _next_sequencer(self) -> str:
        """18 hexadecimal digits that grow: the time in ns, and never the same."""
        self._sequence = max(self._sequence + 1, int(self._clock.time() * _NS_A_SECOND))
        return f"{self._sequence:018X}"


def _place(request: NeighbourRequest) -> tuple[str, str]:
    """The bucket and the key that a path names."""
    bucket, _, key = request.path.removeprefix("/").partition("/")
    return unquote(bucket, errors="surrogateescape"), unquote(key, errors="surrogateescape")


def _question(wanted: Notification) -> tuple[str, str, Mapping[str, str]]:
    """The operation that fails when a queue or topic does not exist."""
    if wanted.kind is Kind.TOPIC:
        return "sns", "GetTopicAttributes", {"TopicArn": wanted.arn}
    account_id, name = wanted.arn.split(":")[-2:]
    return "sqs", "GetQueueUrl", {"QueueName": name, "QueueOwnerAWSAccountId": account_id}


def _dispatch(bucket: BucketNotifications, wanted: Notification, event: Any) -> Dispatch:
    text = json.dumps(event, separators=(",", ":"))
    service, operation, parameters = {
        Kind.FUNCTION: (LAMBDA, "", {"Payload": text}),
        Kind.QUEUE: (SQS, "SendMessage", {"MessageBody": text}),
        Kind.TOPIC: ("sns", "Publish", {"TopicArn": wanted.arn, "Message": text, "Subject": TOPIC_SUBJECT}),
    }[wanted.kind]
    return Dispatch(
        target=wanted.arn,
        service=service,
        operation=operation,
        parameters=parameters,
        source=bucket_arn(bucket.bucket),
        principal=PRINCIPAL,
        account_id=bucket.account_id,
        region=bucket.region,
        policy=POLICY,
    )


def _trace(request: NeighbourRequest) -> str:
    return request.headers.get("x-amzn-trace-id", "")


def _answer(
    request: NeighbourRequest, status: int, body: bytes = b"", headers: Sequence[tuple[str, str]] = ()
) -> NeighbourAnswer:
    given = [
        ("Content-Type", "application/xml"),
        ("x-amz-request-id", request_id_of(request.request_id)),
        ("x-amz-id-2", host_id_of(request.request_id)),
        ("Server", "AmazonS3"),
    ]
    return NeighbourAnswer(status, [*given, *headers], body)
