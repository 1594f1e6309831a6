"""What a bucket tells others of: its notification configuration, as it is sent, kept and looked at.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/EventNotifications.html
Every event type of S3 may be configured. Of those, these occur: ObjectCreated, ObjectRemoved, ObjectTagging, ObjectAcl,
and of ObjectRestore Post and Completed. What lambdad's neighbours never do is never told: lifecycle transitions and
expirations, replication, intelligent tiering, annotations, retention, lost objects, restored copies that expire.
"""

from __future__ import annotations

import base64
import enum
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final
from urllib.parse import unquote_plus
from xml.etree.ElementTree import Element, SubElement

from lambdad.domain import destinations
from lambdad.domain.record_kinds import RecordKind
from lambdad.domain.s3_xml import NAMESPACE, InvalidArgument, MalformedXML, read, text_of, write

CONFIGURATIONS_MAX: Final = 100
"""https://docs.aws.amazon.com/AmazonS3/latest/userguide/EventNotifications.html"""
ID_CHARACTERS: Final = 255
FILTER_VALUE_BYTES: Final = 1024
PREFIX: Final = "Prefix"
SUFFIX: Final = "Suffix"

_ID_OCTETS: Final = 36  # 48 characters of base64, as many as the ids have that S3 gives
_FAMILIES: Final[Mapping[str, Sequence[str]]] = {
    "ObjectCreated": ("Put", "Post", "Copy", "CompleteMultipartUpload"),
    "ObjectRemoved": ("Delete", "DeleteMarkerCreated"),
    "ObjectRestore": ("Post", "Completed", "Delete"),
    "ObjectTagging": ("Put", "Delete"),
    "ObjectAnnotation": ("Put", "Delete"),
    "LifecycleExpiration": ("Delete", "DeleteMarkerCreated"),
    "Replication": (
        "OperationFailedReplication",
        "OperationNotTracked",
        "OperationMissedThreshold",
        "OperationReplicatedAfterThreshold",
    ),
}
_SINGLE_EVENTS: Final = (
    "s3:ReducedRedundancyLostObject",
    "s3:LifecycleTransition",
    "s3:IntelligentTiering",
    "s3:ObjectAcl:Put",
    "s3:ObjectRetention:Put",
)
EVENTS: Final[Mapping[str, frozenset[str]]] = (
    {event: frozenset({event}) for event in _SINGLE_EVENTS}
    | {f"s3:{family}:{kind}": frozenset({f"s3:{family}:{kind}"}) for family in _FAMILIES for kind in _FAMILIES[family]}
    | {f"s3:{family}:*": frozenset(f"s3:{family}:{kind}" for kind in _FAMILIES[family]) for family in _FAMILIES}
)
"""Every event type that a configuration may name, with the events that it stands for."""


class Kind(enum.Enum):
    """What is told, by the element of its configuration, in the order in which a configuration lists them."""

    TOPIC = "TopicConfiguration"
    QUEUE = "QueueConfiguration"
    FUNCTION = "CloudFunctionConfiguration"


_ARN_ELEMENTS: Final = {Kind.TOPIC: "Topic", Kind.QUEUE: "Queue", Kind.FUNCTION: "CloudFunction"}
_SERVICES: Final = {Kind.TOPIC: destinations.SNS, Kind.QUEUE: destinations.SQS, Kind.FUNCTION: destinations.LAMBDA}
_EVENT_BRIDGE: Final = "EventBridgeConfiguration"
# A role was sent with functions before they had policies: https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketNotification.html
_DEPRECATED: Final = "InvocationRole"
_ARN: Final = re.compile(r"arn:aws[a-z-]*:(?P<service>[a-z]+):(?P<region>[a-z0-9-]+):[0-9]{12}:[a-zA-Z0-9_:$.-]+")


