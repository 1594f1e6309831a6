"""Events beside the samples of AWS's guides: what they are compared by, and what they come from and go to.

A sample is as AWS's page has it. What differs from one event to the next is named with the format that the sample's
value and ours both have, or with the value that ours must be; everything else must be equal.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from daemons import Daemon, create_python
from neighbours import Queue
from queued_events import await_lines

ACCOUNT, REGION = "000000000000", "us-east-1"
PRINTS = """
import json

def handler(event, context):
    print("Event: " + json.dumps(event))
"""

SECONDS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
MILLISECONDS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-z]{4}){3}-[0-9a-f]{12}")
MD5 = re.compile(r"[0-9a-f]{32}")
SEQUENCER = re.compile(r"[0-9A-Fa-f]{16,18}")
VERSION_ID = re.compile(r"[0-9A-Za-z._-]{32,36}")
IP_ADDRESS = re.compile(r"(\d{1,3}\.){3}\d{1,3}")
SIGNATURE = re.compile(r"[A-Za-z0-9+/.]+={0,2}")
TOKEN = re.compile(r"[0-9a-f]{192,}")
CERTIFICATE = re.compile(r"https?://.+/SimpleNotificationService-[0-9a-f]{32}\.pem")
# Ours are of the embedded S3, longer; events and answers have the same.
REQUEST_ID = re.compile(r"[0-9A-Za-z]{16,52}")
HOST_ID = re.compile(r"[A-Za-z0-9+/]{64,76}={0,2}")
PRINCIPAL = re.compile(r"(AWS:)?[0-9A-Z]+")
CUSTOMER = re.compile(r"A[0-9A-Za-z]{13,}")
EXECUTION_ID = re.compile(r"[0-9a-f]{16}")


def assert_like(found: Any, sample: Any, varying: Mapping[str, Any], path: str = "") -> None:
    """Compare with a sample. `varying` has formats and values by the ends of paths, the most exact first."""
    assert type(found) is type(sample), path
    if isinstance(sample, dict):
        assert found.keys() == sample.keys(), path
        for key, value in sample.items():
            assert_like(found[key], value, varying, f"{path}.{key}")
        return
    expected = next((each for end, each in varying.items() if path.endswith(f".{end}")), sample)
    if isinstance(expected, re.Pattern):
        assert expected.fullmatch(sample), f"{path}: {sample!r} of the sample has another format"
        assert expected.fullmatch(found), f"{path}: {found!r}"
    elif isinstance(sample, list) and expected is sample:
        assert len(found) == len(sample), path
        for one, other in zip(found, sample, strict=True):
            assert_like(one, other, varying, path)
    else:
        assert found == expected, path


class Source:
    """Makes what events come from and go to, all of one name, in the shared daemon."""

    def __init__(self, daemon: Daemon, name: str) -> None:
        self.daemon, self.name = daemon, name
        self.queue = Queue(daemon.client("sqs"), name)
        self.function_arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}"

    def client(self, service: str) -> Any:
        return self.daemon.client(service)

    def make_function(self, service: str, source: str = PRINTS) -> None:
        """A function that prints its events, and lets a service in."""
        functions = self.client("lambda")
        create_python(functions, self.name, source)
        functions.add_permission(
            FunctionName=self.name,
            StatementId=service,
            Action="lambda:InvokeFunction",
            Principal=f"{service}.amazonaws.com",
        )

    def got(self, seconds: float = 60.0) -> Any:
        """The one event that the function got."""
        (line,) = await_lines(self.daemon, self.name, "Event: ", 1, seconds)
        return json.loads(line.removeprefix("Event: "))

    def make_bucket(self, *, versioned: bool = True) -> Any:
        """A bucket; returns the client."""
        s3 = self.client("s3")
        s3.create_bucket(Bucket=self.name)
        if versioned:
            s3.put_bucket_versioning(Bucket=self.name, VersioningConfiguration={"Status": "Enabled"})
        return s3

    def tell_queue(self, *events: str) -> dict[str, Any]:
        """Have the queue told of a bucket's events; returns the trial."""
        configuration = {"Id": "testConfigRule", "QueueArn": self.queue.arn, "Events": list(events)}
        self.client("s3").put_bucket_notification_configuration(
            Bucket=self.name, NotificationConfiguration={"QueueConfigurations": [configuration]}
        )
        (trial,) = self.queue.bodies(1)
        return dict(trial)

    def tell_event_bridge(self) -> None:
        """Have the queue told of what EventBridge is told of a bucket."""
        pattern = {"source": ["aws.s3"], "detail": {"bucket": {"name": [self.name]}}}
        self.make_rule(EventPattern=json.dumps(pattern))
        self.client("s3").put_bucket_notification_configuration(
            Bucket=self.name, NotificationConfiguration={"EventBridgeConfiguration": {}}
        )

    def make_rule(self, target_arn: str = "", **rule: Any) -> str:
        """A rule of the default bus with one target, the queue if no other is named; returns the rule's ARN."""
        events = self.client("events")
        arn = events.put_rule(Name=self.name, **rule)["RuleArn"]
        target = {"Id": "1", "Arn": target_arn or self.queue.arn}
        assert events.put_targets(Rule=self.name, Targets=[target])["FailedEntryCount"] == 0
        return str(arn)
