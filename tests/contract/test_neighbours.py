"""What the other services do when lambdad calls them: with botocore at moto's server, and in memory."""

from __future__ import annotations

import asyncio
import http.server
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

from lambdad.adapters.memory_neighbours import MemoryNeighbours
from lambdad.adapters.neighbours import CALLS_AT_ONCE, CLIENTS, AwsNeighbours
from lambdad.domain.settings import NeighbourEndpoint
from lambdad.ports.neighbours import NeighbourRefused, Neighbours, NeighbourUnavailable
from neighbours import ACCOUNT_ID, REGION, MotoServer

PREFIX = f"arn:aws:%s:{REGION}:{ACCOUNT_ID}:"
QUEUE, TOPIC, BUS, BUCKET = "contract-queue", "contract-topic", "contract-bus", "contract-bucket"
QUEUE_ARN, TOPIC_ARN = PREFIX % "sqs" + QUEUE, PREFIX % "sns" + TOPIC
BUS_ARN, BUCKET_ARN = PREFIX % "events" + f"event-bus/{BUS}", f"arn:aws:s3:::{BUCKET}"
NO_ANSWER_S = 0.3
PATIENCE_S = 30.0
SHUTDOWN_POLL_S = 0.01


@pytest.fixture(scope="module")
def targets(moto: MotoServer) -> MotoServer:
    """moto's server with one target of each kind."""
    moto.queue(QUEUE)
    moto.client("sns").create_topic(Name=TOPIC)
    moto.client("events").create_event_bus(Name=BUS)
    moto.client("s3").create_bucket(Bucket=BUCKET)
    return moto


@pytest.fixture(params=["aws", "memory"])
def make(request: pytest.FixtureRequest) -> Callable[[], Neighbours]:
    if request.param == "memory":
        return lambda: MemoryNeighbours([QUEUE_ARN, TOPIC_ARN, BUS_ARN, BUCKET_ARN], ["events", "s3", "sns", "sqs"])
    server: MotoServer = request.getfixturevalue("targets")
    return lambda: AwsNeighbours(server.endpoints)


def called(
    neighbours: Neighbours, service: str, operation: str, parameters: Mapping[str, Any], **options: str
) -> Coroutine[Any, Any, Mapping[str, Any]]:
    return neighbours.call(service, operation, parameters, account_id=ACCOUNT_ID, region=REGION, **options)


def test_a_message_for_a_queue(make: Callable[[], Neighbours]) -> None:
    async def scenario() -> None:
        neighbours = make()
        question = {"QueueName": QUEUE, "QueueOwnerAWSAccountId": ACCOUNT_ID}
        url = (await called(neighbours, "sqs", "GetQueueUrl", question))["QueueUrl"]
        assert (await called(neighbours, "sqs", "SendMessage", {"QueueUrl": url, "MessageBody": "{}"}))["MessageId"]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("service", "operation", "parameters", "member"),
    [
        ("sns", "GetTopicAttributes", {"TopicArn": TOPIC_ARN}, "Attributes"),
        ("sns", "Publish", {"TopicArn": TOPIC_ARN, "Message": "{}"}, "MessageId"),
        ("events", "DescribeEventBus", {"Name": BUS_ARN}, "Arn"),
        (
            "events",
            "PutEvents",
            {"Entries": [{"Source": "lambda", "DetailType": "a", "Detail": "{}", "EventBusName": BUS_ARN}]},
            "Entries",
        ),
        ("s3", "HeadBucket", {"Bucket": BUCKET}, None),
        ("s3", "PutObject", {"Bucket": BUCKET, "Key": "a/b", "Body": b"{}"}, "ETag"),
    ],
)
def test_what_is_there_answers(
    make: Callable[[], Neighbours], service: str, operation: str, parameters: dict[str, Any], member: str | None
) -> None:
    answer = asyncio.run(called(make(), service, operation, parameters, trace="Root=1-00000000-0"))
    assert member is None or answer[member]


