"""Topics and subscriptions, and what a message becomes for each of the protocols.

https://docs.aws.amazon.com/sns/latest/dg/sns-message-delivery-retries.html has the delivery policies. The times between
attempts are those of lambdad's queue, from one second growing, not the phases that AWS documents (and the delays of a
`healthyRetryPolicy`); how often and how long is AWS's. A policy's `throttlePolicy` has no effect.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from lambdad.domain.dispatches import HTTP, LAMBDA, SQS, DeadLetter, Dispatch, DispatchPolicy
from lambdad.domain.sns_filter_policies import ATTRIBUTES, compile_filter_policy
from lambdad.domain.sns_messages import (
    Message,
    Signed,
    envelope,
    function_event,
    queue_attributes,
    unsubscribe_url,
)
from lambdad.domain.sns_requests import MessageAttribute

PRINCIPAL: Final = "sns.amazonaws.com"
WEB_PROTOCOLS: Final = frozenset({"http", "https"})
DELIVERED_PROTOCOLS: Final = WEB_PROTOCOLS | {SQS, LAMBDA}
"""The other protocols of SNS (email, sms, application, firehose) are accepted, and nothing is sent."""

RAW_ATTRIBUTES_MAX: Final = 10
"""A message with more cannot be delivered raw to a queue: https://docs.aws.amazon.com/sns/latest/dg/
sns-large-payload-raw-message-delivery.html"""

_DAY_MS: Final = 24 * 3600 * 1000
MANAGED_POLICY: Final = DispatchPolicy(max_attempts=100_015, max_age_ms=23 * _DAY_MS)
"""Of queues and functions."""
WEB_RETRIES: Final = 3
WEB_RETRIES_MAX: Final = 100
WEB_AGE_MS: Final = 3600 * 1000
"""Retries of web servers may take no longer in all."""

_USER_AGENT: Final = "Amazon Simple Notification Service Agent"
_CONTENT_TYPE: Final = "text/plain; charset=UTF-8"


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    arn: str
    is_fifo: bool = False
    signature_version: str = "1"
    delivery_policy: str = ""
    """JSON text, of web servers; empty for AWS's default."""

    @property
    def region(self) -> str:
        return self.arn.split(":")[3]

    @property
    def account_id(self) -> str:
        return self.arn.split(":")[4]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    arn: str
    protocol: str
    endpoint: str
    confirmed: bool = True
    token: str = ""
    """With which it can be confirmed."""
    raw: bool = False
    filter_policy: str = ""
    filter_policy_scope: str = ATTRIBUTES
    delivery_policy: str = ""
    dead_letter_arn: str = ""

    def wants(self, text: str, attributes: Mapping[str, MessageAttribute]) -> bool:
        """Whether a message gets there: it is confirmed, and its filter policy lets it pass."""
        if not self.confirmed:
            return False
        policy = compile_filter_policy(self.filter_policy, self.filter_policy_scope)
        return policy is None or policy.matches(text, attributes)


