"""The AWS services beside Lambda, for tests: moto's server in a process of its own."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
import urllib.request
from types import TracebackType
from typing import Any

import boto3
from botocore.config import Config

from lambdad.domain.settings import NeighbourEndpoint

ACCOUNT_ID = "000000000000"
REGION = "us-east-1"
SERVICES = ("events", "s3", "sns", "sqs")
STOP_TIMEOUT_S = 10.0
POLL_S = 0.05


class MotoServer:
    """A context manager. All that is in it belongs to `ACCOUNT_ID`, lambdad's default account, whoever asks."""

    def __init__(self) -> None:
        self.url = ""
        self._process: subprocess.Popen[str] | None = None

    @property
    def options(self) -> tuple[str, ...]:
        """Those of `lambdad start` that lead here."""
        return tuple(part for service in SERVICES for part in ("--neighbour", f"{service}={self.url}"))

    @property
    def endpoints(self) -> dict[str, NeighbourEndpoint]:
        return dict.fromkeys(SERVICES, NeighbourEndpoint(self.url))

    def client(self, service: str, region: str = REGION) -> Any:
        """A boto3 client of this server."""
        session = boto3.session.Session(ACCOUNT_ID, "secret", region_name=region)
        config = Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}, proxies={})
        return session.client(service, endpoint_url=self.url, config=config)

    def reset(self) -> None:
        """Forget everything."""
        request = urllib.request.Request(f"{self.url}/moto-api/reset", method="POST")
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=STOP_TIMEOUT_S) as answer:
            assert json.load(answer) == {"status": "ok"}

    def queue(self, name: str) -> Queue:
        """A new queue."""
        return Queue(self.client("sqs"), name)

    def topic_with_queue(self, name: str) -> tuple[str, Queue]:
        """A new topic, its ARN, and a queue that gets its messages."""
        queue, sns = self.queue(f"{name}-subscriber"), self.client("sns")
        arn = sns.create_topic(Name=name)["TopicArn"]
        sns.subscribe(TopicArn=arn, Protocol="sqs", Endpoint=queue.arn)
        return arn, queue

    def event_bus_with_queue(self, name: str) -> tuple[str, Queue]:
        """A new event bus, its ARN, and a queue that gets the events of lambda."""
        queue, events = self.queue(f"{name}-subscriber"), self.client("events")
        arn = events.create_event_bus(Name=name)["EventBusArn"]
        pattern = json.dumps({"source": ["lambda"]})
        events.put_rule(Name=f"{name}-rule", EventBusName=name, EventPattern=pattern)
        events.put_targets(Rule=f"{name}-rule", EventBusName=name, Targets=[{"Id": "queue", "Arn": queue.arn}])
        return arn, queue

    def start(self) -> MotoServer:
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "MOTO_"))}
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            env={**environ, "MOTO_ACCOUNT_ID": ACCOUNT_ID},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        assert self.url, f"moto's server has ended: exit status {self._process.wait()}"
        return self

    def stop(self) -> None:
        assert self._process is not None
        try:
            self._process.communicate(timeout=STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
            raise

    def __enter__(self) -> MotoServer:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class Queue:
    """A queue of the server, and what has come to it."""

    def __init__(self, sqs: Any, name: str) -> None:
        self._sqs = sqs
        self.url = sqs.create_queue(QueueName=name)["QueueUrl"]
        attributes = sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=["QueueArn"])["Attributes"]
        self.arn = str(attributes["QueueArn"])

    def take(self) -> list[dict[str, Any]]:
        """The messages that are there now, with all their attributes; they are gone then."""
        messages = self._sqs.receive_message(
            QueueUrl=self.url,
            MaxNumberOfMessages=10,
            MessageAttributeNames=["All"],
            MessageSystemAttributeNames=["All"],
        ).get("Messages", [])
        for message in messages:
            self._sqs.delete_message(QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"])
        return list(messages)

    def await_messages(self, count: int, timeout_s: float = 30.0) -> list[dict[str, Any]]:
        """Wait until so many messages have come, and take them."""
        deadline = time.monotonic() + timeout_s
        messages = self.take()
        while len(messages) < count:
            assert time.monotonic() < deadline, f"{len(messages)} messages of {count} have come: {messages}"
            time.sleep(POLL_S)
            messages += self.take()
        return messages

    def bodies(self, count: int) -> list[Any]:
        """The bodies of so many messages, when they have come, as the JSON that they are."""
        return [json.loads(message["Body"]) for message in self.await_messages(count)]


def serve() -> None:
    """Be the server until the standard input ends, as it does with the process of the tests."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    print(f"http://127.0.0.1:{port}", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    serve()
