"""Messages, events and uploads whose targets, queue or daemon fail while they are on their way.

What was acknowledged reaches every target at least once; what was refused reaches none.
"""

from __future__ import annotations

import json
import random
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from daemons import ROLE, Daemon
from faults.calm import assert_calm
from faults.disks import EXPECTED, fill
from faults.events import await_idle
from faults.neighbourhood import PATIENCE_S, create_queue, process_of, standing_still, taken
from faults.processes import eventually
from faults.recorder import Recorder

SEED = 5
KILLS = 3
CLIENTS = 6
LIVES_S = (0.6, 1.2)
OPTIONS = ("--retry-delay-scale", "0.001", "--event-history", "1000000")
FUNCTION = "arn:aws:lambda:us-east-1:000000000000:function:shown"
TOPIC = "arn:aws:sns:us-east-1:000000000000:told"
NO_TOPIC = "arn:aws:sns:us-east-1:000000000000:none"
REFUSED = "refused"
MANY = 400
WAITING = 10
AT_ONCE_S = 9.0
"""Less than a target that does not answer is waited for."""


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    own = Daemon(tmp_path / "data", OPTIONS).start()
    yield own
    own.stop()


def prepare(daemon: Daemon, recorder: Recorder) -> str:
    """A topic, a bus and a bucket that tell a function, which tells the recorder, and a queue; returns its URL."""
    functions = daemon.client("lambda")
    recorder.create(functions, "shown", "shown")
    for service in ("sns", "events", "s3"):
        functions.add_permission(
            FunctionName="shown",
            StatementId=service,
            Action="lambda:InvokeFunction",
            Principal=f"{service}.amazonaws.com",
        )
    url, queue_arn = create_queue(daemon, "told")
    sns = daemon.client("sns")
    sns.create_topic(Name="told")
    sns.subscribe(TopicArn=TOPIC, Protocol="lambda", Endpoint=FUNCTION)
    raw = {"RawMessageDelivery": "true"}
    sns.subscribe(TopicArn=TOPIC, Protocol="sqs", Endpoint=queue_arn, Attributes=raw)
    events = daemon.client("events")
    events.put_rule(Name="told", EventPattern=json.dumps({"source": ["app"]}))
    events.put_targets(
        Rule="told",
        Targets=[{"Id": "function", "Arn": FUNCTION}, {"Id": "queue", "Arn": queue_arn, "InputPath": "$.detail.id"}],
    )
    s3 = daemon.client("s3")
    s3.create_bucket(Bucket="told")
    s3.put_bucket_notification_configuration(
        Bucket="told",
        NotificationConfiguration={
            "LambdaFunctionConfigurations": [{"LambdaFunctionArn": FUNCTION, "Events": ["s3:ObjectCreated:*"]}],
        },
    )
    return url


_local = threading.local()


def client(daemon: Daemon, service: str) -> Any:
    """A client of this thread for a daemon in its present life; to make one takes longer than to send."""
    known = _local.__dict__.setdefault("clients", {})
    if (daemon.url, service) not in known:
        known[daemon.url, service] = daemon.client(service)
    return known[daemon.url, service]


def publish(daemon: Daemon, id: str) -> None:
    """Raises ClientError and BotoCoreError."""
    client(daemon, "sns").publish(TopicArn=NO_TOPIC if id.startswith(REFUSED) else TOPIC, Message=id)


def put_event(daemon: Daemon, id: str) -> None:
    """Raises ClientError and BotoCoreError."""
    detail = json.dumps({"id": id}) if not id.startswith(REFUSED) else f'{{"id": "{id}"'
    entry = {"Source": "app", "DetailType": "told", "Detail": detail}
    answer = client(daemon, "events").put_events(Entries=[entry])
    if answer["FailedEntryCount"]:
        raise ClientError({"Error": {"Code": answer["Entries"][0]["ErrorCode"]}}, "PutEvents")


def upload(daemon: Daemon, id: str) -> None:
    """Raises ClientError and BotoCoreError."""
    client(daemon, "s3").put_object(Bucket="none" if id.startswith(REFUSED) else "told", Key=id, Body=id)


SENDERS = {"message": publish, "event": put_event, "upload": upload}


def id_of(event: Any) -> str:
    """What its sender calls an event that the function has got."""
    if "detail" in event:
        return str(event["detail"]["id"])
    (record,) = event["Records"]
    return str(record["Sns"]["Message"] if "Sns" in record else record["s3"]["object"]["key"])


def heard(recorder: Recorder) -> set[str]:
    """The ids of all that the function has got."""
    return {id_of(run.id) for run in list(recorder.runs)}


def of_queue(ids: set[str]) -> set[str]:
    """What the queue is told of: not the uploads."""
    return {id for id in ids if "upload" not in id}


