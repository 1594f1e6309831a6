"""The URLs of queues, which SQS wants instead of their ARNs."""

from __future__ import annotations

from typing import Final

from lambdad.ports.neighbours import Neighbours, NeighbourUnavailable

QUEUE_URLS: Final = 1024
"""Queues whose URLs are remembered."""


class QueueUrls:
    """Asks SQS once for each queue."""

    def __init__(self, neighbours: Neighbours) -> None:
        self._neighbours = neighbours
        self._urls: dict[str, str] = {}

    async def find(self, arn: str, account_id: str, trace: str = "") -> tuple[str, str]:
        """The URL of a queue, asked for on behalf of an account, and the queue's region.

        Raises NeighbourUnavailable and NeighbourRefused.
        """
        _, _, _, region, owner, name = arn.split(":", 5)
        url = self._urls.get(arn)
        if url is None:
            parameters = {"QueueName": name, "QueueOwnerAWSAccountId": owner}
            answer = await self._neighbours.call(
                "sqs", "GetQueueUrl", parameters, account_id=account_id, region=region, trace=trace
            )
            url = str(answer.get("QueueUrl") or "")
            if not url:
                raise NeighbourUnavailable("sqs did not answer GetQueueUrl as AWS does: there is no QueueUrl")
            if len(self._urls) >= QUEUE_URLS:
                del self._urls[next(iter(self._urls))]
            self._urls[arn] = url
        return url, region

    def forget(self, arn: str) -> None:
        """The queue has refused: it may be another by now."""
        self._urls.pop(arn, None)