def text_for(protocol: str, message: str, structured: bool) -> str:
    """What a protocol gets of a message: with MessageStructure=json its own text, or the default one."""
    if not structured:
        return message
    texts = json.loads(message)
    text = texts.get(protocol)
    return text if isinstance(text, str) else str(texts["default"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Deduplication:
    """What a message of a FIFO topic carries on to FIFO queues; any message may have a group."""

    group_id: str = ""
    deduplication_id: str = ""


def dispatch(
    topic: Topic, subscription: Subscription, message: Message, signed: Signed, fifo: Deduplication, endpoint_url: str
) -> Dispatch | None:
    """The delivery of a message. None when it can only be dropped: a raw one with too many attributes for a queue."""
    unsubscribe = unsubscribe_url(endpoint_url, subscription.arn)
    document = envelope(message, signed, unsubscribe)
    letter = _queue_message(subscription, message, document)
    dead_letter = _dead_letter(subscription, letter, fifo)
    if subscription.protocol == LAMBDA:
        event = function_event(message, signed, subscription.arn, unsubscribe)
        return _dispatch(topic, subscription.endpoint, LAMBDA, {"Payload": event}, MANAGED_POLICY, dead_letter)
    if subscription.protocol == SQS:
        if len(letter.get("MessageAttributes", ())) > RAW_ATTRIBUTES_MAX:
            return _undeliverable(topic, subscription, document, fifo)
        parameters = {**letter, **_fifo_parameters(subscription.endpoint, fifo)}
        return _dispatch(topic, subscription.endpoint, SQS, parameters, MANAGED_POLICY, dead_letter, "SendMessage")
    body = message.text if subscription.raw else document
    headers = _headers(topic, subscription, message)
    policy = _web_policy(topic, subscription)
    return _dispatch(topic, subscription.endpoint, HTTP, {"Headers": headers, "Body": body}, policy, dead_letter)


def confirmation(topic: Topic, subscription: Subscription, message: Message, signed: Signed) -> Dispatch:
    """The question to an endpoint whether it wants to be subscribed."""
    document = envelope(message, signed, "")
    if subscription.protocol == SQS:
        parameters: Mapping[str, Any] = {"MessageBody": document}
        return _dispatch(topic, subscription.endpoint, SQS, parameters, MANAGED_POLICY, None, "SendMessage")
    headers = {
        "Content-Type": _CONTENT_TYPE,
        "User-Agent": _USER_AGENT,
        "x-amz-sns-message-id": message.message_id,
        "x-amz-sns-message-type": message.type,
        "x-amz-sns-topic-arn": topic.arn,
    }
    parameters = {"Headers": headers, "Body": document}
    return _dispatch(topic, subscription.endpoint, HTTP, parameters, _web_policy(topic, subscription), None)


def _dispatch(
    topic: Topic,
    target: str,
    service: str,
    parameters: Mapping[str, Any],
    policy: DispatchPolicy,
    dead_letter: DeadLetter | None,
    operation: str = "",
) -> Dispatch:
    return Dispatch(
        target=target,
        service=service,
        operation=operation,
        parameters=parameters,
        source=topic.arn,
        principal=PRINCIPAL,
        account_id=topic.account_id,
        region=topic.region if service == HTTP else target.split(":")[3],
        policy=policy,
        dead_letter=dead_letter,
    )


def _queue_message(subscription: Subscription, message: Message, document: str) -> dict[str, Any]:
    if not subscription.raw:
        return {"MessageBody": document}
    letter: dict[str, Any] = {"MessageBody": message.text}
    if message.attributes:
        letter["MessageAttributes"] = queue_attributes(message.attributes)
    return letter


def _fifo_parameters(queue_arn: str, fifo: Deduplication) -> dict[str, str]:
    """A standard queue takes a group, for its fair queues, and no deduplication id."""
    parameters = {"MessageGroupId": fifo.group_id} if fifo.group_id else {}
    if fifo.deduplication_id and queue_arn.endswith(".fifo"):
        parameters["MessageDeduplicationId"] = fifo.deduplication_id
    return parameters


def _dead_letter(subscription: Subscription, letter: Mapping[str, Any], fifo: Deduplication) -> DeadLetter | None:
    """The message as a queue in the subscription's place would get it."""
    queue_arn = subscription.dead_letter_arn
    if not queue_arn:
        return None
    parameters = _fifo_parameters(queue_arn, fifo)
    attributes = letter.get("MessageAttributes", {})
    fits = len(attributes) <= RAW_ATTRIBUTES_MAX
    return DeadLetter(
        queue_arn=queue_arn,
        body=letter["MessageBody"],
        attributes=attributes if fits else {},
        group_id=parameters.get("MessageGroupId", ""),
        deduplication_id=parameters.get("MessageDeduplicationId", ""),
    )


def _undeliverable(topic: Topic, subscription: Subscription, document: str, fifo: Deduplication) -> Dispatch | None:
    """To the dead-letter queue at once. No queue takes so many attributes, so it gets them in the envelope."""
    queue_arn = subscription.dead_letter_arn
    if not queue_arn:
        return None
    parameters = {"MessageBody": document, **_fifo_parameters(queue_arn, fifo)}
    return _dispatch(topic, queue_arn, SQS, parameters, MANAGED_POLICY, None, "SendMessage")


def _headers(topic: Topic, subscription: Subscription, message: Message) -> dict[str, str]:
    headers = {
        "Content-Type": _request_policy(topic, subscription).get("headerContentType") or _CONTENT_TYPE,
        "User-Agent": _USER_AGENT,
        "x-amz-sns-message-id": message.message_id,
        "x-amz-sns-message-type": message.type,
        "x-amz-sns-subscription-arn": subscription.arn,
        "x-amz-sns-topic-arn": topic.arn,
    }
    if subscription.raw:
        headers["x-amz-sns-rawdelivery"] = "true"
    return headers


def _web_policy(topic: Topic, subscription: Subscription) -> DispatchPolicy:
    """AWS's default is three retries: https://docs.aws.amazon.com/sns/latest/dg/SendMessageToHttp.retry.html"""
    own, inherited = _policies(topic, subscription)
    retry = own.get("healthyRetryPolicy") or inherited.get("defaultHealthyRetryPolicy") or {}
    retries = retry.get("numRetries", WEB_RETRIES)
    return DispatchPolicy(max_attempts=1 + min(int(retries), WEB_RETRIES_MAX), max_age_ms=WEB_AGE_MS)


def _request_policy(topic: Topic, subscription: Subscription) -> Mapping[str, Any]:
    own, inherited = _policies(topic, subscription)
    return own.get("requestPolicy") or inherited.get("defaultRequestPolicy") or {}


def _policies(topic: Topic, subscription: Subscription) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """The delivery policies of a subscription, and of web servers in its topic, unless that one overrides the first."""
    inherited = _json(topic.delivery_policy).get("http") or {}
    own: Mapping[str, Any] = (
        {} if inherited.get("disableSubscriptionOverrides") else _json(subscription.delivery_policy)
    )
    return own, inherited


def _json(text: str) -> Mapping[str, Any]:
    return json.loads(text) if text else {}
