"""The services beside Lambda in memory, for tests: the operations that lambdad calls, on targets that it is told of."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from lambdad.ports.neighbours import NeighbourRefused, NeighbourUnavailable

SERVICES: Final = ("events", "s3", "sns", "sqs")
_QUEUE_URL: Final = "memory://sqs/"


@dataclass(frozen=True, slots=True)
class NeighbourCall:
    """One call, as it was made."""

    service: str
    operation: str
    parameters: Mapping[str, Any]
    account_id: str
    region: str
    trace: str


class MemoryNeighbours:
    """`Neighbours` with targets by ARN. Calls are kept in `calls`; when `failure` is set, it is raised by each."""

    def __init__(self, targets: Iterable[str] = (), services: Iterable[str] = SERVICES) -> None:
        self.targets = set(targets)
        self.calls: list[NeighbourCall] = []
        self.failure: NeighbourUnavailable | NeighbourRefused | None = None
        self._endpoints = {service: f"memory://{service}" for service in services}
        self._operations: Mapping[str, Callable[[NeighbourCall], Mapping[str, Any]]] = {
            "GetQueueUrl": self._get_queue_url,
            "SendMessage": self._send_message,
            "GetTopicAttributes": self._get_topic_attributes,
            "Publish": self._publish,
            "DescribeEventBus": self._describe_event_bus,
            "PutEvents": self._put_events,
            "HeadBucket": self._head_bucket,
            "PutObject": self._put_object,
        }
        self._closed = False

    def has(self, service: str) -> bool:
        return service in self._endpoints

    def describe(self) -> Mapping[str, str]:
        return dict(self._endpoints)

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
        await asyncio.sleep(0)  # as the real ones do, let others run first
        if service not in self._endpoints or self._closed:
            raise NeighbourUnavailable(f"{service} has no endpoint")
        call = NeighbourCall(service, operation, parameters, account_id, region, trace)
        self.calls.append(call)
        if self.failure is not None:
            raise self.failure
        return self._operations[operation](call)

    async def close(self) -> None:
        self._closed = True

    def _get_queue_url(self, call: NeighbourCall) -> Mapping[str, Any]:
        owner = call.parameters.get("QueueOwnerAWSAccountId", call.account_id)
        arn = f"arn:aws:sqs:{call.region}:{owner}:{call.parameters['QueueName']}"
        self._require(arn, "AWS.SimpleQueueService.NonExistentQueue", 400)
        return {"QueueUrl": _QUEUE_URL + arn}

    def _send_message(self, call: NeighbourCall) -> Mapping[str, Any]:
        arn = call.parameters["QueueUrl"].removeprefix(_QUEUE_URL)
        self._require(arn, "AWS.SimpleQueueService.NonExistentQueue", 400)
        return {"MessageId": "1"}

    def _get_topic_attributes(self, call: NeighbourCall) -> Mapping[str, Any]:
        self._require(call.parameters["TopicArn"], "NotFound", 404)
        return {"Attributes": {"TopicArn": call.parameters["TopicArn"]}}

    def _publish(self, call: NeighbourCall) -> Mapping[str, Any]:
        self._require(call.parameters["TopicArn"], "NotFound", 404)
        return {"MessageId": "1"}

    def _describe_event_bus(self, call: NeighbourCall) -> Mapping[str, Any]:
        self._require(call.parameters["Name"], "ResourceNotFoundException", 400)
        return {"Arn": call.parameters["Name"]}

    def _put_events(self, call: NeighbourCall) -> Mapping[str, Any]:
        for entry in call.parameters["Entries"]:
            self._require(entry["EventBusName"], "ResourceNotFoundException", 400)
        return {"FailedEntryCount": 0, "Entries": [{"EventId": "1"} for _ in call.parameters["Entries"]]}

    def _head_bucket(self, call: NeighbourCall) -> Mapping[str, Any]:
        self._require(f"arn:aws:s3:::{call.parameters['Bucket']}", "404", 404)
        return {}

    def _put_object(self, call: NeighbourCall) -> Mapping[str, Any]:
        self._require(f"arn:aws:s3:::{call.parameters['Bucket']}", "NoSuchBucket", 404)
        return {"ETag": '"1"'}

    def _require(self, arn: str, code: str, status: int) -> None:
        if arn not in self.targets:
            raise NeighbourRefused(code, f"{arn} does not exist.", status)
