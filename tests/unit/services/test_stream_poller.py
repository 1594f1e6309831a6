"""Records of a stream reach the function in order, at least once, whatever it does with them."""

from __future__ import annotations

import asyncio
import base64
import json
from itertools import chain
from typing import Any
from unittest import mock

from lambdad.domain.errors import TooManyRequestsException
from lambdad.domain.functions import FunctionVersion
from lambdad.domain.invocations import Outcome
from lambdad.domain.stream_events import SHARD_CHECKPOINTS, ShardCheckpoint
from lambdad.ports.store import StoreUnavailable
from lambdad.services.invoke import InvokeRequest
from lambdad.services.pollers.streams import IDLE_S_MAX
from unit.services.fakes import KEY
from unit.services.sources import LOST, STREAM, TABLE, Reading, StoredShard, mapping, reading

FAILED = Outcome(b"{}", "Unhandled")
LETTERS = "arn:aws:sqs:us-east-1:000000000000:letters"


def has(event: dict[str, Any], data: str) -> bool:
    return any(base64.b64decode(each["kinesis"]["data"]).decode() == data for each in event["Records"])


async def checkpoints(world: Reading) -> list[ShardCheckpoint]:
    scope = KEY.account_id, KEY.region, mapping().uuid
    return list(await world.store.read(lambda tables: tables.records(SHARD_CHECKPOINTS, *scope)))


@reading
async def test_records_are_processed_in_order_from_the_oldest(world: Reading) -> None:
    world.stream.put("a", "b")
    await world.begin(STREAM)
    assert world.poller.is_running
    assert world.function.events[0]["Records"][0] == {
        "kinesis": {
            "kinesisSchemaVersion": "1.0",
            "partitionKey": "p",
            "sequenceNumber": "00001",
            "data": "YQ==",
            "approximateArrivalTimestamp": world.clock.time(),
        },
        "eventSource": "aws:kinesis",
        "eventVersion": "1.0",
        "eventID": "shard-0:00001",
        "eventName": "aws:kinesis:record",
        "invokeIdentityArn": "arn:aws:iam::000000000000:role/r",
        "awsRegion": "us-east-1",
        "eventSourceARN": STREAM,
    }
    world.stream.put("c")
    await world.pass_time(1)
    assert world.function.data() == [["a", "b"], ["c"]]
    assert [each.sequence_number for each in await checkpoints(world)] == ["00003"]
    assert world.told[-1] == "OK"


@reading
async def test_records_of_a_table(world: Reading) -> None:
    world.stream.put("a", partition="key")
    await world.begin(TABLE)
    assert world.function.events == [
        {
            "Records": [
                {
                    "eventID": "00001",
                    "eventName": "INSERT",
                    "eventVersion": "1.1",
                    "eventSource": "aws:dynamodb",
                    "awsRegion": "us-east-1",
                    "dynamodb": {
                        "Keys": {"id": {"S": "key"}},
                        "SequenceNumber": "00001",
                        "ApproximateCreationDateTime": world.clock.time(),
                    },
                    "eventSourceARN": TABLE,
                }
            ]
        }
    ]


@reading
async def test_latest_begins_with_the_mapping_also_after_a_restart(world: Reading) -> None:
    world.stream.put("old")
    await world.clock.advance(10)
    await world.begin(STREAM, starting_position="LATEST", created_s=world.clock.time())
    await world.die()
    world.stream.put("new")
    await world.begin(STREAM, starting_position="LATEST", created_s=world.clock.time() - 5)
    assert world.function.data() == [["new"]]


@reading
async def test_latest_of_a_table_passes_over_what_is_older(world: Reading) -> None:
    world.stream.put("old")
    await world.clock.advance(10)
    await world.begin(TABLE, starting_position="LATEST", created_s=world.clock.time() + 0.4)
    world.stream.put("new")
    await world.pass_time(1)
    assert [event["Records"][0]["eventID"] for event in world.function.events] == ["00002"]


@reading
async def test_latest_of_a_table_whose_times_are_exact_passes_over_what_came_in_the_same_second(world: Reading) -> None:
    world.stream.rounds_times = False
    await world.clock.advance(0.25)
    world.stream.put("old")
    await world.clock.advance(0.25)
    await world.begin(TABLE, starting_position="LATEST", created_s=world.clock.time() + 0.0004)
    world.stream.put("new")
    await world.pass_time(1)
    (record,) = world.function.events[0]["Records"]
    assert (record["eventID"], record["dynamodb"]["ApproximateCreationDateTime"] % 1) == ("00002", 0)