@pytest.mark.parametrize(
    ("service", "operation", "parameters", "code", "status"),
    [
        ("sqs", "GetQueueUrl", {"QueueName": "absent"}, "AWS.SimpleQueueService.NonExistentQueue", 400),
        ("sns", "GetTopicAttributes", {"TopicArn": PREFIX % "sns" + "absent"}, "NotFound", 404),
        ("sns", "Publish", {"TopicArn": PREFIX % "sns" + "absent", "Message": "a"}, "NotFound", 404),
        (
            "events",
            "DescribeEventBus",
            {"Name": PREFIX % "events" + "event-bus/absent"},
            "ResourceNotFoundException",
            400,
        ),
        ("s3", "HeadBucket", {"Bucket": "absent"}, "404", 404),
        ("s3", "PutObject", {"Bucket": "absent", "Key": "a", "Body": b""}, "NoSuchBucket", 404),
    ],
)
def test_what_is_not_there_is_refused(
    make: Callable[[], Neighbours], service: str, operation: str, parameters: dict[str, Any], code: str, status: int
) -> None:
    with pytest.raises(NeighbourRefused) as caught:
        asyncio.run(called(make(), service, operation, parameters))
    assert (caught.value.code, caught.value.status) == (code, status)
    assert caught.value.message


def test_only_what_has_an_endpoint_is_called(make: Callable[[], Neighbours]) -> None:
    neighbours = make()
    assert neighbours.has("sqs")
    assert not neighbours.has("dynamodb")
    assert sorted(neighbours.describe()) == ["events", "s3", "sns", "sqs"]
    with pytest.raises(NeighbourUnavailable, match="dynamodb has no endpoint"):
        asyncio.run(called(neighbours, "dynamodb", "ListTables", {}))


def test_after_its_end_nothing_is_called(make: Callable[[], Neighbours]) -> None:
    async def scenario() -> None:
        neighbours = make()
        await neighbours.close()
        with pytest.raises(NeighbourUnavailable):
            await called(neighbours, "sqs", "GetQueueUrl", {"QueueName": QUEUE})

    asyncio.run(scenario())


# What only the real one meets


class Recorder(http.server.BaseHTTPRequestHandler):
    """Answers every POST with what its server says, and keeps the headers."""

    def do_POST(self) -> None:
        server: Any = self.server
        self.rfile.read(int(self.headers["Content-Length"]))
        server.heard.append(dict(self.headers))
        server.answering.wait()
        status, body = server.answer
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None: ...


class OneAnswer(http.server.ThreadingHTTPServer):
    """See `answering`."""

    request_queue_size = 2 * CALLS_AT_ONCE


@contextmanager
def answering(status: int, body: bytes) -> Iterator[Any]:
    """A server of one answer. It waits while `answering` is cleared; `heard` are the headers of the requests."""
    server: Any = OneAnswer(("127.0.0.1", 0), Recorder)
    server.answer, server.heard, server.answering = (status, body), [], threading.Event()
    server.answering.set()
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(SHUTDOWN_POLL_S,))
    thread.start()
    try:
        yield server
    finally:
        server.answering.set()
        server.shutdown()
        thread.join()
        server.server_close()


def error_of(url: str, error: type[Exception] = NeighbourUnavailable, read_timeout_s: float = PATIENCE_S) -> str:
    """What a call of SQS at this address raises."""
    with pytest.raises(error) as caught:
        asyncio.run(called(sqs_at(url, read_timeout_s), "sqs", "GetQueueUrl", {"QueueName": "q"}))
    return str(caught.value)


def sqs_at(url: str, read_timeout_s: float = PATIENCE_S) -> AwsNeighbours:
    return AwsNeighbours({"sqs": NeighbourEndpoint(url)}, connect_timeout_s=PATIENCE_S, read_timeout_s=read_timeout_s)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (500, "InternalError"),
        (503, "ServiceUnavailable"),
        (429, "Anything"),
        (400, "ThrottlingException"),
        (403, "OverLimit"),
        (400, "RequestThrottled"),
    ],
)
def test_what_may_succeed_later_is_unavailable(status: int, code: str) -> None:
    body = json.dumps({"__type": f"com.amazonaws.sqs#{code}", "message": "Not\nnow"}).encode()
    with answering(status, body) as server:
        assert error_of(server.url) == f"sqs answered {status} {code}: Not now"
        assert len(server.heard) == 1


def test_a_gateway_in_between_that_fails() -> None:
    with answering(502, b"<html>Bad Gateway</html>") as server:
        assert error_of(server.url).startswith("sqs answered 502 ")


def test_another_error_is_a_refusal() -> None:
    body = json.dumps({"__type": "com.amazonaws.sqs#AccessDenied", "message": "No"}).encode()
    with answering(403, body) as server:
        assert error_of(server.url, NeighbourRefused) == "AccessDenied: No"


