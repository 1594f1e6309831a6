"""moto's SNS without its deliveries: the daemon sends what is published (`lambdad.services.topics`).

moto's own run within the request, lose what fails, and keep every message for ever. Here topics and subscriptions are
kept, requests are checked as AWS checks them where moto does not, subscriptions of others are confirmed with a token,
and messages of FIFO topics get their numbers. A topic does not have to keep what it has numbered beyond the death of
this process: numbers come from the clock, and the daemon itself remembers what it has sent.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from moto.core.responses import ActionResult, EmptyResult
from moto.moto_api._internal import mock_random
from moto.sns import models
from moto.sns.exceptions import InvalidParameterValue, SnsEndpointDisabled, SNSException, SNSInvalidParameter
from moto.sns.models import SNSBackend, Subscription, Topic, sns_backends
from moto.sns.responses import SNSResponse

from lambdad_neighbours.topic_rules import (
    CONFIRMED_BY_TOKEN,
    check_batch,
    check_endpoint,
    check_message,
    check_subscription_attribute,
    check_topic_attribute,
)

DEDUPLICATION_S: Final = 300.0
TOKEN_BYTES: Final = 128
TOKEN_VALID_S: Final = 2 * 24 * 3600.0
"""https://docs.aws.amazon.com/sns/latest/api/API_Subscribe.html: "Confirmation tokens are valid for two days." """

_TOPIC_ARN: Final = re.compile(r"arn:[^:]+:sns:(?P<region>[^:]+):(?P<account>\d{12}):[^:]+")
_FIRST_NUMBER: Final = 10**19
_LISTED: Final = "PendingConfirmation"
_PENDING: Final = "pending confirmation"
_BOOLEANS: Final = frozenset({"RawMessageDelivery"})

_subscribe = SNSBackend.subscribe
_answer_publish = SNSResponse.publish
_answer_publish_batch = SNSResponse.publish_batch
_answer_create_topic = SNSResponse.create_topic
_answer_set_topic_attributes = SNSResponse.set_topic_attributes
_answer_topic_attributes = SNSResponse.get_topic_attributes


class NotAuthorized(SNSException):  # type: ignore[misc]
    code = "AuthorizationError"


def install() -> None:
    """Change moto's SNS; once, after its import."""
    for owner, name, replacement in REPLACEMENTS:
        setattr(owner, name, replacement)


def topic_of(topic_arn: str) -> Any:
    """A topic, wherever it is; None when there is none of that ARN."""
    name = _TOPIC_ARN.fullmatch(topic_arn)
    # Asked of the account first: that is what gives the backend its state, if this is its first use.
    backend = sns_backends[name["account"]].get(name["region"]) if name else None
    return backend.topics.get(topic_arn) if backend else None


def subscriptions_of(topic_arn: str) -> Iterator[Any]:
    """The subscriptions of a topic, of whatever account, oldest first; none when there is no such topic."""
    if topic_of(topic_arn) is None:
        return
    for account_id in list(sns_backends):
        for backend in list(sns_backends[account_id].values()):
            yield from [each for each in backend.subscriptions.values() if each.topic.arn == topic_arn]


# Messages


def publish(
    self: SNSBackend,
    message: str,
    arn: str | None,
    phone_number: str | None = None,
    subject: str | None = None,
    message_attributes: Mapping[str, Any] | None = None,
    group_id: str | None = None,
    deduplication_id: str | None = None,
    message_structure: str | None = None,
) -> str:
    """Take a message: its id."""
    check_message(message, subject, message_attributes or {}, message_structure)
    if phone_number:
        return str(mock_random.uuid4())
    if not arn:
        raise InvalidParameterValue("Invalid parameter: TopicArn or TargetArn Reason: no value for required parameter")
    if arn in self.platform_endpoints:
        if not self.platform_endpoints[arn].enabled:
            raise SnsEndpointDisabled("Endpoint is disabled")
        return str(mock_random.uuid4())
    topic = self.get_topic(arn)
    if topic.fifo_topic:
        return _publish_in_order(topic, message, group_id, deduplication_id)
    if deduplication_id:
        raise InvalidParameterValue(
            "Invalid parameter: MessageDeduplicationId Reason: The request includes MessageDeduplicationId parameter "
            "that is not valid for this topic type"
        )
    return str(mock_random.uuid4())


