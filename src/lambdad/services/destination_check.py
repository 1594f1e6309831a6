"""Whether a destination or dead-letter queue is there, asked when it is configured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lambdad.domain import destinations
from lambdad.domain.arns import FunctionKey, FunctionReference
from lambdad.domain.destinations import Destination
from lambdad.domain.errors import (
    InvalidParameterValueException,
    ResourceNotFoundException,
    ServiceException,
)
from lambdad.domain.events import Purpose
from lambdad.domain.functions import FunctionVersion
from lambdad.ports.neighbours import NeighbourRefused, Neighbours, NeighbourUnavailable
from lambdad.ports.store import Store, Tables
from lambdad.services.references import find_version


class DestinationCheck:
    """Looks for the target. This is `lambdad.ports.destinations.DestinationCheck`.

    With access control it will also ask whether the execution role may send there: sqs:SendMessage, sns:Publish,
    events:PutEvents, s3:PutObject or lambda:InvokeFunction. Functions are found in their own account only.
    """

    def __init__(self, neighbours: Neighbours, store: Store) -> None:
        self._neighbours = neighbours
        self._store = store

    async def check(self, version: FunctionVersion, destination: Destination, purpose: Purpose) -> None:
        """Let a target pass that exists.

        Raises InvalidParameterValueException when it does not, or when its service has no endpoint, and
        ServiceException when the service does not answer: then the same request may succeed later.
        """
        if destination.service == destinations.LAMBDA:
            exists = await self._function_exists(version.key.account_id, destination)
        else:
            exists = await self._neighbour_has(version.key, destination)
        if exists:
            return
        if purpose is Purpose.DEAD_LETTER:
            raise InvalidParameterValueException(f"Invalid dead letter ARN: {destination.arn} does not exist")
        raise destinations.invalid(destination.arn)

    async def _function_exists(self, account_id: str, destination: Destination) -> bool:
        key = FunctionKey(destination.account_id, destination.region, destination.name)

        def work(tables: Tables) -> bool:
            try:
                find_version(tables, FunctionReference(key, destination.qualifier))
            except ResourceNotFoundException:
                return False
            return True

        return key.account_id == account_id and await self._store.read(work)

    async def _neighbour_has(self, asking: FunctionKey, destination: Destination) -> bool:
        service = destination.service
        if not self._neighbours.has(service):
            raise InvalidParameterValueException(
                f"lambdad cannot look for {destination.arn}: it knows no endpoint of {service}. "
                f"Start it with --neighbour {service}=URL."
            )
        operation, parameters = _question(destination)
        region = destination.region or asking.region  # a bucket's ARN has none
        try:
            await self._neighbours.call(service, operation, parameters, account_id=asking.account_id, region=region)
        except NeighbourRefused:
            return False
        except NeighbourUnavailable as error:
            raise ServiceException(f"lambdad cannot look for {destination.arn}: {error}") from error
        return True


def _question(destination: Destination) -> tuple[str, Mapping[str, Any]]:
    """The operation that fails when the target does not exist, and its parameters."""
    match destination.service:
        case destinations.SQS:
            return "GetQueueUrl", {
                "QueueName": destination.name,
                "QueueOwnerAWSAccountId": destination.account_id,
            }
        case destinations.SNS:
            return "GetTopicAttributes", {"TopicArn": destination.arn}
        case destinations.EVENTS:
            return "DescribeEventBus", {"Name": destination.arn}
        case _:
            return "HeadBucket", {"Bucket": destination.name}