def test_another_server_is_not_the_service() -> None:
    with answering(200, b"<html>Welcome</html>") as server:
        neighbours = AwsNeighbours({"sns": NeighbourEndpoint(server.url)})
        with pytest.raises(NeighbourUnavailable, match=f"what answers at {server.url} is not sns"):
            asyncio.run(called(neighbours, "sns", "Publish", {"TopicArn": TOPIC_ARN, "Message": "a"}))


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    assert error_of(url) == f'sqs does not answer: Could not connect to the endpoint URL: "{url}/"'


def test_a_service_that_never_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        assert (
            error_of(url, read_timeout_s=NO_ANSWER_S) == f'sqs does not answer: Read timeout on endpoint URL: "{url}/"'
        )


@pytest.mark.parametrize("parameters", [{}, {"QueueName": 1}, {"QueueName": "q", "Other": "a"}])
def test_parameters_that_are_none_of_the_operation(parameters: dict[str, Any]) -> None:
    with answering(200, b"{}") as server:
        with pytest.raises(NeighbourRefused) as caught:
            asyncio.run(called(sqs_at(server.url), "sqs", "GetQueueUrl", parameters))
        assert (caught.value.code, caught.value.status) == ("ParamValidationError", 400)
        assert "\n" not in str(caught.value)
        assert server.heard == []


def test_a_call_carries_its_account_its_region_and_its_trace() -> None:
    async def scenario(url: str) -> None:
        neighbours = sqs_at(url)
        calls = [
            neighbours.call(
                "sqs", "GetQueueUrl", {"QueueName": "q"}, account_id=account, region=region, trace=f"Root={region}"
            )
            for account, region in places
        ]
        await asyncio.gather(*calls)
        await neighbours.call("sqs", "GetQueueUrl", {"QueueName": "q"}, account_id="0" * 12, region="us-east-1")

    places = [(f"{number:012d}", region) for number in range(4) for region in ("eu-west-1", "us-east-1")]
    with answering(200, b"{}") as server:
        asyncio.run(scenario(server.url))
        credentials = {
            (heard["Authorization"].partition("Credential=")[2].split("/")[0], heard["X-Amzn-Trace-Id"])
            for heard in server.heard[:-1]
        }
        assert credentials == {(account, f"Root={region}") for account, region in places}
        for heard in server.heard[:-1]:
            assert f"/{heard['X-Amzn-Trace-Id'].removeprefix('Root=')}/sqs/" in heard["Authorization"]
        assert "X-Amzn-Trace-Id" not in server.heard[-1]


def test_what_the_daemon_answers_itself_is_called_at_its_own_url() -> None:
    async def scenario(url: str) -> None:
        own_url = ""
        elsewhere = {"sns": NeighbourEndpoint("http://127.0.0.1:1")}
        neighbours = AwsNeighbours(elsewhere, own=("sns", "sqs"), own_url=lambda: own_url)
        assert neighbours.has("sqs")
        own_url = url  # known when the daemon has started
        assert neighbours.describe() == {"sns": "http://127.0.0.1:1", "sqs": url}
        await called(neighbours, "sqs", "GetQueueUrl", {"QueueName": "q"})

    with answering(200, b"{}") as server:
        asyncio.run(scenario(server.url))
        assert len(server.heard) == 1


def test_an_endpoint_may_have_a_region_and_credentials() -> None:
    with answering(200, b"{}") as server:
        endpoint = NeighbourEndpoint(server.url, "eu-west-1", "THEKEY", "secret")
        asyncio.run(called(AwsNeighbours({"sqs": endpoint}), "sqs", "GetQueueUrl", {"QueueName": "q"}))
        (heard,) = server.heard
        assert "Credential=THEKEY/" in heard["Authorization"]
        assert "/eu-west-1/sqs/" in heard["Authorization"]


def test_the_users_own_aws_configuration_is_another_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AWS_PROFILE": "absent",
        "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
        "AWS_SESSION_TOKEN": "token",
        "AWS_USE_FIPS_ENDPOINT": "true",
        "HTTP_PROXY": "http://127.0.0.1:1",
        "http_proxy": "http://127.0.0.1:1",
    }.items():
        monkeypatch.setenv(name, value)
    with answering(200, b"{}") as server:
        asyncio.run(called(sqs_at(server.url), "sqs", "GetQueueUrl", {"QueueName": "q"}))
        (heard,) = server.heard
        assert f"Credential={ACCOUNT_ID}/" in heard["Authorization"]
        assert "X-Amz-Security-Token" not in heard


