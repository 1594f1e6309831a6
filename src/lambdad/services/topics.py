"""Topics: what is published to the embedded SNS goes to those who have subscribed.

Topics and subscriptions are the neighbour's. When it has taken a message, the daemon makes one dispatch for each
subscription that wants it, which are on disk before the publisher has its answer; from there on they are the queue's,
with its retries, dead-letter queues and order. An SNS somewhere else delivers for itself.

Of a FIFO topic the daemon remembers for five minutes, in the same transaction, what it has sent: a publisher that was
told of a failure and tries again is heard, and what is published twice goes out once, over restarts too.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any, Final

from lambdad.domain import sns_requests
from lambdad.domain.dispatches import Dispatch
from lambdad.domain.sns_deliveries import (
    DELIVERED_PROTOCOLS,
    Deduplication,
    Subscription,
    Topic,
    confirmation,
    dispatch,
    text_for,
)
from lambdad.domain.sns_messages import (
    CERTIFICATES_PATH,
    CONFIRMATION,
    Message,
    Signed,
    confirmation_text,
    string_to_sign,
    subscribe_url,
    timestamp,
)
from lambdad.domain.sns_requests import PUBLISH, PUBLISH_BATCH, SUBSCRIBE, Publication, Receipt
from lambdad.ports.backends import Attention, Backends, NeighbourAnswer, NeighbourRequest
from lambdad.ports.clock import Clock
from lambdad.ports.dispatcher import MarkingDispatcher
from lambdad.ports.signatures import Signer
from lambdad.services.identifiers import new_request_id

logger = logging.getLogger(__name__)

SERVICE: Final = "sns"
SUBSCRIPTIONS: Final = "sns-subscriptions"
DEDUPLICATION_MS: Final = 5 * 60 * 1000
"""https://docs.aws.amazon.com/sns/latest/dg/fifo-message-dedup.html"""
MARKS: Final = "sns-fifo/"
FORGOTTEN_TOGETHER: Final = 16
"""So many old marks are forgotten with each message that makes new ones; of a batch there are ten at the most."""