@dataclass(frozen=True, slots=True)
class FilterRule:
    """`name` is PREFIX or SUFFIX, `value` as it was sent."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class Notification:
    """One configuration: which events, of which keys, go to which ARN."""

    id: str
    kind: Kind
    arn: str
    events: tuple[str, ...]
    rules: tuple[FilterRule, ...] = ()

    @property
    def is_fifo(self) -> bool:
        return self.arn.endswith(".fifo")

    @property
    def argument(self) -> str:
        """What errors call the ARN."""
        return _ARN_ELEMENTS[self.kind]

    def matches(self, event: str, key: str) -> bool:
        """Whether an event such as `s3:ObjectCreated:Put` on a key, decoded, is to be told.

        Values of rules are written as keys are in events, a space as "+" and other special characters by their
        percent-encoding: https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-how-to-filtering.html
        """
        if not any(event in EVENTS[one] for one in self.events):
            return False
        return key.startswith(unquote_plus(self.filter(PREFIX))) and key.endswith(unquote_plus(self.filter(SUFFIX)))

    def filter(self, name: str) -> str:
        return next((rule.value for rule in self.rules if rule.name == name), "")


@dataclass(frozen=True, slots=True)
class BucketNotifications:
    """The configuration of a bucket; names of buckets are unique, so `bucket` is its key.

    `account_id` is the bucket's owner, taken to be who has put the configuration; `region` is the bucket's.
    """

    bucket: str
    account_id: str
    region: str
    notifications: tuple[Notification, ...] = ()
    event_bridge: bool = False

    @property
    def arn(self) -> str:
        return bucket_arn(self.bucket)

    @property
    def is_empty(self) -> bool:
        return not self.notifications and not self.event_bridge

    def listens(self, event: str) -> bool:
        """Whether somebody wants to hear of an event such as `s3:ObjectCreated:Put` on some key."""
        return self.event_bridge or any(event in EVENTS[name] for one in self.notifications for name in one.events)

    def matching(self, event: str, key: str) -> list[Notification]:
        return [one for one in self.notifications if one.matches(event, key)]


BUCKET_NOTIFICATIONS: Final = RecordKind(
    "bucket_notifications", BucketNotifications, lambda notifications: (notifications.bucket,)
)


def bucket_arn(bucket: str) -> str:
    return f"arn:aws:s3:::{bucket}"


def parse(body: bytes, bucket: str, account_id: str, region: str) -> BucketNotifications:
    """Read and check what PutBucketNotificationConfiguration was sent; whether destinations exist is not looked at.

    Raises MalformedXML, MaxMessageLengthExceeded, and InvalidArgument in S3's words.
    """
    root = read(body)
    if root.tag != "NotificationConfiguration":
        raise MalformedXML
    notifications: list[Notification] = []
    event_bridge = False
    for element in root:
        if element.tag == _EVENT_BRIDGE:
            event_bridge = True
        else:
            notifications.append(_notification(element))
    _check(notifications, region)
    return BucketNotifications(bucket, account_id, region, tuple(notifications), event_bridge)


def render(configuration: BucketNotifications | None) -> bytes:
    """What GetBucketNotificationConfiguration answers."""
    root = Element("NotificationConfiguration", xmlns=NAMESPACE)
    if configuration is None:
        return write(root)
    for kind in Kind:
        for notification in configuration.notifications:
            if notification.kind is kind:
                _render_notification(root, notification)
    if configuration.event_bridge:
        SubElement(root, _EVENT_BRIDGE)
    return write(root)


def _render_notification(root: Element, notification: Notification) -> None:
    element = SubElement(root, notification.kind.value)
    SubElement(element, "Id").text = notification.id
    SubElement(element, notification.argument).text = notification.arn
    for event in notification.events:
        SubElement(element, "Event").text = event
    if notification.rules:
        key = SubElement(SubElement(element, "Filter"), "S3Key")
        for rule in notification.rules:
            rule_element = SubElement(key, "FilterRule")
            SubElement(rule_element, "Name").text = rule.name
            SubElement(rule_element, "Value").text = rule.value


def _notification(element: Element) -> Notification:
    kind = next((kind for kind in Kind if kind.value == element.tag), None)
    if kind is None:
        raise MalformedXML
    if {child.tag for child in element} - {"Id", _ARN_ELEMENTS[kind], "Event", "Filter", _DEPRECATED}:
        raise MalformedXML
    arn = text_of(element, _ARN_ELEMENTS[kind])
    events = tuple(child.text or "" for child in element.findall("Event"))
    if arn is None or not events:
        raise MalformedXML
    identifier = text_of(element, "Id") or base64.b64encode(secrets.token_bytes(_ID_OCTETS)).decode("ascii")
    return Notification(identifier, kind, arn, events, tuple(_rules(element)))


def _rules(element: Element) -> Iterator[FilterRule]:
    for rule in element.findall("Filter/S3Key/FilterRule"):
        name, value = text_of(rule, "Name"), text_of(rule, "Value")
        if name is None or value is None:
            raise MalformedXML
        if name.capitalize() not in (PREFIX, SUFFIX):
            raise InvalidArgument(
                "filter rule name must be either prefix or suffix", ArgumentName="FilterRule.Name", ArgumentValue=name
            )
        yield FilterRule(name.capitalize(), value)


def _check(notifications: Sequence[Notification], region: str) -> None:
    if len(notifications) > CONFIGURATIONS_MAX:
        raise InvalidArgument(
            f"The number of notification configurations exceeds the allowed limit of {CONFIGURATIONS_MAX}"
        )
    for notification in notifications:
        _check_notification(notification, region)
    if len({notification.id for notification in notifications}) < len(notifications):
        raise InvalidArgument("Same ID used for multiple configurations. IDs must be unique.")
    for one, other in combinations(notifications, 2):
        _check_overlap(one, other)


def _check_notification(notification: Notification, region: str) -> None:
    if len(notification.id) > ID_CHARACTERS:
        raise InvalidArgument(f"ID length exceeded allowed limit of {ID_CHARACTERS}")
    for event in notification.events:
        if event not in EVENTS:
            raise InvalidArgument(
                "The event is not supported for notifications", ArgumentName="Event", ArgumentValue=event
            )
    arn = _ARN.fullmatch(notification.arn)
    if arn is None or arn["service"] != _SERVICES[notification.kind]:
        raise InvalidArgument(
            "The ARN is not well formed", ArgumentName=notification.argument, ArgumentValue=notification.arn
        )
    if arn["region"] != region:
        raise InvalidArgument(
            "The notification destination service region is not valid for the bucket location constraint",
            ArgumentName=notification.argument,
            ArgumentValue=notification.arn,
        )
    for name in (PREFIX, SUFFIX):
        values = [rule.value for rule in notification.rules if rule.name == name]
        if len(values) > 1:
            raise InvalidArgument(f"Cannot specify more than one {name.lower()} rule in a filter.")
        if any(len(value.encode()) > FILTER_VALUE_BYTES for value in values):
            raise InvalidArgument(
                f"Size of filter rule value cannot exceed {FILTER_VALUE_BYTES} bytes in UTF-8 representation"
            )


def _check_overlap(one: Notification, other: Notification) -> None:
    """One event may match one configuration only, whatever the key.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-how-to-filtering.html
    """
    if not _occurring(one.events) & _occurring(other.events):
        return
    prefixes, suffixes = ((one.filter(name), other.filter(name)) for name in (PREFIX, SUFFIX))
    if not (prefixes[0].startswith(prefixes[1]) or prefixes[1].startswith(prefixes[0])):
        return
    if not (suffixes[0].endswith(suffixes[1]) or suffixes[1].endswith(suffixes[0])):
        return
    if one.rules or other.rules:
        raise InvalidArgument(
            "Configuration is ambiguously defined. Cannot have overlapping suffixes in two rules if the prefixes are "
            "overlapping for the same event type."
        )
    raise InvalidArgument(
        "Configurations overlap. Configurations on the same bucket cannot share a common event type.",
        ArgumentName="Event",
        ArgumentValue=", ".join((*one.events, *other.events)),
    )


def _occurring(events: Iterable[str]) -> set[str]:
    return set().union(*(EVENTS[event] for event in events))


def invalid_destinations(reasons: Sequence[tuple[Notification, str]]) -> InvalidArgument:
    """What S3 answers when destinations do not exist or do not let it in: each by its ARN, with the reason."""
    fields: dict[str, str] = {}
    for number, (notification, reason) in enumerate(reasons, 1):
        name = f"{notification.arn}, null" if notification.kind is Kind.FUNCTION else notification.arn
        fields |= {f"ArgumentName{number}": name, f"ArgumentValue{number}": reason}
    return InvalidArgument("Unable to validate the following destination configurations", **fields)