def test_so_many_calls_at_once_and_no_more() -> None:
    async def scenario(server: Any) -> None:
        neighbours = AwsNeighbours({"sqs": NeighbourEndpoint(server.url)})
        server.answering.clear()
        calls = [
            asyncio.create_task(called(neighbours, "sqs", "GetQueueUrl", {"QueueName": "q"}))
            for _ in range(CALLS_AT_ONCE + 1)
        ]
        async with asyncio.timeout(30):
            while len(server.heard) < CALLS_AT_ONCE:
                await asyncio.sleep(0.01)
        assert sum(thread.name == "neighbour-sqs" for thread in threading.enumerate()) == CALLS_AT_ONCE
        server.answering.set()
        await asyncio.gather(*calls)
        assert len(server.heard) == CALLS_AT_ONCE + 1

    with answering(200, b"{}") as server:
        asyncio.run(scenario(server))


def test_who_gives_up_waiting_leaves_no_trace() -> None:
    async def scenario(server: Any) -> None:
        neighbours = AwsNeighbours({"sqs": NeighbourEndpoint(server.url)})
        server.answering.clear()
        given_up = [
            asyncio.create_task(called(neighbours, "sqs", "GetQueueUrl", {"QueueName": "q"}))
            for _ in range(2 * CALLS_AT_ONCE)
        ]
        async with asyncio.timeout(30):
            while len(server.heard) < CALLS_AT_ONCE:
                await asyncio.sleep(0.01)
        for call in given_up:
            call.cancel()
        assert {type(end) for end in await asyncio.gather(*given_up, return_exceptions=True)} == {
            asyncio.CancelledError
        }
        waiting = asyncio.create_task(called(neighbours, "sqs", "GetQueueUrl", {"QueueName": "q"}))
        await asyncio.sleep(0)
        assert len(server.heard) == CALLS_AT_ONCE
        server.answering.set()
        await waiting
        assert len(server.heard) == CALLS_AT_ONCE + 1

    with answering(200, b"{}") as server:
        asyncio.run(scenario(server))


def test_without_a_thread_nothing_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def scenario(url: str) -> None:
        neighbours = sqs_at(url)
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refused)
            for _ in range(CALLS_AT_ONCE + 1):
                with pytest.raises(NeighbourUnavailable, match="no thread to call sqs: can't start new thread"):
                    await called(neighbours, "sqs", "GetQueueUrl", {"QueueName": "q"})
        await called(neighbours, "sqs", "GetQueueUrl", {"QueueName": "q"})

    with answering(200, b"{}") as server:
        asyncio.run(scenario(server.url))


def test_clients_are_kept_but_not_without_bound() -> None:
    async def scenario(url: str) -> None:
        neighbours = sqs_at(url)
        for number in [*range(CLIENTS + 3), 5]:
            account_id = f"{number:012d}"
            await neighbours.call("sqs", "GetQueueUrl", {"QueueName": "q"}, account_id=account_id, region=REGION)
        kept = [account_id for _, _, account_id in neighbours._clients]
        assert kept == [f"{number:012d}" for number in [3, 4, *range(6, CLIENTS + 3), 5]]

    with answering(200, b"{}") as server:
        asyncio.run(scenario(server.url))


_STOPPING = """
import asyncio, sys
from lambdad.adapters.neighbours import AwsNeighbours
from lambdad.domain.settings import NeighbourEndpoint

async def main():
    neighbours = AwsNeighbours({"sqs": NeighbourEndpoint(sys.argv[1])}, read_timeout_s=3600)
    caller = {"account_id": "0" * 12, "region": "us-east-1"}
    call = asyncio.create_task(neighbours.call("sqs", "GetQueueUrl", {"QueueName": "q"}, **caller))
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    await neighbours.close()

assert "botocore.session" not in sys.modules
asyncio.run(main())
assert "botocore.session" in sys.modules
"""


def test_a_call_that_hangs_does_not_keep_the_process() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(30)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        process = subprocess.Popen([sys.executable, "-c", _STOPPING, url], stdin=subprocess.PIPE)
        try:
            connection, _ = listener.accept()
            with connection:
                assert connection.recv(1)
                process.communicate(b"\n", timeout=30)
        finally:
            process.kill()
            process.wait()
    assert process.returncode == 0