@reading
async def test_at_timestamp(world: Reading) -> None:
    world.stream.put("old")
    await world.clock.advance(10)
    world.stream.put("new")
    await world.begin(STREAM, starting_position="AT_TIMESTAMP", starting_timestamp_s=world.clock.time() - 5)
    assert world.function.data() == [["new"]]


@reading
async def test_after_a_crash_it_goes_on_behind_what_was_processed(world: Reading) -> None:
    world.stream.put(*"abcd")
    await world.begin(STREAM, batch_size=2)
    await world.settle()
    assert world.function.data() == [["a", "b"], ["c", "d"]]
    world.function.gate = asyncio.Event()
    world.stream.put("e")
    await world.pass_time(1)
    await world.die()
    world.function.gate = None
    await world.begin(STREAM, batch_size=2)
    assert world.function.data() == [["a", "b"], ["c", "d"], ["e"]]


@reading
async def test_at_a_stop_the_running_batch_ends_and_is_remembered(world: Reading) -> None:
    world.function.gate = gate = asyncio.Event()
    world.stream.put("a")
    await world.begin(STREAM)
    ending = asyncio.ensure_future(world.end())
    await world.settle()
    assert not ending.done()
    gate.set()
    await world.settle()
    assert ending.done()
    assert [each.sequence_number for each in await checkpoints(world)] == ["00001"]


@reading
async def test_a_failed_batch_holds_its_shard_and_no_other(world: Reading) -> None:
    world.stream.shards["shard-1"] = StoredShard()
    world.stream.put("bad", "after")
    world.stream.put("other", shard="shard-1")
    world.function.answers = lambda event: FAILED if has(event, "bad") else Outcome(b"null")
    await world.begin(STREAM, batch_size=1)
    await world.pass_time(10)
    assert ["other"] in world.function.data()
    assert ["after"] not in world.function.data()
    tries = world.function.data().count(["bad"])
    assert tries > 3
    world.function.answers = lambda event: Outcome(b"null")
    await world.pass_time(20)
    assert world.function.data()[-2:] == [["bad"], ["after"]]


