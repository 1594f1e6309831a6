"""Messages of a queue reach the function in batches, and are deleted when it has processed them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from lambdad.domain.errors import RecursiveInvocationException, ServiceError, TooManyRequestsException
from lambdad.domain.invocations import Outcome
from lambdad.domain.poller_scaling import FIRST
from lambdad.domain.tracing import function_mark
from lambdad.ports.neighbours import NeighbourRefused
from unit.services.fakes import KEY
from unit.services.sources import LOST, QUEUE, VISIBILITY_S, Reading, reading

FAILED = Outcome(b"{}", "Unhandled")
FIFO = f"{QUEUE}.fifo"


def failures(*ids: str) -> Outcome:
    return Outcome(json.dumps({"batchItemFailures": [{"itemIdentifier": each} for each in ids]}).encode())


@reading
async def test_a_message_is_processed_as_soon_as_it_is_sent_and_deleted(world: Reading) -> None:
    await world.begin()
    assert world.poller.is_running
    world.queue.send("hello")
    await world.settle()
    assert world.function.events == [
        {
            "Records": [
                {
                    "messageId": "m1",
                    "receiptHandle": "m1",
                    "body": "hello",
                    "attributes": {"ApproximateReceiveCount": "1"},
                    "messageAttributes": {},
                    "md5OfBody": "md5",
                    "eventSource": "aws:sqs",
                    "eventSourceARN": QUEUE,
                    "awsRegion": "us-east-1",
                }
            ]
        }
    ]
    assert (world.queue.messages, world.queue.deleted, world.told) == ([], ["hello"], ["OK"])


@reading
async def test_an_empty_queue_costs_three_requests_a_minute(world: Reading) -> None:
    await world.begin()
    world.queue.calls.clear()
    await world.pass_time(60)
    assert world.queue.calls == ["ReceiveMessage"] * 3


@reading
async def test_a_batch_has_at_most_its_size(world: Reading) -> None:
    world.queue.send(*map(str, range(25)))
    await world.begin(batch_size=10)
    await world.settle()
    assert [len(bodies) for bodies in world.function.bodies()] == [10, 10, 5]
    assert world.queue.messages == []


@reading
async def test_a_batching_window_gathers_until_it_closes(world: Reading) -> None:
    await world.begin(batch_size=1000, batching_window_s=5)
    await world.pass_time(7)
    world.queue.send("a")
    await world.pass_time(4)
    world.queue.send(*("b",) * 30)
    await world.pass_time(0.5)
    assert world.function.events == []
    await world.pass_time(0.6)
    assert [len(bodies) for bodies in world.function.bodies()] == [31]


@reading
async def test_a_window_closes_early_when_the_batch_is_full(world: Reading) -> None:
    world.queue.visibility_s = 600
    await world.begin(batch_size=20, batching_window_s=300)
    world.queue.send(*map(str, range(45)))
    await world.settle()
    assert [len(bodies) for bodies in world.function.bodies()] == [20, 20]
    await world.pass_time(300)
    assert [len(bodies) for bodies in world.function.bodies()] == [20, 20, 5]


@reading
async def test_a_batch_has_at_most_six_megabytes(world: Reading) -> None:
    world.queue.send(*("x" * 1_000_000,) * 10)
    await world.begin()
    await world.settle()
    assert sorted(len(bodies) for bodies in world.function.bodies()) == [4, 6]
    assert world.queue.messages == []


@reading
async def test_what_a_filter_does_not_let_pass_is_deleted_unseen(world: Reading) -> None:
    world.queue.send('{"kind": "order"}', '{"kind": "other"}', "plain")
    await world.begin(filters=('{"body": {"kind": ["order"]}}',))
    await world.settle()
    assert world.function.bodies() == [['{"kind": "order"}']]
    assert world.queue.messages == []


@reading
async def test_what_failed_comes_again_after_the_visibility_timeout(world: Reading) -> None:
    world.function.answers = lambda event: FAILED
    world.queue.send("a", "b")
    await world.begin()
    assert len(world.function.events) == 1
    assert world.told == ["PROBLEM: Function call failed"]
    await world.pass_time(VISIBILITY_S - 1)
    assert len(world.function.events) == 1
    world.function.answers = lambda event: Outcome(b"null")
    await world.pass_time(1)
    assert world.function.bodies() == [["a", "b"]] * 2
    assert world.function.events[1]["Records"][0]["attributes"]["ApproximateReceiveCount"] == "2"
    assert (world.queue.messages, world.told[-1]) == ([], "OK")


@pytest.mark.parametrize(
    ("answer", "deleted"),
    [
        (failures("m2"), ["a", "c"]),
        (failures(), ["a", "b", "c"]),
        (Outcome(b"null"), ["a", "b", "c"]),
        (Outcome(b"{}"), ["a", "b", "c"]),
        (Outcome(b'{"batchItemFailures": null}'), ["a", "b", "c"]),
        (failures("m1", "m2", "m3"), []),
        (failures(""), []),
        (failures("unknown"), []),
        (Outcome(b'{"batchItemFailures": [{"itemIdentifier": null}]}'), []),
        (Outcome(b'{"batchItemFailures": [{"item": "m1"}]}'), []),
        (Outcome(b'{"batchItemFailures": "m1"}'), []),
        (Outcome(b'"done"'), []),
        (Outcome(b"not JSON"), []),
        (FAILED, []),
    ],
)
def test_a_function_may_say_which_messages_failed(answer: Outcome, deleted: list[str]) -> None:
    @reading
    async def test(world: Reading) -> None:
        world.function.answers = lambda event: answer
        world.queue.send("a", "b", "c")
        await world.begin(reports_item_failures=True)
        assert world.queue.deleted == deleted

    test()


@reading
async def test_what_a_function_says_of_failures_counts_only_when_the_mapping_asks(world: Reading) -> None:
    world.function.answers = lambda event: failures("m1")
    world.queue.send("a")
    await world.begin()
    assert world.queue.deleted == ["a"]


@reading
async def test_a_throttled_batch_waits_without_being_received_again(world: Reading) -> None:
    world.function.answers = lambda event: TooManyRequestsException("Rate Exceeded.")
    world.queue.send("a")
    await world.begin()
    await world.pass_time(5)
    assert len(world.function.requests) > 2
    assert world.told[-1] == "PROBLEM: Rate Exceeded."
    world.function.answers = lambda event: Outcome(b"null")
    await world.pass_time(8)
    assert world.function.bodies() == [["a"]]
    assert world.function.events[0]["Records"][0]["attributes"]["ApproximateReceiveCount"] == "1"
    assert world.queue.messages == []


@reading
async def test_a_throttled_batch_is_left_when_its_messages_are_visible_again(world: Reading) -> None:
    world.function.answers = lambda event: TooManyRequestsException("Rate Exceeded.")
    world.queue.send("a")
    await world.begin()
    await world.pass_time(VISIBILITY_S + 1)
    (message,) = world.queue.messages
    assert message.receives == 2


@reading
async def test_a_batching_window_is_a_part_of_the_time_in_which_messages_are_hidden(world: Reading) -> None:
    world.function.answers = lambda event: TooManyRequestsException("Rate Exceeded.")
    world.queue.send("a")
    await world.begin(batch_size=100, batching_window_s=VISIBILITY_S - 2)
    await world.pass_time(VISIBILITY_S - 1)
    world.queue.messages.clear()  # it is somebody else's from now on
    await world.pass_time(VISIBILITY_S)
    assert 1 < len(world.function.requests) < 6


@reading
async def test_five_batches_run_at_first_and_more_with_time(world: Reading) -> None:
    world.function.gate = asyncio.Event()
    world.queue.send(*map(str, range(100)))
    await world.begin(batch_size=1)
    assert world.function.running == FIRST
    await world.pass_time(1.05)
    assert world.function.running == FIRST + 5
    world.function.gate.set()
    await world.settle()
    assert len(world.function.events) == 100


@reading
async def test_maximum_concurrency_is_never_exceeded(world: Reading) -> None:
    world.function.gate = asyncio.Event()
    world.queue.send(*map(str, range(20)))
    await world.begin(batch_size=1, maximum_concurrency=2)
    await world.pass_time(10)
    assert (world.function.running, world.function.most) == (2, 2)


@reading
async def test_groups_of_a_fifo_queue_keep_their_order_also_when_one_fails(world: Reading) -> None:
    def answer(event: dict[str, Any]) -> Outcome:
        return FAILED if event["Records"][0]["body"] == "a1" and len(world.function.events) < 2 else Outcome(b"null")

    world.function.answers = answer
    world.queue.send("a1", "a2", group="a")
    world.queue.send("b1", group="b")
    await world.begin(FIFO, batch_size=1)
    await world.settle()
    assert world.function.bodies() == [["a1"], ["b1"]]
    await world.pass_time(VISIBILITY_S)
    await world.settle()
    assert world.function.bodies() == [["a1"], ["b1"], ["a1"], ["a2"]]


@reading
async def test_what_does_not_fit_into_one_event_is_processed_behind_it_in_a_fifo_queue(world: Reading) -> None:
    world.queue.send(*(str(number) * 1_000_000 for number in range(8)), group="a")
    world.function.gate = gate = asyncio.Event()
    await world.begin(FIFO)
    assert world.function.running == 1
    world.function.answers = lambda event: FAILED
    gate.set()
    await world.settle()
    assert [[body[0] for body in bodies] for bodies in world.function.bodies()] == [list("012345")]
    world.function.answers = lambda event: Outcome(b"null")
    await world.pass_time(VISIBILITY_S)
    await world.settle()
    assert [[body[0] for body in bodies] for bodies in world.function.bodies()[1:]] == [list("012345"), list("67")]


@reading
async def test_what_waits_behind_an_event_of_a_fifo_queue_is_given_back_at_a_stop(world: Reading) -> None:
    world.queue.send(*(str(number) * 1_000_000 for number in range(8)), group="a")
    world.function.gate = gate = asyncio.Event()
    await world.begin(FIFO)
    ending = asyncio.ensure_future(world.end())
    await world.settle()
    gate.set()
    await world.settle()
    assert ending.done()
    assert [(each.body[0], each.visible_at) for each in world.queue.messages] == [("6", 0.0), ("7", 0.0)]


@reading
async def test_a_queue_that_does_not_answer_only_delays(world: Reading) -> None:
    await world.begin()
    world.queue.failure = LOST
    await world.pass_time(25)
    assert world.told == ["PROBLEM: the queue does not answer"] * len(world.told)
    assert 1 < len(world.told) < 12
    world.queue.failure = None
    world.queue.send("a")
    await world.pass_time(20)
    assert world.function.bodies() == [["a"]]


@reading
async def test_a_queue_that_did_not_answer_at_first_is_asked_for_its_address_again(world: Reading) -> None:
    world.queue.failure = LOST
    await world.begin()
    assert not world.poller.is_running
    world.queue.failure = None
    world.queue.calls.clear()
    await world.pass_time(1)
    assert world.poller.is_running
    assert world.queue.calls[0] == "GetQueueUrl"


@reading
async def test_a_queue_that_was_made_again_is_found_again(world: Reading) -> None:
    await world.begin()
    world.queue.failure = NeighbourRefused("AWS.SimpleQueueService.NonExistentQueue", "gone", 400)
    await world.pass_time(21)
    world.queue.failure = None
    world.queue.calls.clear()
    world.queue.send("a")
    await world.pass_time(20)
    assert world.queue.calls[0] == "GetQueueUrl"
    assert world.function.bodies() == [["a"]]


@reading
async def test_for_a_function_that_is_gone_nothing_is_taken(world: Reading) -> None:
    await world.begin()
    version, world.function.version = world.function.version, None
    await world.pass_time(20)
    world.queue.send("a")
    await world.pass_time(60)
    assert world.queue.messages[0].receives == 0
    assert world.told[-1] == f"PROBLEM: Function not found: {KEY.arn}"
    world.function.version = version
    await world.pass_time(20)
    assert world.function.bodies() == [["a"]]


@reading
async def test_the_trace_of_a_message_goes_on(world: Reading) -> None:
    mark = function_mark(KEY.arn)
    far, near = (f"Root=1-0-{digit * 24};Parent={digit * 16};Lineage=1:{mark}:{count}" for digit, count in ("a9", "b2"))
    world.queue.send("a", AWSTraceHeader=near)
    world.queue.send("b", AWSTraceHeader=far)
    await world.begin()
    assert world.function.requests[0].trace == far


@reading
async def test_of_a_batch_only_the_messages_of_a_loop_are_stopped(world: Reading) -> None:
    def answer(event: dict[str, Any]) -> Outcome | ServiceError:
        if any(record["body"] == "loop" for record in event["Records"]):
            return RecursiveInvocationException("stopped")
        return Outcome(b"null")

    world.function.answers = answer
    world.queue.send("a", "loop", "b")
    await world.begin()
    assert world.function.bodies() == [["a"], ["b"]]
    assert [each.body for each in world.queue.messages] == ["loop"]


@reading
async def test_at_a_stop_running_batches_end_and_gathered_messages_are_given_back(world: Reading) -> None:
    world.function.gate = gate = asyncio.Event()
    await world.begin(batch_size=20, batching_window_s=10)
    world.queue.send(*map(str, range(20)))
    await world.settle()
    world.queue.send("late")
    await world.settle()
    ending = asyncio.ensure_future(world.end())
    await world.settle()
    assert not ending.done()
    gate.set()
    await world.settle()
    assert ending.done()
    (left,) = world.queue.messages
    assert (left.body, left.visible_at) == ("late", 0.0)


@reading
async def test_a_throttled_batch_is_given_back_at_a_stop(world: Reading) -> None:
    world.function.answers = lambda event: TooManyRequestsException("Rate Exceeded.")
    world.queue.send("a")
    await world.begin()
    await world.end()
    assert world.queue.messages[0].visible_at == 0.0


@reading
async def test_while_the_function_is_throttled_no_more_messages_are_taken(world: Reading) -> None:
    world.function.answers = lambda event: TooManyRequestsException("Rate Exceeded.")
    world.queue.send(*map(str, range(100)))
    await world.begin(batch_size=1)
    await world.pass_time(VISIBILITY_S - 5)
    assert 0 < sum(message.receives for message in world.queue.messages) <= FIRST


@reading
async def test_a_function_that_fails_is_given_less_and_less_until_it_succeeds(world: Reading) -> None:
    world.function.answers = lambda event: FAILED
    world.queue.send(*map(str, range(20)))
    await world.begin(batch_size=1)
    await world.settle()
    world.function.gate = asyncio.Event()
    await world.pass_time(VISIBILITY_S + 5)
    assert world.function.running == 1
    world.function.answers = lambda event: Outcome(b"null")
    world.function.gate.set()
    await world.pass_time(VISIBILITY_S)
    assert world.queue.messages == []


@reading
async def test_a_function_that_reports_its_failures_is_not_given_less(world: Reading) -> None:
    world.function.answers = lambda event: FAILED
    world.queue.send(*map(str, range(20)))
    await world.begin(batch_size=1, reports_item_failures=True)
    await world.settle()
    world.function.gate = asyncio.Event()
    await world.pass_time(VISIBILITY_S + 1)
    assert world.function.running >= FIRST


@reading
async def test_a_queue_that_does_not_let_wait_is_asked_each_second(world: Reading) -> None:
    async def at_once(parameters: Any) -> dict[str, Any]:
        return {}

    world.queue.ReceiveMessage = at_once  # type: ignore[method-assign]
    await world.begin()
    world.queue.calls.clear()
    await world.pass_time(10.5)
    assert len(world.queue.calls) == 10
