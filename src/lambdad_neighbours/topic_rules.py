"""What SNS refuses, in AWS's words, where moto does not: messages, endpoints and attributes.

https://docs.aws.amazon.com/sns/latest/api/API_Publish.html and API_Subscribe.html
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from moto.sns.exceptions import InvalidParameterValue, SNSException, SNSInvalidParameter

from lambdad.domain.sns_filter_policies import ATTRIBUTES, BODY, InvalidFilterPolicy, compile_filter_policy

MESSAGE_BYTES_MAX: Final = 256 * 1024
SUBJECT_CHARACTERS_MAX: Final = 100
PROTOCOLS: Final = frozenset(
    {"application", "email", "email-json", "firehose", "http", "https", "lambda", "sms", "sqs"}
)
CONFIRMED_BY_TOKEN: Final = frozenset({"email", "email-json", "http", "https"})
SUBSCRIPTION_ATTRIBUTES: Final = frozenset(
    {
        "DeliveryPolicy",
        "FilterPolicy",
        "FilterPolicyScope",
        "RawMessageDelivery",
        "RedrivePolicy",
        "SubscriptionRoleArn",
    }
)

TOPIC_ATTRIBUTES: Final = frozenset(
    {
        "ContentBasedDeduplication",
        "DataProtectionPolicy",
        "DeliveryPolicy",
        "DisplayName",
        "FifoThroughputScope",
        "FifoTopic",
        "KmsMasterKeyId",
        "Policy",
        "SignatureVersion",
        "TracingConfig",
        *(
            f"{protocol}{feedback}"
            for protocol in ("Application", "Firehose", "HTTP", "Lambda", "SQS")
            for feedback in ("FailureFeedbackRoleArn", "SuccessFeedbackRoleArn", "SuccessFeedbackSampleRate")
        ),
    }
)

_CONTENT_TYPE: Final = re.compile(r"[\w.+-]+/[\w.+-]+(; ?[\w.+-]+=[\w.+-]+)*", re.ASCII)
_FUNCTION_ARN: Final = re.compile(r"arn:[^:]+:lambda:[^:]+:\d{12}:function:[^:]+(?::[^:]+)?")
_QUEUE_ARN: Final = re.compile(r"arn:[^:]+:sqs:[^:]+:\d{12}:[^:]+")
_RETRIES_MAX: Final = 100


class BatchRequestTooLong(SNSException):  # type: ignore[misc]
    code = "BatchRequestTooLong"
    message = "The length of all the batch messages put together is more than the limit."


class EmptyBatchRequest(SNSException):  # type: ignore[misc]
    code = "EmptyBatchRequest"
    message = "The batch request doesn't contain any entries."


def check_message(message: str, subject: str | None, attributes: Mapping[str, Any], structure: str | None) -> None:
    """Raises InvalidParameterValue; attributes are as moto has read them."""
    if not message:
        raise InvalidParameterValue("Invalid parameter: Empty message")
    if _size(message, attributes) > MESSAGE_BYTES_MAX:
        raise InvalidParameterValue("Invalid parameter: Message too long")
    if subject is not None and not 0 < len(subject) <= SUBJECT_CHARACTERS_MAX:
        raise InvalidParameterValue("Invalid parameter: Subject")
    if structure is None:
        return
    if structure != "json":
        raise InvalidParameterValue("Invalid parameter: MessageStructure")
    try:
        texts = json.loads(message)
    except (ValueError, RecursionError):
        texts = None
    if not isinstance(texts, dict):
        raise InvalidParameterValue("Invalid parameter: Message Structure - JSON message body failed to parse")
    if not isinstance(texts.get("default"), str):
        raise InvalidParameterValue("Invalid parameter: Message Structure - No default entry in JSON message body")


def check_batch(entries: Sequence[Mapping[str, Any]]) -> None:
    """Raises EmptyBatchRequest and BatchRequestTooLong; attributes are as they were sent."""
    if not entries:
        raise EmptyBatchRequest
    size = sum(_size(entry.get("Message") or "", entry.get("MessageAttributes") or {}) for entry in entries)
    if size > MESSAGE_BYTES_MAX:
        raise BatchRequestTooLong


def _size(message: str, attributes: Mapping[str, Mapping[str, Any]]) -> int:
    size = len(message.encode())
    for name, attribute in attributes.items():
        values = [value for value in attribute.values() if value is not None]
        size += len(name.encode()) + sum(len(str(value).encode()) for value in values)
    return size


def check_endpoint(is_fifo: bool, protocol: str, endpoint: str) -> None:
    """Raises SNSInvalidParameter for what cannot be subscribed to such a topic."""
    if protocol not in PROTOCOLS:
        raise SNSInvalidParameter(f"Invalid parameter: Amazon SNS does not support this protocol string: {protocol}")
    if protocol in ("http", "https") and not endpoint.startswith(f"{protocol}://"):
        raise SNSInvalidParameter("Invalid parameter: Endpoint must match the specified protocol")
    if not endpoint:
        raise SNSInvalidParameter("Invalid parameter: Endpoint")
    if protocol == "sqs" and not _QUEUE_ARN.fullmatch(endpoint):
        raise SNSInvalidParameter("Invalid parameter: SQS endpoint ARN")
    if protocol == "lambda" and not _FUNCTION_ARN.fullmatch(endpoint):
        raise SNSInvalidParameter("Invalid parameter: Lambda endpoint ARN")
    if is_fifo and protocol != "sqs":
        raise SNSInvalidParameter(f"Invalid parameter: Invalid protocol type: {protocol}")
    if not is_fifo and protocol == "sqs" and endpoint.endswith(".fifo"):
        raise SNSInvalidParameter(
            "Invalid parameter: Invalid parameter: Endpoint Reason: FIFO SQS Queues can not be subscribed to standard "
            "SNS topics"
        )


def check_subscription_attribute(name: str, value: str, scope: str | None, where: str) -> None:
    """Raises SNSInvalidParameter; `where` is what the message puts before the attribute."""
    if name not in SUBSCRIPTION_ATTRIBUTES:
        unknown = f"{where}Unknown attribute {name}" if where else "AttributeName"
        raise SNSInvalidParameter(f"Invalid parameter: {unknown}")
    prefix = f"Invalid parameter: {where}{name}: "
    if name == "RawMessageDelivery" and value.lower() not in ("true", "false"):
        raise SNSInvalidParameter(f"{prefix}Invalid value [{value}]. Must be true or false.")
    if name == "FilterPolicyScope" and value not in (ATTRIBUTES, BODY):
        raise SNSInvalidParameter(
            f"{prefix}Invalid value [{value}]. Please use either MessageBody or MessageAttributes"
        )
    if name == "FilterPolicy":
        try:
            compile_filter_policy(value, scope or ATTRIBUTES)
        except InvalidFilterPolicy as error:
            raise SNSInvalidParameter(prefix + error.message) from error
    if name == "RedrivePolicy" and value:
        queue_arn = _object(value, prefix).get("deadLetterTargetArn")
        if not isinstance(queue_arn, str) or not _QUEUE_ARN.fullmatch(queue_arn):
            raise SNSInvalidParameter(f"{prefix}deadLetterTargetArn is an invalid arn")
    if name == "DeliveryPolicy" and value:
        policy = _object(value, prefix)
        _check_web_policy(prefix, policy.get("healthyRetryPolicy"), policy.get("requestPolicy"))


def check_topic_attribute(name: str, value: str, where: str) -> None:
    """Raises SNSInvalidParameter; `where` is what the message puts before the attribute."""
    if name not in TOPIC_ATTRIBUTES:
        unknown = f"{where}Unknown attribute {name}" if where else "AttributeName"
        raise SNSInvalidParameter(f"Invalid parameter: {unknown}")
    prefix = f"Invalid parameter: {where}{name}: "
    if name == "SignatureVersion" and value not in ("1", "2"):
        raise SNSInvalidParameter(f"{prefix}Invalid value [{value}]. Must be 1 or 2.")
    if name == "FifoThroughputScope" and value not in ("Topic", "MessageGroup"):
        raise SNSInvalidParameter(f"{prefix}Invalid value [{value}]. Must be Topic or MessageGroup.")
    if name == "DeliveryPolicy" and value:
        policy = _object(value, prefix).get("http") or {}
        if not isinstance(policy, dict):
            raise SNSInvalidParameter(f"{prefix}http must be an object")
        _check_web_policy(prefix, policy.get("defaultHealthyRetryPolicy"), policy.get("defaultRequestPolicy"))


def _object(text: str, prefix: str) -> Mapping[str, Any]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise SNSInvalidParameter(f"{prefix}failed to parse JSON.")
    return document


def _check_web_policy(prefix: str, retry: Any, request: Any) -> None:
    for policy in (retry, request):
        if policy is not None and not isinstance(policy, dict):
            raise SNSInvalidParameter(f"{prefix}its policies must be objects")
    retries = (retry or {}).get("numRetries", 0)
    if type(retries) is not int or not 0 <= retries <= _RETRIES_MAX:
        raise SNSInvalidParameter(f"{prefix}numRetries must be between 0 and {_RETRIES_MAX}")
    content_type = (request or {}).get("headerContentType")
    if content_type is not None and not (isinstance(content_type, str) and _CONTENT_TYPE.fullmatch(content_type)):
        raise SNSInvalidParameter(f"{prefix}headerContentType is no content type")