@reading
async def test_a_batch_is_given_up_after_its_retries_and_told_of(world: Reading) -> None:
    world.stream.put("bad", "after")
    world.function.answers = lambda event: FAILED if has(event, "bad") else Outcome(b"null")
    await world.begin(STREAM, batch_size=1, maximum_retry_attempts=2, on_failure=LETTERS)
    await world.pass_time(5)
    assert world.function.data() == [["bad"]] * 3 + [["after"]]
    (letter,) = world.dispatcher.accepted
    assert (letter.service, letter.operation, letter.target) == ("sqs", "SendMessage", LETTERS)
    told = json.loads(letter.parameters["MessageBody"])
    assert told["KinesisBatchInfo"] == {
        "shardId": "shard-0",
        "startSequenceNumber": "00001",
        "endSequenceNumber": "00001",
        "approximateArrivalOfFirstRecord": "2023-11-14T22:13:20.000Z",
        "approximateArrivalOfLastRecord": "2023-11-14T22:13:20.000Z",
        "batchSize": 1,
        "streamArn": STREAM,
    }
    assert told["requestContext"]["condition"] == "RetryAttemptsExhausted"
    assert told["requestContext"]["approximateInvokeCount"] == 3
    assert told["requestContext"]["functionArn"] == KEY.arn
    assert told["responseContext"] == {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"}


@reading
async def test_a_topic_and_a_bucket_are_told_too(world: Reading) -> None:
    world.stream.put("bad")
    world.function.answers = lambda event: FAILED
    await world.begin(STREAM, maximum_retry_attempts=0, on_failure="arn:aws:s3:::bucket")
    (letter,) = world.dispatcher.accepted
    assert (letter.service, letter.operation, letter.parameters["Bucket"]) == ("s3", "PutObject", "bucket")
    assert letter.parameters["Key"].startswith(f"aws/lambda/{mapping().uuid}/shard-0/2023/11/14/2023-11-14T22.13.20-")
    assert json.loads(json.loads(letter.parameters["Body"])["payload"]) == world.function.events[0]
    await world.end()
    topic = "arn:aws:sns:us-east-1:000000000000:topic"
    world.stream.put("bad")
    await world.begin(STREAM, maximum_retry_attempts=0, on_failure=topic)
    assert world.dispatcher.accepted[1].parameters["TopicArn"] == topic


@reading
async def test_records_that_are_too_old_are_given_up(world: Reading) -> None:
    world.stream.put("old")
    await world.clock.advance(100)
    world.stream.put("new")
    await world.begin(STREAM, maximum_record_age_s=60, on_failure=LETTERS)
    assert world.function.data() == [["new"]]
    (letter,) = world.dispatcher.accepted
    told = json.loads(letter.parameters["MessageBody"])
    assert (told["requestContext"]["condition"], "responseContext" in told) == ("RecordAgeExceeded", False)


@reading
async def test_a_batch_is_halved_until_the_bad_record_is_alone(world: Reading) -> None:
    world.stream.put(*"abcdefg", "bad")
    world.function.answers = lambda event: FAILED if has(event, "bad") else Outcome(b"null")
    await world.begin(STREAM, bisects_batch=True, maximum_retry_attempts=0, on_failure=LETTERS)
    await world.pass_time(30)
    succeeded = [data for data in world.function.data() if "bad" not in data]
    assert list(chain.from_iterable(succeeded)) == list("abcdefg")
    (letter,) = world.dispatcher.accepted
    assert json.loads(letter.parameters["MessageBody"])["KinesisBatchInfo"]["batchSize"] == 1


@reading
async def test_what_of_a_batch_is_processed_when_the_daemon_stops_does_not_come_again(world: Reading) -> None:
    world.stream.put("a", "b", "bad")
    world.function.answers = lambda event: FAILED if has(event, "bad") else Outcome(b"null")
    await world.begin(STREAM, bisects_batch=True)
    await world.pass_time(5)
    await world.end()
    assert [each.sequence_number for each in await checkpoints(world)] == ["00002"]
    world.function.events.clear()
    await world.begin(STREAM, bisects_batch=True)
    assert not any("a" in data for data in world.function.data())


@reading
async def test_from_the_first_reported_failure_on_it_is_tried_again(world: Reading) -> None:
    world.stream.put(*"abcd")

    def answer(event: dict[str, Any]) -> Outcome:
        items = ["00004", "00003"] if has(event, "a") else []
        return Outcome(json.dumps({"batchItemFailures": [{"itemIdentifier": item} for item in items]}).encode())

    world.function.answers = answer
    await world.begin(STREAM, reports_item_failures=True)
    assert world.function.data() == [["a", "b", "c", "d"], ["c", "d"]]
    assert [each.sequence_number for each in await checkpoints(world)] == ["00004"]


@reading
async def test_a_throttle_is_no_attempt(world: Reading) -> None:
    world.stream.put("a")
    world.function.answers = lambda event: TooManyRequestsException("Rate Exceeded.")
    await world.begin(STREAM, maximum_retry_attempts=0, on_failure=LETTERS)
    await world.pass_time(10)
    world.function.answers = lambda event: Outcome(b"null")
    await world.pass_time(20)
    assert (world.function.data(), world.dispatcher.accepted) == ([["a"]], [])


@reading
async def test_batches_of_a_shard_run_at_once_with_each_key_in_order(world: Reading) -> None:
    for number in range(40):
        world.stream.put(f"{number % 4}:{number}", partition=str(number % 4))
    world.function.gate = gate = asyncio.Event()
    await world.begin(STREAM, batch_size=5, parallelization_factor=4)
    assert world.function.running > 1
    gate.set()
    await world.pass_time(5)
    every = list(chain.from_iterable(world.function.data()))
    assert len(every) == 40
    for key in "0123":
        numbers = [int(each[2:]) for each in every if each[0] == key]
        assert numbers == sorted(numbers)


@reading
async def test_no_batch_of_a_shard_is_left_running_when_another_cannot_be_given_up(world: Reading) -> None:
    world.stream.put("bad", partition="0")
    world.stream.put("good", partition="d")  # another lane
    gate = asyncio.Event()
    world.function.answers = lambda event: FAILED if has(event, "bad") else Outcome(b"null")
    invoke = world.function.invoke

    async def slowly(request: InvokeRequest) -> tuple[FunctionVersion, Outcome]:
        if has(json.loads(request.payload), "good"):
            await gate.wait()
        return await invoke(request)

    accept = mock.AsyncMock(side_effect=StoreUnavailable("the disk is gone"))
    with (
        mock.patch.object(world.function, "invoke", slowly),
        mock.patch.object(world.dispatcher, "accept", accept),
    ):
        settings = {"parallelization_factor": 2, "maximum_retry_attempts": 0, "on_failure": LETTERS}
        await world.begin(STREAM, **settings)
        await world.pass_time(5)
        assert accept.await_count == 1
        gate.set()
        await world.pass_time(1)
        assert accept.await_count > 1


@reading
async def test_a_batching_window_closes_early_when_an_event_would_be_full(world: Reading) -> None:
    world.stream.put(*("x" * 1_000_000,) * 6)
    await world.begin(STREAM, batching_window_s=300)
    await world.settle()
    assert [len(data) for data in world.function.data()] == [4, 2]


@reading
async def test_what_a_filter_does_not_let_pass_is_passed_over_for_good(world: Reading) -> None:
    world.stream.put('{"n": 1}', "plain", '{"n": 2}')
    await world.begin(STREAM, filters=('{"data": {"n": [2]}}',))
    assert world.function.data() == [['{"n": 2}']]
    world.stream.put("plain")
    await world.pass_time(2)
    assert [each.sequence_number for each in await checkpoints(world)] == ["00004"]


@reading
async def test_a_batching_window_gathers(world: Reading) -> None:
    await world.begin(STREAM, batching_window_s=5)
    await world.pass_time(1)
    world.stream.put("a")
    await world.pass_time(3)
    world.stream.put("b")
    await world.pass_time(1)
    assert world.function.events == []
    await world.pass_time(2)
    assert world.function.data() == [["a", "b"]]


@reading
async def test_children_are_read_when_their_parents_are_finished(world: Reading) -> None:
    world.stream.put("a")
    world.function.answers = lambda event: FAILED if has(event, "a") else Outcome(b"null")
    await world.begin(STREAM)
    world.stream.shards["shard-0"].closed = True
    world.stream.shards["shard-1"] = StoredShard(parents=("shard-0",))
    world.stream.shards["shard-2"] = StoredShard(parents=("shard-0",))
    world.stream.put("b", shard="shard-1")
    world.stream.put("c", shard="shard-2")
    world.poller.wake(shards_changed=True)
    await world.pass_time(5)
    assert set(map(tuple, world.function.data())) == {("a",)}
    world.function.answers = lambda event: Outcome(b"null")
    await world.pass_time(30)
    assert sorted(world.function.data()[-2:]) == [["b"], ["c"]]
    assert [each.is_finished for each in await checkpoints(world)] == [True, False, False]


@reading
async def test_the_end_of_a_shard_is_seen_in_the_list_of_shards_too(world: Reading) -> None:
    world.stream.tells_end = False
    world.stream.put("a")
    await world.begin(STREAM, wakes=True)
    await world.pass_time(10 * IDLE_S_MAX)
    world.stream.shards["shard-0"].closed = True
    world.stream.shards["shard-1"] = StoredShard(parents=("shard-0",))
    world.stream.put("b", shard="shard-1")
    world.poller.wake(shards_changed=True)
    await world.settle()
    await world.settle()
    assert world.function.data() == [["a"], ["b"]]
    assert [each.is_finished for each in await checkpoints(world)] == [True, False]


@reading
async def test_a_stream_that_wakes_is_read_seldom_and_at_once_when_it_is_written_to(world: Reading) -> None:
    await world.begin(STREAM, wakes=True)
    await world.pass_time(120)
    world.stream.calls.clear()
    await world.pass_time(10 * IDLE_S_MAX)
    assert world.stream.calls.count("GetRecords") <= 10
    world.stream.put("a")
    world.poller.wake(shards_changed=False)
    await world.settle()
    assert world.function.data() == [["a"]]


@reading
async def test_a_stream_that_does_not_answer_only_delays(world: Reading) -> None:
    await world.begin(STREAM)
    world.stream.failure = LOST
    await world.pass_time(30)
    assert world.told[-1] == "PROBLEM: the queue does not answer"
    world.stream.failure = None
    world.stream.put("a")
    await world.pass_time(20)
    assert world.function.data() == [["a"]]


@reading
async def test_a_table_that_is_in_another_region_by_its_own_words_is_found(world: Reading) -> None:
    world.stream.table_arn = TABLE.replace("us-east-1", "ddblocal")
    world.stream.put("a")
    await world.begin(TABLE)
    assert world.function.events[0]["Records"][0]["eventSourceARN"] == TABLE