def plain(bodies: list[str]) -> set[str]:
    """The ids in messages: EventBridge sends a JSON string."""
    return {body.strip('"') for body in bodies}


# The daemon is killed.


def send_until(stopped: threading.Event, daemon: Daemon, number: int, acknowledged: set[str]) -> None:
    """Send one thing after the other, of each kind in turn, some of which are to be refused."""
    kinds = list(SENDERS)
    for count in range(1_000_000):
        if stopped.is_set():
            return
        kind = kinds[count % len(kinds)]
        is_wrong = count % 7 == 6
        id = f"{REFUSED if is_wrong else 'sent'}-{kind}-{number}-{count}"
        try:
            SENDERS[kind](daemon, id)
        except ClientError:
            continue
        except BotoCoreError:  # the daemon is dead
            time.sleep(0.02)
            continue
        assert not is_wrong, id
        acknowledged.add(id)


def test_what_was_acknowledged_reaches_every_target(daemon: Daemon, recorder: Recorder) -> None:
    chance, stopped = random.Random(SEED), threading.Event()
    acknowledged: set[str] = set()
    url = prepare(daemon, recorder)
    with ThreadPoolExecutor(CLIENTS) as threads:
        senders = [threads.submit(send_until, stopped, daemon, number, acknowledged) for number in range(CLIENTS)]
        try:
            for _ in range(KILLS):
                reached = len(acknowledged) + 20
                assert eventually(lambda reached=reached: len(acknowledged) > reached, PATIENCE_S)
                time.sleep(chance.uniform(*LIVES_S))  # whatever is under way then
                daemon.kill()
                recorder.next_life()
                daemon.start()
        finally:
            stopped.set()
        for each in senders:
            each.result()
    await_idle(daemon, PATIENCE_S)
    assert acknowledged <= heard(recorder), sorted(acknowledged - heard(recorder))
    bodies = taken(daemon, url, lambda bodies: of_queue(acknowledged) <= plain(bodies))
    assert not any(id.startswith(REFUSED) for id in heard(recorder) | plain(bodies))
    print(f"{len(acknowledged)} acknowledged; of the {len(recorder.runs)} runs {len(heard(recorder))} were the first")


# The disk is full.


def test_what_finds_no_room_is_not_acknowledged(disk: Path, recorder: Recorder) -> None:
    with Daemon(disk, OPTIONS) as daemon:
        url = prepare(daemon, recorder)
        acknowledged: set[str] = set()
        refused: dict[str, int] = {}
        for kind, send in SENDERS.items():
            send(daemon, f"before-{kind}")
            acknowledged.add(f"before-{kind}")
        await_idle(daemon)
        filler = fill(disk)
        for kind, send in SENDERS.items():
            for number in range(MANY):  # what is left of the queue's pages takes some
                try:
                    send(daemon, f"full-{kind}-{number}")
                except ClientError as error:
                    refused[kind] = error.response["ResponseMetadata"]["HTTPStatusCode"]
                    break
                acknowledged.add(f"full-{kind}-{number}")
        assert set(refused) == set(SENDERS)
        assert set(refused.values()) <= {500, 503}, refused
        filler.unlink()
        for kind, send in SENDERS.items():
            send(daemon, f"after-{kind}")
            acknowledged.add(f"after-{kind}")
        await_idle(daemon)
        assert acknowledged <= heard(recorder), sorted(acknowledged - heard(recorder))
        taken(daemon, url, lambda bodies: of_queue(acknowledged) <= plain(bodies))
        assert_calm(daemon, *EXPECTED, "outcomes of", "it is tried again", "could not be written")


# The targets do not answer.


def test_what_is_for_a_neighbour_that_stands_still_waits(daemon: Daemon) -> None:
    """It is taken, and delivered when the neighbour goes on; the others are not kept waiting."""
    url, arn = create_queue(daemon, "told")
    events = daemon.client("events")
    events.put_rule(Name="told", EventPattern=json.dumps({"source": ["app"]}))
    events.put_targets(Rule="told", Targets=[{"Id": "queue", "Arn": arn, "InputPath": "$.detail.id"}])
    with standing_still(process_of(daemon)):
        began = time.monotonic()
        for number in range(WAITING):
            put_event(daemon, f"event-{number}")
        assert time.monotonic() - began < AT_ONCE_S
    taken(daemon, url, lambda bodies: {f"event-{number}" for number in range(WAITING)} <= plain(bodies))
    await_idle(daemon)


