"""What requests to SNS ask and its answers tell, as far as deliveries need it: SNS has the query protocol alone.

https://docs.aws.amazon.com/sns/latest/api/API_Publish.html, API_PublishBatch.html and API_Subscribe.html. The service
has taken the requests already, so nothing is validated here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl
from xml.etree import ElementTree

PUBLISH: Final = "Publish"
PUBLISH_BATCH: Final = "PublishBatch"
SUBSCRIBE: Final = "Subscribe"

_BINARY: Final = "Binary"


@dataclass(frozen=True, slots=True)
class MessageAttribute:
    """A message attribute: `type` is String, String.Array, Number or Binary, each perhaps with a label after a dot."""

    type: str
    value: str
    """Text; of Binary in base64."""

    @property
    def is_binary(self) -> bool:
        return self.type.partition(".")[0] == _BINARY


@dataclass(frozen=True, slots=True)
class Publication:
    """One message as its publisher has sent it."""

    target_arn: str
    """A topic, or the endpoint of a mobile application; empty for a telephone number."""
    message: str
    subject: str | None = None
    structured: bool = False
    """Whether the message is a JSON object with a text for each protocol."""
    attributes: Mapping[str, MessageAttribute] = field(default_factory=dict)
    group_id: str = ""
    deduplication_id: str = ""
    entry_id: str = ""
    """Of a batch."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What SNS has answered for a message: `sequence_number` is empty unless the topic is FIFO."""

    message_id: str
    sequence_number: str


def form(query: str, body: bytes) -> Mapping[str, str]:
    """The parameters of a request, in its query or its body."""
    pairs = parse_qsl(query, keep_blank_values=True)
    pairs += parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True)
    return dict(pairs)


def publications(fields: Mapping[str, str]) -> Sequence[Publication]:
    """The messages of a Publish or PublishBatch, in order."""
    tree = _tree(fields)
    if fields.get("Action") != PUBLISH_BATCH:
        return [_publication(tree, tree.get("TargetArn") or tree.get("TopicArn") or "")]
    entries = _members(tree.get("PublishBatchRequestEntries"), "member")
    return [_publication(entry, tree.get("TopicArn") or "") for entry in entries]


def receipts(body: bytes) -> Mapping[str, Receipt]:
    """The receipts in the answer to a Publish, under an empty id, or to a PublishBatch, by the ids of its entries.

    Entries that have failed are not in it.
    """
    if body.lstrip().startswith(b"{"):  # a client that has sent ContentType=JSON
        return _json_receipts(json.loads(body))
    root = ElementTree.fromstring(body)
    found = {}
    for each in root.iter():
        members = {_local(child.tag): child.text or "" for child in each}
        if "MessageId" in members:
            found[members.get("Id", "")] = Receipt(members["MessageId"], members.get("SequenceNumber", ""))
    return found


def _json_receipts(document: Mapping[str, Any]) -> Mapping[str, Receipt]:
    found = {}
    waiting: list[Any] = [document]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if "MessageId" in value:
                found[value.get("Id") or ""] = Receipt(value["MessageId"], value.get("SequenceNumber") or "")
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
    return found


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]


def _publication(tree: Mapping[str, Any], target_arn: str) -> Publication:
    return Publication(
        target_arn=target_arn,
        message=tree.get("Message", ""),
        subject=tree.get("Subject"),
        structured=tree.get("MessageStructure") == "json",
        attributes={
            entry["Name"]: _attribute(entry.get("Value", {}))
            for entry in _members(tree.get("MessageAttributes"), "entry")
        },
        group_id=tree.get("MessageGroupId", ""),
        deduplication_id=tree.get("MessageDeduplicationId", ""),
        entry_id=tree.get("Id", ""),
    )


def _attribute(value: Mapping[str, str]) -> MessageAttribute:
    return MessageAttribute(value.get("DataType", ""), value.get("StringValue") or value.get("BinaryValue") or "")


def _members(tree: Any, name: str) -> list[Mapping[str, Any]]:
    """The members of a list or the entries of a map, which are numbered from 1."""
    numbered = tree.get(name) if isinstance(tree, dict) else None
    if not isinstance(numbered, dict):
        return []
    return [each for _, each in sorted(numbered.items(), key=_number) if isinstance(each, dict)]


def _number(item: tuple[str, Any]) -> int:
    return int(item[0]) if item[0].isdecimal() else 0


def _tree(fields: Mapping[str, str]) -> dict[str, Any]:
    """`a.b.1=x` as an object in an object: `{"a": {"b": {"1": "x"}}}`."""
    root: dict[str, Any] = {}
    for path, value in fields.items():
        *parents, last = path.split(".")
        node = root
        for parent in parents:
            inner = node.setdefault(parent, {})
            if not isinstance(inner, dict):
                break
            node = inner
        else:
            node[last] = value
    return root