def _publish_in_order(topic: Any, message: str, group_id: str | None, deduplication_id: str | None) -> str:
    """Number a message of a FIFO topic; one that has been published in the last five minutes keeps id and number."""
    if not group_id:
        raise InvalidParameterValue("Invalid parameter: The MessageGroupId parameter is required for FIFO topics")
    if not deduplication_id:
        if not topic.content_based_deduplication:
            raise InvalidParameterValue(
                "Invalid parameter: The topic should either have ContentBasedDeduplication enabled or "
                "MessageDeduplicationId provided explicitly"
            )
        deduplication_id = hashlib.sha256(message.encode()).hexdigest()
    now = time.time()
    numbered = _numbered(topic)
    for key in [key for key, (_, _, published) in numbered.items() if published < now - DEDUPLICATION_S]:
        del numbered[key]
    scope = group_id if getattr(topic, "fifo_throughput_scope", "") == "MessageGroup" else ""
    message_id, number, published = numbered.get((scope, deduplication_id), (str(mock_random.uuid4()), 0, now))
    if not number:
        number = max(_FIRST_NUMBER + time.time_ns(), getattr(topic, "lambdad_last_number", 0) + 1)
        topic.lambdad_last_number = number
        numbered[scope, deduplication_id] = message_id, number, published
    return message_id


def _numbered(topic: Any) -> dict[tuple[str, str], tuple[str, int, float]]:
    """Message id, sequence number and time, by scope and deduplication id; oldest first."""
    if not hasattr(topic, "lambdad_numbered"):
        topic.lambdad_numbered = {}
    found: dict[tuple[str, str], tuple[str, int, float]] = topic.lambdad_numbered
    return found


def _publish(self: SNSResponse) -> ActionResult:
    answer = _answer_publish(self)
    return _with_numbers(self._get_param("TargetArn") or self._get_param("TopicArn"), answer, "")


def _publish_batch(self: SNSResponse) -> ActionResult:
    check_batch(self._get_param("PublishBatchRequestEntries", []))
    return _with_numbers(self._get_param("TopicArn"), _answer_publish_batch(self), "Successful")


def _with_numbers(topic_arn: str | None, answer: ActionResult, member: str) -> ActionResult:
    result: Any = answer.result
    topic = topic_of(topic_arn or "")
    if topic is not None and topic.fifo_topic:
        numbers = {message_id: number for message_id, number, _ in _numbered(topic).values()}
        for each in result[member] if member else [result]:
            each["SequenceNumber"] = str(numbers[each["MessageId"]])
    return answer


# Subscriptions


def subscribe(self: SNSBackend, topic_arn: str, endpoint: str, protocol: str) -> Subscription:
    """As moto's; who subscribes others has to wait until they have confirmed it with a token."""
    subscription = _subscribe(self, topic_arn, endpoint, protocol)
    if hasattr(subscription, "lambdad_token"):
        if not subscription.confirmed:
            subscription.lambdad_token_until = time.time() + TOKEN_VALID_S
        return subscription
    foreign_queue = protocol == "sqs" and endpoint.split(":")[4] != self.account_id
    subscription.confirmed = protocol not in CONFIRMED_BY_TOKEN and not foreign_queue
    subscription.lambdad_token = "" if subscription.confirmed else secrets.token_hex(TOKEN_BYTES)
    subscription.lambdad_token_until = time.time() + TOKEN_VALID_S
    subscription.attributes["PendingConfirmation"] = not subscription.confirmed
    subscription.attributes["ConfirmationWasAuthenticated"] = subscription.confirmed
    return subscription


def _subscribe_request(self: SNSResponse) -> ActionResult:
    topic_arn, protocol = self._get_param("TopicArn"), self._get_param("Protocol")
    endpoint = self._get_param("Endpoint") or ""
    wanted: Mapping[str, str] = self._get_param("Attributes", {})
    topic = self.backend.get_topic(topic_arn)
    check_endpoint(topic.fifo_topic, protocol, endpoint)
    scope = wanted.get("FilterPolicyScope")
    values = {name: _checked(name, value, scope, "Attributes Reason: ") for name, value in wanted.items()}
    existing = self.backend._find_subscription(topic_arn, endpoint, protocol)
    if existing is not None and any(existing.attributes.get(name) != value for name, value in values.items()):
        raise SNSInvalidParameter(
            "Invalid parameter: Attributes Reason: Subscription already exists with different attributes"
        )
    subscription = self.backend.subscribe(topic_arn, endpoint, protocol)
    subscription.attributes.update(values)
    shown = subscription.confirmed or self._get_bool_param("ReturnSubscriptionArn", False)
    return ActionResult({"SubscriptionArn": subscription.arn if shown else _PENDING})


