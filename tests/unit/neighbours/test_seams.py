"""What moto does beyond a service: functions are the daemon's, and events are not moto's business."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from botocore.exceptions import ClientError

from unit.neighbours.child_process import ACCOUNT_ID, REGION, Child

ROLE = f"arn:aws:iam::{ACCOUNT_ID}:role/r"
FUNCTION = f"arn:aws:lambda:{REGION}:{ACCOUNT_ID}:function:f"
DONE_S = 20.0


class Daemon:
    """In the daemon's place: has a function `f`, which answers what `function` does, and notes what it is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, Any]] = []
        self.function: Callable[[Any], Any] = lambda event: event
        daemon = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._answer()

            def do_POST(self) -> None:
                self._answer()

            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                document = json.loads(body) if body else None
                path = unquote(urlsplit(self.path).path)
                account_id = self.headers["Authorization"].partition("Credential=")[2].split("/")[0]
                daemon.asked.append((account_id, path, document))
                headers = {"Content-Type": "application/json"}
                if path.endswith("/configuration"):
                    known = "function:f/" in path
                    answer = {"FunctionName": "f"} if known else {"Message": "there is no such function"}
                    headers |= {} if known else {"x-amzn-ErrorType": "ResourceNotFoundException"}
                    self.send_response(200 if known else 404)
                else:
                    answer = daemon.function(document)
                    if isinstance(answer, Exception):
                        headers["X-Amz-Function-Error"] = "Unhandled"
                        answer = {"errorType": type(answer).__name__, "errorMessage": str(answer)}
                    self.send_response(200)
                said = json.dumps(answer).encode()
                for name, value in {**headers, "Content-Length": str(len(said))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(said)

            def log_message(self, format: str, *arguments: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def events(self) -> list[Any]:
        """What the function was invoked with."""
        return [event for _, path, event in self.asked if path.endswith("/invocations")]


@pytest.fixture(scope="module")
def proxy() -> Iterator[None]:
    """The environment names a proxy, which is not there: the way to the daemon must not lead through it."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("http_proxy", "http://127.0.0.1:9")
        environment.delenv("no_proxy", raising=False)
        environment.delenv("NO_PROXY", raising=False)
        yield


@pytest.fixture(scope="module")
def running(proxy: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Child, Daemon]]:
    daemon = Daemon()
    try:
        with Child(tmp_path_factory.mktemp("seams"), "--endpoint-url", daemon.url) as child:
            yield child, daemon
    finally:
        daemon.close()


@pytest.fixture
def child(running: tuple[Child, Daemon]) -> Child:
    return running[0]


@pytest.fixture
def daemon(running: tuple[Child, Daemon]) -> Daemon:
    running[1].asked.clear()
    running[1].function = lambda event: event
    return running[1]


def ended(client: Any, execution: str) -> dict[str, Any]:
    """The execution when it has ended."""
    until = time.monotonic() + DONE_S
    while (described := client.describe_execution(executionArn=execution))["status"] == "RUNNING":
        assert time.monotonic() < until
        time.sleep(0.02)
    result: dict[str, Any] = described
    return result


def machine(client: Any, name: str, resource: str, **state: Any) -> str:
    definition = {"StartAt": "Call", "States": {"Call": {"Type": "Task", "Resource": resource, "End": True, **state}}}
    made = client.create_state_machine(name=name, definition=json.dumps(definition), roleArn=ROLE)
    arn: str = made["stateMachineArn"]
    return arn


@pytest.mark.parametrize(
    ("name", "resource", "state"),
    [
        ("by-arn", FUNCTION, {}),
        (
            "by-integration",
            "arn:aws:states:::lambda:invoke",
            {"Parameters": {"FunctionName": FUNCTION, "Payload.$": "$"}, "OutputPath": "$.Payload"},
        ),
    ],
)
def test_a_state_machine_calls_a_function(
    child: Child, daemon: Daemon, name: str, resource: str, state: dict[str, Any]
) -> None:
    daemon.function = lambda event: {"got": event}
    states = child.client("stepfunctions")
    started = states.start_execution(stateMachineArn=machine(states, name, resource, **state), input='{"n": 1}')
    outcome = ended(states, started["executionArn"])
    assert outcome["status"] == "SUCCEEDED"
    assert json.loads(outcome["output"]) == {"got": {"n": 1}}
    assert [account_id for account_id, _, _ in daemon.asked] == [ACCOUNT_ID]


def test_a_function_that_fails_fails_its_task(child: Child, daemon: Daemon) -> None:
    daemon.function = lambda event: ValueError("no")
    states = child.client("stepfunctions")
    started = states.start_execution(stateMachineArn=machine(states, "failing", FUNCTION), input="{}")
    outcome = ended(states, started["executionArn"])
    assert (outcome["status"], outcome["error"]) == ("FAILED", "ValueError")


def test_a_function_of_an_execution_may_ask_the_same_process(child: Child, daemon: Daemon) -> None:
    queues = child.client("sqs")
    daemon.function = lambda event: {"queue": queues.create_queue(QueueName="of-the-function")["QueueUrl"]}
    states = child.client("stepfunctions")
    started = states.start_execution(stateMachineArn=machine(states, "asking", FUNCTION), input="{}")
    assert json.loads(ended(states, started["executionArn"])["output"])["queue"].endswith("/of-the-function")


def test_a_rotation_calls_its_function(child: Child, daemon: Daemon) -> None:
    """Which asks the same process: it would wait for ever, were the worker held meanwhile."""
    secrets = child.client("secretsmanager")
    secrets.create_secret(Name="rotated", SecretString="old")

    def rotate(event: Any) -> None:
        if event["Step"] == "createSecret":
            secrets.put_secret_value(
                SecretId=event["SecretId"],
                ClientRequestToken=event["ClientRequestToken"],
                SecretString="new",
                VersionStages=["AWSPENDING"],
            )

    daemon.function = rotate
    secrets.rotate_secret(SecretId="rotated", RotationLambdaARN=FUNCTION)
    steps = [event["Step"] for event in daemon.events]
    assert steps == ["createSecret", "setSecret", "testSecret", "finishSecret"]
    assert secrets.get_secret_value(SecretId="rotated")["SecretString"] == "new"


def test_a_rotation_by_a_function_that_does_not_exist(child: Child, daemon: Daemon) -> None:
    secrets = child.client("secretsmanager")
    secrets.create_secret(Name="kept", SecretString="old")
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        secrets.rotate_secret(SecretId="kept", RotationLambdaARN=f"{FUNCTION}-that-is-not-there")
    assert daemon.events == []


def test_a_custom_resource_calls_its_function(child: Child, daemon: Daemon) -> None:
    called = threading.Event()
    daemon.function = lambda event: called.set()
    template = {"Resources": {"Mine": {"Type": "Custom::Thing", "Properties": {"ServiceToken": FUNCTION, "Size": "1"}}}}
    stacks = child.client("cloudformation")
    stacks.create_stack(StackName="with-custom", TemplateBody=json.dumps(template))
    assert called.wait(DONE_S)
    (event,) = daemon.events
    assert event["ResourceProperties"]["Size"] == "1"
    response_url = urlsplit(event["ResponseURL"])
    assert f"{response_url.scheme}://{response_url.netloc}" == daemon.url
    answer = {
        "Status": "SUCCESS",
        "PhysicalResourceId": "p",
        "StackId": event["StackId"],
        "RequestId": event["RequestId"],
        "LogicalResourceId": "Mine",
        "Data": {},
    }
    path = f"{response_url.path}?{response_url.query}"
    assert child.send("PUT", path, "cloudformation", json.dumps(answer)).status == 200
    assert stacks.describe_stacks(StackName="with-custom")["Stacks"][0]["StackStatus"] == "CREATE_COMPLETE"


def test_moto_sends_no_events_of_s3(child: Child) -> None:
    queue = child.client("sqs").create_queue(QueueName="events")["QueueUrl"]
    storage = child.client("s3")
    storage.create_bucket(Bucket="noisy", CreateBucketConfiguration={"LocationConstraint": REGION})
    arn = f"arn:aws:sqs:{REGION}:{ACCOUNT_ID}:events"
    storage.put_bucket_notification_configuration(
        Bucket="noisy",
        NotificationConfiguration={"QueueConfigurations": [{"QueueArn": arn, "Events": ["s3:ObjectCreated:*"]}]},
    )
    storage.put_object(Bucket="noisy", Key="k", Body=b"x")
    assert "Messages" not in child.client("sqs").receive_message(QueueUrl=queue)


def test_nothing_but_the_daemon_is_called(child: Child, daemon: Daemon) -> None:
    streams = child.client("firehose")
    destination = {
        "EndpointConfiguration": {"Url": daemon.url},
        "S3Configuration": {"RoleARN": ROLE, "BucketARN": "arn:aws:s3:::noisy"},
    }
    streams.create_delivery_stream(DeliveryStreamName="outwards", HttpEndpointDestinationConfiguration=destination)
    with pytest.raises(ClientError):
        streams.put_record(DeliveryStreamName="outwards", Record={"Data": b"x"})
    assert daemon.asked == []


def test_managed_policies_are_there_and_regions_are_any(child: Child) -> None:
    policies = child.client("iam").get_policy(PolicyArn="arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess")
    assert policies["Policy"]["PolicyName"] == "AmazonS3ReadOnlyAccess"
    assert child.client("sqs", region="local").create_queue(QueueName="q")["QueueUrl"]


def test_a_query_finds_what_it_found_before(child: Child) -> None:
    tables = child.client("dynamodb")
    text, number = {"AttributeType": "S"}, {"AttributeType": "N"}
    for name, keys in (("simple", ["id"]), ("sorted", ["id", "n"])):
        tables.create_table(
            TableName=name,
            KeySchema=[
                {"AttributeName": key, "KeyType": kind} for key, kind in zip(keys, ("HASH", "RANGE"), strict=False)
            ],
            AttributeDefinitions=[{"AttributeName": "id", **text}, {"AttributeName": "n", **number}][: len(keys)],
            BillingMode="PAY_PER_REQUEST",
        )
        for identity in ("a", "b"):
            for place in (3, 1, 2):
                tables.put_item(TableName=name, Item={"id": {"S": identity}, "n": {"N": str(place)}})

    def found(name: str, condition: str, **values: Any) -> list[str]:
        named = {f":{key}": value for key, value in values.items()}
        answer = tables.query(
            TableName=name, KeyConditionExpression=condition, ExpressionAttributeValues=named, ScanIndexForward=False
        )
        return [item["id"]["S"] + item["n"]["N"] for item in answer["Items"]]

    assert found("simple", "id = :i", i={"S": "a"}) == ["a2"]
    assert found("sorted", "id = :i", i={"S": "a"}) == ["a3", "a2", "a1"]
    assert found("sorted", "id = :i AND n < :n", i={"S": "b"}, n={"N": "3"}) == ["b2", "b1"]
    assert found("sorted", "id = :i", i={"S": "c"}) == []
    assert len(tables.scan(TableName="sorted")["Items"]) == 6


def test_the_counts_of_a_queue_are_right(child: Child) -> None:
    """Which are not made while messages are sent and received."""
    queues = child.client("sqs")
    queue = queues.create_queue(QueueName="counted", Attributes={"VisibilityTimeout": "60"})["QueueUrl"]
    for delay_s in (0, 0, 0, 900):
        queues.send_message(QueueUrl=queue, MessageBody="x", DelaySeconds=delay_s)
    assert len(queues.receive_message(QueueUrl=queue)["Messages"]) == 1
    counts = queues.get_queue_attributes(QueueUrl=queue, AttributeNames=["All"])["Attributes"]
    names = ("", "NotVisible", "Delayed")
    assert [counts[f"ApproximateNumberOfMessages{name}"] for name in names] == ["2", "1", "1"]


def test_messages_are_deleted_by_any_handle_they_had(child: Child) -> None:
    queues = child.client("sqs")
    queue = queues.create_queue(QueueName="deleting", Attributes={"VisibilityTimeout": "0"})["QueueUrl"]
    for body in ("first", "second"):
        queues.send_message(QueueUrl=queue, MessageBody=body)
    received = [queues.receive_message(QueueUrl=queue)["Messages"][0] for _ in range(2)]
    assert [each["Body"] for each in received] == ["first", "first"]
    for each in (*received, received[0]):
        queues.delete_message(QueueUrl=queue, ReceiptHandle=each["ReceiptHandle"])
    (left,) = queues.receive_message(QueueUrl=queue, MaxNumberOfMessages=10)["Messages"]
    assert left["Body"] == "second"
    with pytest.raises(ClientError, match="ReceiptHandleIsInvalid"):
        queues.delete_message(QueueUrl=queue, ReceiptHandle="nobody's")