class Topics:
    """An observer of the embedded SNS. `endpoint_url` is the daemon's, for the links in messages."""

    def __init__(
        self,
        backends: Backends,
        dispatcher: MarkingDispatcher,
        clock: Clock,
        signer: Signer,
        endpoint_url: Callable[[], str],
    ) -> None:
        self._backends = backends
        self._dispatcher = dispatcher
        self._clock = clock
        self._signer = signer
        self._endpoint_url = endpoint_url
        self._in_order = asyncio.Lock()
        """Of messages of FIFO topics one is accepted after the other."""
        self._sent: dict[str, int] | None = None
        """Until when each mark of such a message counts, the oldest first; None until they have been read."""
        self._silent: set[str] = set()
        """Protocols of which the log has said that nothing is sent."""

    def attention(self, request: NeighbourRequest) -> Attention:
        """The operation is in the body; requests to SNS are small."""
        watched = request.operation in ("", PUBLISH, PUBLISH_BATCH, SUBSCRIBE)
        if request.service == SERVICE and watched and self._backends.is_embedded(SERVICE):
            return Attention.WHOLE
        return Attention.NONE

    async def before(self, request: NeighbourRequest) -> NeighbourAnswer | None:
        return None

    async def after(self, request: NeighbourRequest, answer: NeighbourAnswer) -> None:
        """Have what was published sent. Raises StoreUnavailable, and NeighbourUnavailable when SNS has just gone."""
        if not isinstance(request.body, bytes) or not isinstance(answer.body, bytes):
            return
        fields = sns_requests.form(request.query, request.body)
        trace = request.headers.get("x-amzn-trace-id", "")
        action = fields.get("Action", "")
        if action == SUBSCRIBE:
            await self._ask(fields, trace)
        elif action in (PUBLISH, PUBLISH_BATCH):
            receipts = sns_requests.receipts(answer.body)
            taken = [
                (each, receipts[each.entry_id])
                for each in sns_requests.publications(fields)
                if each.entry_id in receipts
            ]
            if taken:
                await self._send(taken, trace)

    async def _send(self, taken: Sequence[tuple[Publication, Receipt]], trace: str) -> None:
        """Send what was published to one target."""
        target_arn = taken[0][0].target_arn
        known = await self._known(target_arn) if target_arn else None
        if known is None:
            self._say_nothing_is_sent("sms" if not target_arn else "application")
            return
        topic, subscriptions, document = known
        if not topic.is_fifo:
            await self._accept(await self._dispatches(topic, subscriptions, taken), {}, trace)
            return
        async with self._in_order:
            now_ms = int(self._clock.time() * 1000)
            sent = await self._sent_until(now_ms)
            fresh: list[tuple[Publication, Receipt]] = []
            marks: dict[str, int] = {}
            for publication, receipt in taken:
                mark = _mark(topic, publication, by_group=document["deduplication_by_group"])
                if sent.get(mark, 0) <= now_ms and mark not in marks:
                    fresh.append((publication, receipt))
                    marks[mark] = now_ms + DEDUPLICATION_MS
            if fresh:
                await self._accept(await self._dispatches(topic, subscriptions, fresh), marks, trace)
                for mark, until_ms in marks.items():
                    sent.pop(mark, None)
                    sent[mark] = until_ms

    async def _accept(self, dispatches: Sequence[Dispatch], marks: Mapping[str, int], trace: str) -> None:
        if dispatches or marks:
            await self._dispatcher.accept(dispatches, marks=marks, trace=trace)

    async def _sent_until(self, now_ms: int) -> dict[str, int]:
        """What was sent and until when that counts; some of what no longer does is forgotten."""
        if self._sent is None:
            known = await self._dispatcher.marks(MARKS)
            self._sent = dict(sorted(known.items(), key=lambda mark: mark[1]))
        sent = self._sent
        old = [mark for mark, until_ms in islice(sent.items(), FORGOTTEN_TOGETHER) if until_ms <= now_ms]
        await asyncio.gather(*(self._dispatcher.forget_mark(mark) for mark in old))
        for mark in old:
            del sent[mark]
        return sent

    async def _known(self, topic_arn: str) -> tuple[Topic, Sequence[Subscription], Mapping[str, Any]] | None:
        """A topic and its subscriptions; None when it is none of a topic."""
        document = await self._backends.inspect(SUBSCRIPTIONS, {"topic_arn": topic_arn})
        if document is None:
            return None
        topic = Topic(
            arn=topic_arn,
            is_fifo=document["fifo"],
            signature_version=document["signature_version"],
            delivery_policy=document["delivery_policy"],
        )
        return topic, [_subscription(each) for each in document["subscriptions"]], document

    async def _dispatches(
        self, topic: Topic, subscriptions: Sequence[Subscription], taken: Sequence[tuple[Publication, Receipt]]
    ) -> Sequence[Dispatch]:
        dispatches = []
        for publication, receipt in taken:
            signed: dict[str, tuple[Message, Signed]] = {}
            fifo = Deduplication(
                group_id=publication.group_id,
                deduplication_id=_deduplication_id(publication) if topic.is_fifo else "",
            )
            for subscription in subscriptions:
                text = text_for(subscription.protocol, publication.message, publication.structured)
                if not subscription.wants(text, publication.attributes):
                    continue
                if subscription.protocol not in DELIVERED_PROTOCOLS:
                    self._say_nothing_is_sent(subscription.protocol)
                    continue
                if text not in signed:
                    notification = _notification(topic, publication, receipt, text, self._timestamp())
                    signed[text] = await self._signed(topic, notification)
                message, signature = signed[text]
                made = dispatch(topic, subscription, message, signature, fifo, self._endpoint_url())
                if made is None:
                    logger.warning(
                        "%s of %s is dropped: it has more attributes than %s takes with raw delivery",
                        receipt.message_id,
                        topic.arn,
                        subscription.endpoint,
                    )
                else:
                    dispatches.append(made)
        return dispatches

    async def _ask(self, fields: Mapping[str, str], trace: str) -> None:
        """Ask an endpoint whether it wants to be subscribed, if it has not said so yet."""
        known = await self._known(fields.get("TopicArn", ""))
        if known is None:
            return
        topic, subscriptions, _ = known
        wanted = fields.get("Protocol"), fields.get("Endpoint")
        for subscription in subscriptions:
            if (subscription.protocol, subscription.endpoint) != wanted or subscription.confirmed:
                continue
            if subscription.protocol not in DELIVERED_PROTOCOLS:
                self._say_nothing_is_sent(subscription.protocol)
                continue
            question = Message(
                type=CONFIRMATION,
                message_id=new_request_id(),
                topic_arn=topic.arn,
                text=confirmation_text(topic.arn),
                timestamp=self._timestamp(),
                token=subscription.token,
                subscribe_url=subscribe_url(self._endpoint_url(), topic.arn, subscription.token),
            )
            message, signed = await self._signed(topic, question)
            await self._dispatcher.accept([confirmation(topic, subscription, message, signed)], trace=trace)

    async def _signed(self, topic: Topic, message: Message) -> tuple[Message, Signed]:
        version = topic.signature_version
        signature = await self._signer.sign(string_to_sign(message), version)
        url = f"{self._endpoint_url()}{CERTIFICATES_PATH}{signature.certificate}"
        return message, Signed(version, signature.text, url)

    def _timestamp(self) -> str:
        return timestamp(self._clock.time())

    def _say_nothing_is_sent(self, protocol: str) -> None:
        if protocol not in self._silent:
            self._silent.add(protocol)
            logger.warning("SNS delivers to functions, queues and web servers; nothing is sent by %s", protocol)


def _subscription(document: Mapping[str, Any]) -> Subscription:
    return Subscription(
        arn=document["arn"],
        protocol=document["protocol"],
        endpoint=document["endpoint"],
        confirmed=document["confirmed"],
        token=document["token"],
        raw=document["raw"],
        filter_policy=document["filter_policy"],
        filter_policy_scope=document["filter_policy_scope"],
        delivery_policy=document["delivery_policy"],
        dead_letter_arn=document["redrive_policy"].get("deadLetterTargetArn", ""),
    )


def _notification(topic: Topic, publication: Publication, receipt: Receipt, text: str, now: str) -> Message:
    return Message(
        message_id=receipt.message_id,
        topic_arn=topic.arn,
        text=text,
        timestamp=now,
        subject=publication.subject,
        attributes=publication.attributes,
        sequence_number=receipt.sequence_number,
    )


def _deduplication_id(publication: Publication) -> str:
    """Its own, or by its content."""
    return publication.deduplication_id or hashlib.sha256(publication.message.encode()).hexdigest()


def _mark(topic: Topic, publication: Publication, *, by_group: bool) -> str:
    """What says that a message was sent; messages are told apart within the topic or, if it says so, within groups."""
    scope = publication.group_id if by_group else ""
    digest = hashlib.sha256(f"{scope}\n{_deduplication_id(publication)}".encode()).hexdigest()
    return f"{MARKS}{topic.arn}/{digest}"
