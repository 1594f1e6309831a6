"""TestEventPattern, and the operations of the EventBridge API that are not there.

https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_TestEventPattern.html
"""

from __future__ import annotations

import http.client
import json
import subprocess
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.loaders import Loader
from botocore.model import ServiceModel

from api_calls import refusal
from daemons import Daemon
from lambdad.ingress.events_api import OPERATIONS

MODEL = ServiceModel(Loader().load_service_model("events", "service-2"), "events")

# The example of the AWS CLI's reference, as it is written there.
TEST_EVENT_PATTERN = r"""
aws events test-event-pattern --event-pattern "{\"source\":[\"com.mycompany.myapp\"]}" --event "{\"id\":\"1\",\"source\":\"com.mycompany.myapp\",\"detail-type\":\"myDetailType\",\"account\":\"123456789012\",\"region\":\"us-east-1\",\"time\":\"2017-04-11T20:11:04Z\"}"
"""  # noqa: E501 (one command is one line)

EVENT = {
    "id": "7bf73129-1428-4cd3-a780-95db273d1602",
    "detail-type": "EC2 Instance State-change Notification",
    "source": "aws.ec2",
    "account": "123456789012",
    "time": "2015-11-11T21:29:54Z",
    "region": "us-east-1",
    "resources": ["arn:aws:ec2:us-east-1:123456789012:instance/i-abcd1111"],
    "detail": {"instance-id": "i-abcd1111", "state": "pending"},
}


@pytest.fixture(scope="module")
def events(shared_daemon: Daemon) -> Any:
    return shared_daemon.client("events")


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ({"source": ["aws.ec2"], "detail": {"state": ["pending", "running"]}}, True),
        ({"source": ["aws.ec2"], "detail": {"state": [{"anything-but": "pending"}]}}, False),
        ({"$or": [{"source": ["aws.s3"]}, {"detail": {"instance-id": [{"wildcard": "i-*1"}]}}]}, True),
        ({"detail": {"error": [{"exists": False}]}, "resources": [{"suffix": "/i-abcd1111"}]}, True),
    ],
)
def test_an_event_matches_or_does_not(events: Any, pattern: Any, expected: bool) -> None:
    answer = events.test_event_pattern(EventPattern=json.dumps(pattern), Event=json.dumps(EVENT))
    assert answer["Result"] is expected


def test_resources_may_be_missing(events: Any) -> None:
    event = json.dumps({name: value for name, value in EVENT.items() if name not in ("resources", "detail")})
    assert events.test_event_pattern(EventPattern='{"source": ["aws.ec2"]}', Event=event)["Result"] is True


def test_an_invalid_pattern(events: Any) -> None:
    pattern = '{"detail": {"pipeline": {"slug": "some-pipeline"}}}'
    assert refusal(events.test_event_pattern, EventPattern=pattern, Event=json.dumps(EVENT)) == (
        "InvalidEventPatternException",
        400,
        'Event pattern is not valid. Reason: "slug" must be an object or an array',
    )
    with pytest.raises(events.exceptions.InvalidEventPatternException):
        events.test_event_pattern(EventPattern="[]", Event=json.dumps(EVENT))


@pytest.mark.parametrize(
    "event",
    [
        "",
        "{",
        "[]",
        '"text"',
        "[" * 100_000,
        *(
            json.dumps({name: value for name, value in EVENT.items() if name != missing})
            for missing in ("id", "account", "source", "time", "region", "detail-type")
        ),
    ],
    ids=["empty", "cut", "array", "text", "deep", "id", "account", "source", "time", "region", "detail-type"],
)
def test_an_invalid_event(events: Any, event: str) -> None:
    found = refusal(events.test_event_pattern, EventPattern='{"source": ["aws.ec2"]}', Event=event)
    assert found == ("ValidationException", 400, "Parameter Event is not valid.")


def test_a_pattern_has_4096_characters(events: Any) -> None:
    def padded(length: int) -> str:
        pattern = '{"source": ["aws.ec2"]}'
        return pattern + " " * (length - len(pattern))

    assert events.test_event_pattern(EventPattern=padded(4096), Event=json.dumps(EVENT))["Result"] is True
    found = refusal(events.test_event_pattern, EventPattern=padded(4097), Event=json.dumps(EVENT))
    assert (found.code, found.status) == ("ValidationException", 400)
    assert found.message.endswith("Member must have length less than or equal to 4096")


def test_the_command_of_the_reference(shared_daemon: Daemon) -> None:
    done = subprocess.run(
        ["bash", "-euc", TEST_EVENT_PATTERN],
        env=shared_daemon.cli_environ(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"Result": True}


def call_by_target(daemon: Daemon, operation: str, headers: dict[str, str]) -> tuple[int, Any]:
    connection = http.client.HTTPConnection(urlsplit(daemon.url).netloc, timeout=60)
    try:
        connection.request("POST", "/", b"{}", {"X-Amz-Target": f"AWSEvents.{operation}"} | headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def test_every_other_operation_is_declared_unsupported(shared_daemon: Daemon) -> None:
    scope = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/events/aws4_request"
    unsupported = set(MODEL.operation_names) - OPERATIONS.keys() - {"TestEventPattern"}
    assert {"CreateConnection", "CreateEndpoint", "PutPartnerEvents"} <= unsupported
    for operation in sorted(unsupported):
        status, document = call_by_target(shared_daemon, operation, {"Authorization": scope})
        assert (status, document["__type"]) == (501, "NotImplementedException"), operation
        assert document["message"] == f"The operation events:{operation} is not implemented by lambdad yet."


def test_an_unsigned_request_is_known_by_its_target(shared_daemon: Daemon) -> None:
    status, document = call_by_target(shared_daemon, "TestEventPattern", {})
    assert (status, document["__type"]) == (400, "ValidationException")
    status, document = call_by_target(shared_daemon, "NoSuchOperation", {})
    assert document["__type"] == "UnknownOperationException"
