"""Filter policies: what a subscriber wants of a topic, by the attributes of messages or by their bodies.

The language is that of event patterns (`event_patterns`), with limits of its own:
https://docs.aws.amazon.com/sns/latest/dg/subscription-filter-policy-constraints.html
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from lambdad.domain.errors import ServiceError
from lambdad.domain.event_patterns import OR, InvalidEventPatternException, Pattern, compile_pattern
from lambdad.domain.sns_requests import MessageAttribute

ATTRIBUTES: Final = "MessageAttributes"
BODY: Final = "MessageBody"
KEYS_MAX: Final = 5
COMBINATIONS_MAX: Final = 150
POLICY_BYTES_MAX: Final = 256 * 1024

_COMPILED: Final = 1024
_BODIES: Final = 8
_PATTERN_PREFIX: Final = "Event pattern is not valid. Reason: "


class InvalidFilterPolicy(ServiceError):
    """The message is the reason, as SNS gives it after `FilterPolicy: `."""

    code = "InvalidParameter"
    status = 400


class FilterPolicy:
    """A policy, ready to match."""

    __slots__ = ("_pattern", "_scope")

    def __init__(self, pattern: Pattern, scope: str) -> None:
        self._pattern = pattern
        self._scope = scope

    def matches(self, message: str, attributes: Mapping[str, MessageAttribute]) -> bool:
        """Whether the subscriber wants the message. One that is no JSON object passes no policy of bodies."""
        if self._scope == ATTRIBUTES:
            return self._pattern.matches(_values(attributes))
        body = _body(message)
        return body is not None and self._pattern.matches(body)


@lru_cache(_COMPILED)
def compile_filter_policy(text: str, scope: str = ATTRIBUTES) -> FilterPolicy | None:
    """The policy in this JSON text; None for `{}` and an empty text, which let everything pass.

    Raises InvalidFilterPolicy.
    """
    if not text.strip():
        return None
    if len(text.encode()) > POLICY_BYTES_MAX:
        raise InvalidFilterPolicy("Filter policy is too large")
    try:
        document = json.loads(text)
        if document == {}:
            return None
        pattern = compile_pattern(text)
    except InvalidEventPatternException as error:
        raise InvalidFilterPolicy(error.message.removeprefix(_PATTERN_PREFIX)) from None
    except (ValueError, RecursionError):
        raise InvalidFilterPolicy("failed to parse JSON.") from None
    if len(document) > KEYS_MAX:
        raise InvalidFilterPolicy(f"Filter policy can not have more than {KEYS_MAX} keys")
    if scope == ATTRIBUTES and _is_nested(document):
        raise InvalidFilterPolicy("Filter policy scope MessageAttributes does not support nested filter policy")
    if _combinations(document, 1) > COMBINATIONS_MAX:
        raise InvalidFilterPolicy("Filter policy is too complex")
    return FilterPolicy(pattern, scope)


def _is_branches(name: str, value: Any) -> bool:
    return name == OR and isinstance(value, list) and all(isinstance(each, dict) for each in value)


def _is_nested(document: Mapping[str, Any]) -> bool:
    return any(
        any(_is_nested(each) for each in value) if _is_branches(name, value) else isinstance(value, dict)
        for name, value in document.items()
    )


def _combinations(document: Mapping[str, Any], depth: int) -> int:
    """The product of the numbers of values of all fields, each times its depth; branches of `$or` are added up."""
    product = 1
    for name, value in document.items():
        if _is_branches(name, value):
            product *= sum(_combinations(each, depth) for each in value)
        elif isinstance(value, dict):
            product *= _combinations(value, depth + 1)
        elif isinstance(value, list):
            product *= len(value) * depth
    return product


def _values(attributes: Mapping[str, MessageAttribute]) -> dict[str, Any]:
    """What policies see of attributes: texts, numbers and arrays; nothing of those that are binary."""
    return {name: _value(attribute) for name, attribute in attributes.items() if not attribute.is_binary}


def _value(attribute: MessageAttribute) -> Any:
    if attribute.type == "String.Array":
        try:
            return json.loads(attribute.value)
        except (ValueError, RecursionError):
            return attribute.value
    if attribute.type.partition(".")[0] == "Number":
        try:
            return float(attribute.value)
        except ValueError:
            return attribute.value
    return attribute.value


@lru_cache(_BODIES)
def _body(message: str) -> Mapping[str, Any] | None:
    """The JSON object that a message is. It is kept a moment: all subscriptions of a topic ask for the same."""
    try:
        document = json.loads(message)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None