def set_subscription_attributes(self: SNSBackend, arn: str, name: str, value: str) -> None:
    """Values are texts, as they were sent."""
    subscription = _subscription(arn)
    if subscription is None:
        raise models.SNSNotFoundError("Subscription does not exist")
    attributes = subscription.attributes
    checked = _checked(name, value, attributes.get("FilterPolicyScope"), "")
    if name == "FilterPolicyScope":
        _checked("FilterPolicy", attributes.get("FilterPolicy") or "", value, "")
    attributes[name] = checked


def _set_subscription_attributes(self: SNSResponse) -> ActionResult:
    arn, name = self._get_param("SubscriptionArn"), self._get_param("AttributeName")
    self.backend.set_subscription_attributes(arn, name, self._get_param("AttributeValue") or "")
    return EmptyResult()


def _checked(name: str, value: str, scope: str | None, where: str) -> Any:
    check_subscription_attribute(name, value, scope, where)
    return value.lower() == "true" if name in _BOOLEANS else value


def _subscription(arn: str) -> Any:
    topic_arn = arn.rpartition(":")[0]
    return next((each for each in subscriptions_of(topic_arn) if each.arn == arn), None)


def _confirm_subscription(self: SNSResponse) -> ActionResult:
    topic_arn, token = self._get_param("TopicArn") or "", self._get_param("Token") or ""
    if topic_of(topic_arn) is None:
        raise models.SNSNotFoundError("Topic does not exist")
    for subscription in subscriptions_of(topic_arn):
        known = getattr(subscription, "lambdad_token", "")
        if known and secrets.compare_digest(known.encode(), token.encode()):
            if not subscription.confirmed and time.time() > subscription.lambdad_token_until:
                break
            signed = "Authorization" in self.headers
            subscription.confirmed = True
            subscription.attributes["PendingConfirmation"] = False
            subscription.attributes["ConfirmationWasAuthenticated"] = signed
            authenticates = str(self._get_param("AuthenticateOnUnsubscribe")).lower() == "true"
            subscription.lambdad_authenticates = signed and authenticates
            return ActionResult({"SubscriptionArn": subscription.arn})
    raise SNSInvalidParameter("Invalid token")


def _unsubscribe(self: SNSResponse) -> ActionResult:
    """By its ARN, from wherever: the link in a message knows neither account nor region."""
    arn = self._get_param("SubscriptionArn") or ""
    elements = len(arn.split(":"))
    if elements < 6:
        raise SNSInvalidParameter(
            f"Invalid parameter: SubscriptionArn Reason: An ARN must have at least 6 elements, not {elements}"
        )
    subscription = _subscription(arn)
    if subscription is not None:
        if getattr(subscription, "lambdad_authenticates", False) and "Authorization" not in self.headers:
            raise NotAuthorized("User is not authorized to perform: SNS:Unsubscribe on this resource")
        _remove(subscription)
    return EmptyResult()


def _remove(subscription: Subscription) -> None:
    for account_id in list(sns_backends):
        for backend in sns_backends[account_id].values():
            backend.subscriptions.pop(subscription.arn, None)


def _delete_topic_subscriptions(_: SNSBackend, topic: Topic) -> None:
    for each in list(subscriptions_of(topic.arn)):
        _remove(each)


def _topic_subscriptions(_: SNSBackend, topic: Topic) -> list[Subscription]:
    return list(subscriptions_of(topic.arn))


def _list_subscriptions(self: SNSResponse) -> ActionResult:
    found, token = self.backend.list_subscriptions(next_token=self._get_param("NextToken"))
    return _listed(found, token)


def _list_subscriptions_by_topic(self: SNSResponse) -> ActionResult:
    topic_arn, next_token = self._get_param("TopicArn"), self._get_param("NextToken")
    found, token = self.backend.list_subscriptions_by_topic(topic_arn, next_token=next_token)
    return _listed(found, token)


