"""SQS's long polling, against the real process: it waits, and nobody waits for it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pytest

from lambdad_neighbours.long_polling import LongPolling, Queue
from unit.neighbours.child_process import ACCOUNT_ID, HOST, REGION, Child, Connection

# What a poll takes beyond the moment at which a message is there, on a machine with much else to do.
SLACK_S = 10.0
QUEUE = Queue(ACCOUNT_ID, REGION, "q")


@pytest.fixture(scope="module")
def child(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Child]:
    with Child(tmp_path_factory.mktemp("polling")) as child:
        yield child


class Poll(threading.Thread):
    """A ReceiveMessage that waits."""

    def __init__(self, child: Child, queue: str, **parameters: Any) -> None:
        super().__init__()
        self._receive = child.client("sqs").receive_message
        self._parameters = {"QueueUrl": queue, **parameters}
        self.messages: list[str] = []
        self.took_s = 0.0

    def run(self) -> None:
        begun = time.monotonic()
        answer = self._receive(**self._parameters)
        self.took_s = time.monotonic() - begun
        self.messages = [each["Body"] for each in answer.get("Messages", [])]


def begun(child: Child, poll: Poll) -> Poll:
    """Started, and its first look is over: a request of ours that comes after it has been answered."""
    before = child.status()["services"]["sqs"]["requests"]
    poll.start()
    while child.status()["services"]["sqs"]["requests"] == before:
        time.sleep(0.001)
    return poll


def test_a_message_ends_the_wait(child: Child) -> None:
    sqs = child.client("sqs")
    queue = sqs.create_queue(QueueName="woken")["QueueUrl"]
    poll = begun(child, Poll(child, queue, WaitTimeSeconds=20))
    sqs.send_message(QueueUrl=queue, MessageBody="hello")
    poll.join()
    assert poll.messages == ["hello"]
    assert poll.took_s < SLACK_S


def test_it_ends_empty_when_the_time_is_over(child: Child) -> None:
    queue = child.client("sqs").create_queue(QueueName="silent")["QueueUrl"]
    poll = Poll(child, queue, WaitTimeSeconds=1)
    poll.start()
    poll.join()
    assert poll.messages == []
    assert 1 <= poll.took_s < 1 + SLACK_S


def test_the_queue_says_how_long(child: Child) -> None:
    sqs = child.client("sqs")
    attributes = {"ReceiveMessageWaitTimeSeconds": "1"}
    queue = sqs.create_queue(QueueName="patient", Attributes=attributes)["QueueUrl"]
    poll = Poll(child, queue)
    poll.start()
    poll.join()
    assert 1 <= poll.took_s < 1 + SLACK_S
    at_once = Poll(child, queue, WaitTimeSeconds=0)
    at_once.start()
    at_once.join()
    assert at_once.took_s < 1


def test_the_end_of_a_delay_ends_the_wait(child: Child) -> None:
    sqs = child.client("sqs")
    queue = sqs.create_queue(QueueName="delayed")["QueueUrl"]
    poll = begun(child, Poll(child, queue, WaitTimeSeconds=20))
    sqs.send_message(QueueUrl=queue, MessageBody="later", DelaySeconds=1)
    poll.join()
    assert poll.messages == ["later"]
    assert poll.took_s < 1 + SLACK_S


def test_a_poll_of_the_query_protocol_waits_too(child: Child) -> None:
    queue = child.client("sqs").create_queue(QueueName="old-protocol")["QueueUrl"]
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    begun_s = time.monotonic()
    text = f"Action=ReceiveMessage&Version=2012-11-05&WaitTimeSeconds=1&QueueUrl={queue}"
    answer = child.send("POST", "/", "sqs", text.encode(), form)
    assert answer.status == 200
    assert b"<ReceiveMessageResult" in answer.body
    assert time.monotonic() - begun_s >= 1


def test_other_requests_are_answered_meanwhile(child: Child) -> None:
    sqs = child.client("sqs")
    queue = sqs.create_queue(QueueName="busy")["QueueUrl"]
    polls = [begun(child, Poll(child, queue, WaitTimeSeconds=20)) for _ in range(5)]
    begun_s = time.monotonic()
    assert child.client("sts").get_caller_identity()["Account"] == ACCOUNT_ID
    assert time.monotonic() - begun_s < SLACK_S
    for number in range(5):
        sqs.send_message(QueueUrl=queue, MessageBody=str(number))
    for poll in polls:
        poll.join()
    assert sorted(message for poll in polls for message in poll.messages) == ["0", "1", "2", "3", "4"]


def test_a_queue_that_is_deleted_ends_the_wait(child: Child) -> None:
    sqs = child.client("sqs")
    queue = sqs.create_queue(QueueName="short-lived")["QueueUrl"]
    body = f'{{"QueueUrl":"{queue}","WaitTimeSeconds":20}}'.encode()
    headers = {"X-Amz-Target": "AmazonSQS.ReceiveMessage", "Content-Type": "application/x-amz-json-1.0"}
    answers: list[int] = []
    poll = threading.Thread(target=lambda: answers.append(child.send("POST", "/", "sqs", body, headers).status))
    before = child.status()["services"]["sqs"]["requests"]
    poll.start()
    while child.status()["services"]["sqs"]["requests"] == before:
        time.sleep(0.001)
    sqs.delete_queue(QueueUrl=queue)
    poll.join()
    assert answers == [400]


def test_a_client_that_has_gone_takes_no_message(child: Child) -> None:
    sqs = child.client("sqs")
    queue = sqs.create_queue(QueueName="deserted")["QueueUrl"]
    gone = Connection(child.socket)
    before = child.status()["services"]["sqs"]["requests"]
    gone.request(
        "POST",
        "/",
        f'{{"QueueUrl":"{queue}","WaitTimeSeconds":20}}',
        {
            "Host": HOST,
            "x-lambdad-service": "sqs",
            "x-lambdad-account": ACCOUNT_ID,
            "x-lambdad-region": REGION,
            "X-Amz-Target": "AmazonSQS.ReceiveMessage",
            "Content-Type": "application/x-amz-json-1.0",
        },
    )
    while child.status()["services"]["sqs"]["requests"] == before:
        time.sleep(0.001)
    gone.close()
    sqs.send_message(QueueUrl=queue, MessageBody="for somebody")
    (message,) = sqs.receive_message(QueueUrl=queue)["Messages"]
    assert message["Body"] == "for somebody"


def test_looks_only_while_somebody_waits(tmp_path: Path) -> None:
    async def scenario() -> None:
        looks: list[Collection[Queue]] = []

        async def look(queues: Collection[Queue]) -> Collection[Queue]:
            looks.append(queues)
            return queues

        polling = LongPolling(look)
        polling.stir()
        assert await polling.wait(QUEUE, asyncio.get_running_loop().time() + 5, lambda: False)
        assert looks == [[QUEUE]]
        seen = len(looks)
        polling.stir()
        await asyncio.sleep(0)
        assert len(looks) == seen
        assert not await polling.wait(QUEUE, asyncio.get_running_loop().time() + 5, lambda: True)

    asyncio.run(scenario())