def test_a_subscriber_that_hangs_delays_no_other(daemon: Daemon) -> None:
    url, arn = create_queue(daemon, "told")
    sns = daemon.client("sns")
    sns.create_topic(Name="told")
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        hanging_url = f"http://127.0.0.1:{hanging.getsockname()[1]}/"
        subscription = sns.subscribe(TopicArn=TOPIC, Protocol="http", Endpoint=hanging_url, ReturnSubscriptionArn=True)
        asked, _ = hanging.accept()
        with asked:
            token = token_of(asked)
            sns.confirm_subscription(TopicArn=TOPIC, Token=token)
            sns.subscribe(TopicArn=TOPIC, Protocol="sqs", Endpoint=arn, Attributes={"RawMessageDelivery": "true"})
            began = time.monotonic()
            for number in range(WAITING):
                publish(daemon, f"message-{number}")
            taken(daemon, url, lambda bodies: len(set(bodies)) == WAITING)
            assert time.monotonic() - began < AT_ONCE_S
        sns.unsubscribe(SubscriptionArn=subscription["SubscriptionArn"])


def token_of(connection: socket.socket) -> str:
    """What a subscriber is asked with; it is never answered."""
    connection.settimeout(PATIENCE_S)
    received = b""
    while b"\r\n\r\n" not in received or not received.rstrip().endswith(b"}"):
        part = connection.recv(65536)
        assert part, received
        received += part
    return str(json.loads(received.partition(b"\r\n\r\n")[2])["Token"])


# What they were for is gone.


def test_what_is_for_something_deleted_goes_and_the_rest_goes_on(daemon: Daemon, recorder: Recorder) -> None:
    url = prepare(daemon, recorder)
    sqs, sns, events, functions = (daemon.client(each) for each in ("sqs", "sns", "events", "lambda"))
    recorder.hold("shown")
    put_event(daemon, "first")
    recorder.await_runs("shown", 1)
    functions.put_function_concurrency(FunctionName="shown", ReservedConcurrentExecutions=1)
    for kind, send in SENDERS.items():
        send(daemon, f"waiting-{kind}")
    functions.delete_function(FunctionName="shown")
    events.remove_targets(Rule="told", Ids=["function"])
    recorder.release()
    await_idle(daemon)
    for kind, send in SENDERS.items():  # the topic and the bucket still have it as their target
        send(daemon, f"without-{kind}")
    await_idle(daemon)
    assert not {id for id in heard(recorder) if id.startswith("without")}
    taken(daemon, url, lambda bodies: {"without-message", "without-event"} <= plain(bodies))

    sqs.delete_queue(QueueUrl=url)
    publish(daemon, "no-queue")
    put_event(daemon, "no-queue")
    await_idle(daemon)
    sns.delete_topic(TopicArn=TOPIC)
    with pytest.raises(ClientError):
        publish(daemon, "no-topic")
    events.remove_targets(Rule="told", Ids=["queue"])
    events.delete_rule(Name="told")
    put_event(daemon, "no-rule")
    await_idle(daemon)
    assert_calm(daemon)


def test_a_bucket_that_is_deleted_and_created_again_tells_nobody(daemon: Daemon, recorder: Recorder) -> None:
    prepare(daemon, recorder)
    s3 = daemon.client("s3")
    s3.delete_bucket(Bucket="told")
    s3.create_bucket(Bucket="told")
    upload(daemon, "unheard")
    put_event(daemon, "marker")
    recorder.await_runs("shown", 1)
    await_idle(daemon)
    assert heard(recorder) == {"marker"}


# Time goes by.


def test_a_daemon_that_was_stopped_over_the_second_fires_once(daemon: Daemon, recorder: Recorder) -> None:
    recorder.create(daemon.client("lambda"), "shown", "shown")
    scheduler = daemon.client("scheduler")
    due = (datetime.now(UTC) + timedelta(seconds=2)).replace(microsecond=0)
    scheduler.create_schedule(
        Name="late",
        ScheduleExpression=due.strftime("at(%Y-%m-%dT%H:%M:%S)"),
        FlexibleTimeWindow={"Mode": "OFF"},
        Target={"Arn": FUNCTION, "RoleArn": ROLE, "Input": json.dumps({"detail": {"id": "late"}})},
    )
    assert daemon.process is not None
    daemon.process.send_signal(signal.SIGSTOP)
    time.sleep(max(due.timestamp() + 1.0 - time.time(), 0))
    assert recorder.runs == []
    daemon.process.send_signal(signal.SIGCONT)
    (run,) = recorder.await_runs("shown", 1)
    await_idle(daemon)
    marker = (datetime.now(UTC) + timedelta(seconds=2)).replace(microsecond=0)
    scheduler.create_schedule(
        Name="marker",
        ScheduleExpression=marker.strftime("at(%Y-%m-%dT%H:%M:%S)"),
        FlexibleTimeWindow={"Mode": "OFF"},
        Target={"Arn": FUNCTION, "RoleArn": ROLE, "Input": json.dumps({"detail": {"id": "marker"}})},
    )
    recorder.await_runs("shown", 2)
    assert [id_of(each.id) for each in recorder.runs] == ["late", "marker"]
    assert run.id == {"detail": {"id": "late"}}