def _listed(subscriptions: Sequence[Subscription], next_token: int | None) -> ActionResult:
    found = [
        {
            "SubscriptionArn": each.arn if each.confirmed else _LISTED,
            "Owner": each.owner,
            "Protocol": each.protocol,
            "Endpoint": each.endpoint,
            "TopicArn": each.topic.arn,
        }
        for each in subscriptions
    ]
    return ActionResult({"Subscriptions": found, "NextToken": next_token})


# Topics


def _create_topic(self: SNSResponse) -> ActionResult:
    for name, value in self._get_param("Attributes", {}).items():
        check_topic_attribute(name, value, "Attributes Reason: ")
    return _answer_create_topic(self)


def _set_topic_attributes(self: SNSResponse) -> ActionResult:
    check_topic_attribute(self._get_param("AttributeName"), self._get_param("AttributeValue") or "", "")
    return _answer_set_topic_attributes(self)


def _get_topic_attributes(self: SNSResponse) -> ActionResult:
    """With what moto keeps and does not tell, and the subscriptions that there are."""
    answer = _answer_topic_attributes(self)
    result: Any = answer.result
    topic_arn = self._get_param("TopicArn")
    topic = self.backend.get_topic(topic_arn)
    found = list(subscriptions_of(topic_arn))
    pending = sum(1 for each in found if not each.confirmed)
    result["Attributes"].update(SubscriptionsPending=pending, SubscriptionsConfirmed=len(found) - pending)
    for name, kept in (("SignatureVersion", "signature_version"), ("FifoThroughputScope", "fifo_throughput_scope")):
        if getattr(topic, kept, None):
            result["Attributes"][name] = getattr(topic, kept)
    return answer


REPLACEMENTS: Final[Sequence[tuple[type, str, Callable[..., Any]]]] = (
    (SNSBackend, "publish", publish),
    (SNSBackend, "subscribe", subscribe),
    (SNSBackend, "set_subscription_attributes", set_subscription_attributes),
    (SNSBackend, "delete_topic_subscriptions", _delete_topic_subscriptions),
    (SNSBackend, "_get_topic_subscriptions", _topic_subscriptions),
    (SNSResponse, "publish", _publish),
    (SNSResponse, "publish_batch", _publish_batch),
    (SNSResponse, "subscribe", _subscribe_request),
    (SNSResponse, "set_subscription_attributes", _set_subscription_attributes),
    (SNSResponse, "confirm_subscription", _confirm_subscription),
    (SNSResponse, "unsubscribe", _unsubscribe),
    (SNSResponse, "list_subscriptions", _list_subscriptions),
    (SNSResponse, "list_subscriptions_by_topic", _list_subscriptions_by_topic),
    (SNSResponse, "create_topic", _create_topic),
    (SNSResponse, "set_topic_attributes", _set_topic_attributes),
    (SNSResponse, "get_topic_attributes", _get_topic_attributes),
)
"""What is changed, and by what."""


def described(topic_arn: str) -> dict[str, Any] | None:
    """A topic with its subscriptions, as the daemon needs them to deliver; None when there is none."""
    topic = topic_of(topic_arn)
    if topic is None:
        return None
    return {
        "fifo": bool(topic.fifo_topic),
        "content_based_deduplication": bool(topic.content_based_deduplication),
        "deduplication_by_group": getattr(topic, "fifo_throughput_scope", "") == "MessageGroup",
        "signature_version": getattr(topic, "signature_version", "1"),
        "delivery_policy": topic.delivery_policy or "",
        "subscriptions": [_described(each) for each in subscriptions_of(topic_arn)],
    }


def _described(subscription: Any) -> dict[str, Any]:
    attributes = subscription.attributes
    return {
        "arn": subscription.arn,
        "protocol": subscription.protocol,
        "endpoint": subscription.endpoint,
        "owner": subscription.owner,
        "confirmed": subscription.confirmed,
        "token": getattr(subscription, "lambdad_token", ""),
        "raw": bool(attributes.get("RawMessageDelivery")),
        "filter_policy": attributes.get("FilterPolicy") or "",
        "filter_policy_scope": attributes.get("FilterPolicyScope") or "MessageAttributes",
        "delivery_policy": attributes.get("DeliveryPolicy") or "",
        "redrive_policy": json.loads(attributes.get("RedrivePolicy") or "{}"),
    }
