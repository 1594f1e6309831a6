"""Messages of SNS as subscribers see them: envelopes, events of functions, and what is signed.

https://docs.aws.amazon.com/sns/latest/dg/sns-message-and-json-formats.html,
https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message-verify-message-signature.html and
https://docs.aws.amazon.com/lambda/latest/dg/with-sns.html have the forms.
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlencode

from lambdad.domain.sns_requests import MessageAttribute

NOTIFICATION: Final = "Notification"
CONFIRMATION: Final = "SubscriptionConfirmation"
API_VERSION: Final = "2010-03-31"
CERTIFICATES_PATH: Final = "/_lambdad/sns/"
"""Where the daemon serves the certificates that verify signatures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message for a subscriber: a notification, or the question whether it wants them."""

    type: str = NOTIFICATION
    message_id: str
    topic_arn: str
    text: str
    timestamp: str
    subject: str | None = None
    attributes: Mapping[str, MessageAttribute] = field(default_factory=dict)
    sequence_number: str = ""
    token: str = ""
    subscribe_url: str = ""


@dataclass(frozen=True, slots=True)
class Signed:
    """The signature of a message in base64; version 1 is over SHA-1, 2 over SHA-256, both by RSA (PKCS #1 v1.5)."""

    version: str
    signature: str
    certificate_url: str


def timestamp(time_s: float) -> str:
    """A time as messages give it, in milliseconds of UTC."""
    return datetime.fromtimestamp(time_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def string_to_sign(message: Message) -> str:
    """Names and values of what a message has of these, a line each, in the order of the names."""
    members = {
        "Message": message.text,
        "MessageId": message.message_id,
        "SubscribeURL": message.subscribe_url or None,
        "Subject": message.subject,
        "Timestamp": message.timestamp,
        "Token": message.token or None,
        "TopicArn": message.topic_arn,
        "Type": message.type,
    }
    names = ("Message", "MessageId", "Subject", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")
    return "".join(f"{name}\n{members[name]}\n" for name in names if members[name] is not None)


def unsubscribe_url(endpoint_url: str, subscription_arn: str) -> str:
    return _link(endpoint_url, Action="Unsubscribe", SubscriptionArn=subscription_arn)


def subscribe_url(endpoint_url: str, topic_arn: str, token: str) -> str:
    return _link(endpoint_url, Action="ConfirmSubscription", TopicArn=topic_arn, Token=token)


def _link(endpoint_url: str, **parameters: str) -> str:
    """A request that anybody may make. The version tells the daemon, which has one address, that it is for SNS."""
    return f"{endpoint_url}/?{urlencode({**parameters, 'Version': API_VERSION}, safe=':')}"


def confirmation_text(topic_arn: str) -> str:
    return (
        f"You have chosen to subscribe to the topic {topic_arn}.\n"
        "To confirm the subscription, visit the SubscribeURL included in this message."
    )


def envelope(message: Message, signed: Signed, unsubscribe: str) -> str:
    """The JSON text that queues and web servers get, in AWS's order and spacing. A confirmation has no unsubscribe.

    What a FIFO topic sends is numbered and not signed:
    https://github.com/aws-powertools/powertools-lambda-python/issues/1590
    """
    is_signed = not message.sequence_number
    members: dict[str, Any] = {
        "Type": message.type,
        "MessageId": message.message_id,
        "SequenceNumber": message.sequence_number or None,
        "Token": message.token or None,
        "TopicArn": message.topic_arn,
        "Subject": message.subject,
        "Message": message.text,
        "SubscribeURL": message.subscribe_url or None,
        "Timestamp": message.timestamp,
        "SignatureVersion": signed.version if is_signed else None,
        "Signature": signed.signature if is_signed else None,
        "SigningCertURL": signed.certificate_url if is_signed else None,
        "UnsubscribeURL": unsubscribe if message.type == NOTIFICATION else None,
        "MessageAttributes": _attributes(message) or None,
    }
    present = {name: value for name, value in members.items() if value is not None}
    return json.dumps(present, indent=2, separators=(",", " : "), ensure_ascii=False)


def function_event(message: Message, signed: Signed, subscription_arn: str, unsubscribe: str) -> str:
    """The JSON text that a function gets."""
    record = {
        "EventSource": "aws:sns",
        "EventVersion": "1.0",
        "EventSubscriptionArn": subscription_arn,
        "Sns": {
            "Type": message.type,
            "MessageId": message.message_id,
            "TopicArn": message.topic_arn,
            "Subject": message.subject,
            "Message": message.text,
            "Timestamp": message.timestamp,
            "SignatureVersion": signed.version,
            "Signature": signed.signature,
            "SigningCertUrl": signed.certificate_url,
            "UnsubscribeUrl": unsubscribe,
            "MessageAttributes": _attributes(message),
        },
    }
    return json.dumps({"Records": [record]}, separators=(",", ":"), ensure_ascii=False)


def queue_attributes(attributes: Mapping[str, MessageAttribute]) -> Mapping[str, Any]:
    """Attributes as SendMessage takes them."""
    return {name: {"DataType": each.type, **_queue_value(each)} for name, each in attributes.items()}


def _queue_value(attribute: MessageAttribute) -> Mapping[str, str | bytes]:
    if attribute.is_binary:
        return {"BinaryValue": b64decode(attribute.value)}
    return {"StringValue": attribute.value}


def _attributes(message: Message) -> Mapping[str, Any]:
    return {name: {"Type": each.type, "Value": each.value} for name, each in message.attributes.items()}
