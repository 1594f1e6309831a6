"""What services emit: to functions at once, to other targets through the queue, at last to the dead-letter queue."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from lambdad.adapters.memory_events import MemoryEventStore
from lambdad.adapters.memory_neighbours import MemoryNeighbours
from lambdad.adapters.memory_web import MemoryWeb
from lambdad.domain import quotas
from lambdad.domain.dispatches import HTTP, LAMBDA, DeadLetter, Dispatch, DispatchPolicy
from lambdad.domain.events import Condition, Purpose
from lambdad.domain.resource_policies import Grant
from lambdad.ports.events import Selection
from lambdad.ports.neighbours import NeighbourRefused, NeighbourUnavailable
from lambdad.ports.store import StoreUnavailable
from lambdad.services.asynchronous import AsynchronousInvocations
from lambdad.services.attempts import Attempts
from lambdad.services.deliveries import Deliveries
from lambdad.services.dispatch_attempts import DispatchAttempts
from lambdad.services.dispatcher import Dispatcher
from lambdad.services.event_queue import EventQueue, QueueLimits
from unit.services.fakes import KEY, World, reference

ACCOUNT, REGION = "000000000000", "us-east-1"
RULE = f"arn:aws:events:{REGION}:{ACCOUNT}:rule/nightly"
QUEUE = f"arn:aws:sqs:eu-west-1:{ACCOUNT}:q"
FIFO = f"{QUEUE}.fifo"
LETTERS = f"arn:aws:sqs:{REGION}:{ACCOUNT}:letters"
TOPIC = f"arn:aws:sns:{REGION}:{ACCOUNT}:t"
URL = "https://example.com/hook"
HOUR_MS = 3_600_000
LETTER = DeadLetter(
    LETTERS,
    "the event",
    {"RULE_ARN": {"DataType": "String", "StringValue": RULE}},
    {name: name for name in ("ERROR_CODE", "ERROR_MESSAGE", "EXHAUSTED_RETRY_CONDITION", "RETRY_ATTEMPTS")},
)


def dispatch(target: str = QUEUE, **fields: Any) -> Dispatch:
    defaults: dict[str, Any] = {
        "service": "sqs",
        "operation": "SendMessage",
        "parameters": {"MessageBody": "hello"},
        "source": RULE,
        "principal": "events.amazonaws.com",
        "account_id": ACCOUNT,
        "region": REGION,
        "policy": DispatchPolicy(max_attempts=3, max_age_ms=HOUR_MS),
    }
    return Dispatch(target=target, **{**defaults, **fields})


def to_function(**fields: Any) -> Dispatch:
    return dispatch(KEY.arn, service=LAMBDA, operation="", parameters={"Payload": '{"n":1}'}, **fields)


class Sending(World):
    """A world whose queue sends dispatches."""

    def __init__(self) -> None:
        super().__init__()
        self.neighbours = MemoryNeighbours([QUEUE, FIFO, LETTERS, TOPIC])
        self.web = MemoryWeb()
        self.events = MemoryEventStore()
        deliveries = Deliveries(self.neighbours)
        dispatches = DispatchAttempts(self.neighbours, self.web, self.clock, 1.0)
        attempts = Attempts(
            self.invoke, deliveries, dispatches, self.metrics, self.clock, 1.0, quotas.ASYNC_REQUEST_BYTES
        )
        self.queue = EventQueue(self.events, attempts, self.clock, QueueLimits(4, 100, 1.0))
        invocations = AsynchronousInvocations(
            self.queue, self.invoke, self.metrics, self.clock, quotas.ASYNC_REQUEST_BYTES
        )
        self.dispatcher = Dispatcher(self.queue, invocations, self.permissions, self.clock)

    async def settle(self) -> None:
        for _ in range(40):
            await self.clock.advance(0)

    async def permit(self) -> None:
        request = Grant("s", "lambda:InvokeFunction", "events.amazonaws.com", source_arn=RULE)
        await self.permissions.add(reference(), request, None)

    def sent(self, operation: str = "SendMessage") -> list[dict[str, Any]]:
        return [dict(call.parameters) for call in self.neighbours.calls if call.operation == operation]

    def letters(self) -> list[dict[str, Any]]:
        return [message for message in self.sent() if message["QueueUrl"].endswith(LETTERS)]

    async def ended(self) -> list[Condition | None]:
        return [row.condition for row in await self.events.rows(Selection(), dead=True, limit=10)]


def scenario(test: Callable[[Sending], Awaitable[None]]) -> Callable[[], None]:
    def run() -> None:
        async def inside() -> None:
            world = Sending()
            await test(world)
            await world.queue.close()

        asyncio.run(inside())

    run.__name__ = test.__name__
    return run


def told(message: dict[str, Any]) -> dict[str, str]:
    return {name: value["StringValue"] for name, value in message["MessageAttributes"].items()}


# Functions


@scenario
async def test_a_function_that_lets_the_source_in_is_invoked(w: Sending) -> None:
    await w.create()
    await w.permit()
    await w.dispatcher.accept([to_function()])
    await w.settle()
    assert w.host.ran == ["$LATEST"]


@scenario
async def test_a_function_that_does_not_is_not_and_the_dead_letter_queue_is_told(w: Sending) -> None:
    await w.create()
    await w.dispatcher.accept([to_function(dead_letter=LETTER), to_function()])
    await w.settle()
    assert w.host.ran == []
    (letter,) = w.letters()
    assert letter["MessageBody"] == "the event"
    assert told(letter) == {
        "RULE_ARN": RULE,
        "ERROR_CODE": "NO_PERMISSIONS",
        "ERROR_MESSAGE": f"The resource policy of {KEY.arn} does not allow events.amazonaws.com to invoke it",
        "RETRY_ATTEMPTS": "0",
    }


@pytest.mark.parametrize(("account", "ran"), [(ACCOUNT, ["$LATEST"]), ("222222222222", [])])
def test_a_function_may_let_in_one_account(account: str, ran: list[str]) -> None:
    async def inside(w: Sending) -> None:
        await w.create()
        grant = Grant("s", "lambda:InvokeFunction", "events.amazonaws.com", source_account=account)
        await w.permissions.add(reference(), grant, None)
        await w.dispatcher.accept([to_function()])
        await w.settle()
        assert w.host.ran == ran

    scenario(inside)()


@scenario
async def test_a_role_of_the_account_needs_no_permission(w: Sending) -> None:
    await w.create()
    await w.dispatcher.accept([to_function(principal="")])
    await w.settle()
    assert w.host.ran == ["$LATEST"]


@scenario
async def test_a_role_of_the_account_is_kept_out_by_a_denial(w: Sending) -> None:
    await w.create()
    denial = {"Effect": "Deny", "Principal": "*", "Action": "lambda:InvokeFunction", "Resource": KEY.arn}
    await w.permissions.put(reference(), json.dumps({"Statement": denial}), None)
    await w.dispatcher.accept([to_function(principal="", dead_letter=LETTER)])
    await w.settle()
    assert w.host.ran == []
    assert len(w.letters()) == 1


@pytest.mark.parametrize("principal", ["", "events.amazonaws.com"])
def test_a_function_that_is_gone_is_no_resource(principal: str) -> None:
    async def inside(w: Sending) -> None:
        await w.dispatcher.accept([to_function(principal=principal, dead_letter=LETTER)])
        await w.settle()
        assert told(w.letters()[0])["ERROR_CODE"] == "NO_RESOURCE"

    scenario(inside)()


@scenario
async def test_marks_are_written_with_the_dispatches_or_neither_is(w: Sending) -> None:
    await w.create()
    await w.permit()
    w.events.failure = StoreUnavailable("full")
    with pytest.raises(StoreUnavailable):
        await w.dispatcher.accept([to_function(), dispatch()], marks={"rule/a": 7})
    w.events.failure = None
    assert await w.dispatcher.marks("rule/") == {}
    await w.dispatcher.accept([to_function(), dispatch()], marks={"rule/a": 7})
    await w.dispatcher.accept([], marks={"rule/b": 9})
    await w.settle()
    assert w.host.ran == ["$LATEST"]
    assert len(w.sent()) == 1
    assert await w.dispatcher.marks("rule/") == {"rule/a": 7, "rule/b": 9}
    await w.dispatcher.forget_mark("rule/a")
    assert await w.dispatcher.marks("rule/") == {"rule/b": 9}


# Other targets


@scenario
async def test_a_message_goes_to_the_queue_in_its_own_region_with_the_trace(w: Sending) -> None:
    await w.dispatcher.accept([dispatch()], trace="Root=1")
    await w.settle()
    asked, sent = w.neighbours.calls
    assert (asked.operation, asked.region) == ("GetQueueUrl", "eu-west-1")
    assert (sent.operation, sent.region, sent.trace) == ("SendMessage", "eu-west-1", "Root=1")
    assert sent.parameters["MessageBody"] == "hello"
    assert sent.parameters["MessageSystemAttributes"]["AWSTraceHeader"]["StringValue"] == "Root=1"


@scenario
async def test_bytes_survive_the_queue(w: Sending) -> None:
    attributes = {"a": {"DataType": "Binary", "BinaryValue": b"\x00\xff"}}
    await w.dispatcher.accept([dispatch(parameters={"MessageBody": "m", "MessageAttributes": attributes})])
    await w.settle()
    assert w.sent()[0]["MessageAttributes"] == attributes


@scenario
async def test_a_target_that_refuses_is_not_asked_again(w: Sending) -> None:
    w.neighbours.targets.discard(QUEUE)
    await w.dispatcher.accept([dispatch(dead_letter=LETTER)])
    await w.settle()
    assert [call.operation for call in w.neighbours.calls][:1] == ["GetQueueUrl"]
    assert told(w.letters()[0])["ERROR_CODE"] == "NO_RESOURCE"
    assert await w.ended() == [Condition.REFUSED]


@scenario
async def test_a_target_that_does_not_answer_is_tried_as_often_as_the_policy_says(w: Sending) -> None:
    w.neighbours.failure = NeighbourUnavailable("sns does not answer")
    topic = dispatch(TOPIC, service="sns", operation="Publish", parameters={"TopicArn": TOPIC, "Message": "m"})
    await w.dispatcher.accept([replace(topic, dead_letter=LETTER)])
    for _ in range(2):
        await w.settle()
        await w.clock.advance(2.5)
    w.neighbours.failure = None
    await w.clock.advance(2.0)
    await w.settle()
    (row,) = await w.events.rows(Selection(), dead=True, limit=10)
    assert (row.condition, row.backoffs) == (Condition.RETRIES_EXHAUSTED, 3)
    assert told(w.letters()[0]) == {
        "RULE_ARN": RULE,
        "ERROR_CODE": "ERROR_FROM_TARGET",
        "ERROR_MESSAGE": "sns does not answer",
        "EXHAUSTED_RETRY_CONDITION": "MaximumRetryAttempts",
        "RETRY_ATTEMPTS": "2",
    }


@scenario
async def test_a_fault_of_ours_counts_as_one_of_the_target(w: Sending) -> None:
    parameters = {"Entries": []}  # an operation that these neighbours do not have raises KeyError
    once = DispatchPolicy(max_attempts=1, max_age_ms=HOUR_MS)
    bus = f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:m"
    await w.dispatcher.accept(
        [dispatch(bus, service="sns", operation="None", parameters=parameters, policy=once, dead_letter=LETTER)]
    )
    await w.settle()
    assert await w.ended() == [Condition.RETRIES_EXHAUSTED]
    assert told(w.letters()[0])["ERROR_CODE"] == "ERROR_FROM_TARGET"


@scenario
async def test_a_dispatch_ends_at_the_age_that_its_policy_says(w: Sending) -> None:
    w.neighbours.failure = NeighbourUnavailable("sqs does not answer")
    await w.dispatcher.accept([dispatch(policy=DispatchPolicy(1000, 60_000), dead_letter=LETTER)])
    for _ in range(6):
        await w.settle()
        await w.clock.advance(10.5)
    w.neighbours.failure = None
    await w.settle()
    await w.clock.advance(300.0)
    await w.settle()
    assert await w.ended() == [Condition.EVENT_AGE_EXCEEDED]
    assert told(w.letters()[0])["EXHAUSTED_RETRY_CONDITION"] == "MaximumEventAgeInSeconds"


@scenario
async def test_what_goes_to_a_fifo_queue_keeps_its_order_over_failures(w: Sending) -> None:
    w.neighbours.failure = NeighbourUnavailable("sqs does not answer")
    for number in range(5):
        await w.dispatcher.accept([dispatch(FIFO, parameters={"MessageBody": str(number)})])
    await w.settle()
    w.neighbours.failure = None
    await w.clock.advance(5.0)
    await w.settle()
    assert [message["MessageBody"] for message in w.sent()] == ["0", "1", "2", "3", "4"]


@scenario
async def test_what_is_accepted_together_for_a_fifo_queue_keeps_its_order(w: Sending) -> None:
    for first in (0, 3):
        numbers = range(first, first + 3)
        batch = [dispatch(FIFO, parameters={"MessageBody": str(number)}) for number in numbers]
        await w.dispatcher.accept(batch, marks={"sent": first})
    await w.settle()
    assert [message["MessageBody"] for message in w.sent()] == ["0", "1", "2", "3", "4", "5"]


@scenario
async def test_an_entry_that_put_events_does_not_take_is_refused(w: Sending) -> None:
    entries = {"Entries": [{"Source": "s", "DetailType": "d", "Detail": "{}", "EventBusName": "none"}]}
    bus = f"arn:aws:events:{REGION}:{ACCOUNT}:event-bus/none"
    w.neighbours.failure = None

    async def put_events(*_: Any, **__: Any) -> dict[str, Any]:
        return {"FailedEntryCount": 1, "Entries": [{"ErrorCode": "NotAuthorized", "ErrorMessage": "no"}]}

    w.neighbours.call = put_events  # type: ignore[method-assign]
    await w.dispatcher.accept([dispatch(bus, service="events", operation="PutEvents", parameters=entries)])
    await w.settle()
    assert await w.ended() == [Condition.REFUSED]


# The web


@pytest.mark.parametrize(
    ("status", "condition"),
    [(200, None), (302, None), (404, Condition.REFUSED), (429, None), (503, None)],
)
def test_an_answer_of_the_web_decides(status: int, condition: Condition | None) -> None:
    async def inside(w: Sending) -> None:
        w.web.statuses[URL] = status
        post = {"Headers": {"Content-Type": "text/plain"}, "Body": json.dumps({"Type": "Notification"})}
        await w.dispatcher.accept([dispatch(URL, service=HTTP, operation="", parameters=post)])
        await w.settle()
        assert (w.web.posts[0].headers, w.web.posts[0].body) == (post["Headers"], post["Body"].encode())
        assert await w.ended() == ([condition] if condition else [])
        waiting = await w.events.rows(Selection(), dead=False, limit=10)
        assert [row.purpose for row in waiting] == ([Purpose.DISPATCH] if status in (429, 503) else [])

    scenario(inside)()


@scenario
async def test_a_refusal_of_the_dead_letter_queue_is_the_end(w: Sending) -> None:
    w.neighbours.failure = NeighbourRefused("AccessDenied", "no", 403)
    await w.dispatcher.accept([dispatch(dead_letter=LETTER)])
    await w.settle()
    assert await w.ended() == [Condition.REFUSED, Condition.REFUSED]
