"""The commands of AWS's tutorials that connect functions to event sources, word for word, with both major versions of
the AWS CLI.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from api_calls import new_account
from daemons import Daemon, zip_of
from queued_events import awaited
from shells import Shell

# ruff: noqa: E501
HANDLER = """
import json
import urllib.parse

def lambda_handler(event, context):
    print("Event: " + json.dumps(event))
    return "done"
"""
FUNCTION = r"""
aws lambda create-function --function-name {name} --runtime python3.11 \
  --handler lambda_function.lambda_handler --zip-file fileb://function.zip \
  --role arn:aws:iam::{account}:role/lambda-role
"""

# https://docs.aws.amazon.com/lambda/latest/dg/with-s3-example.html and with-s3-tutorial.html
S3_TRIGGER = r"""
aws s3api create-bucket --bucket {bucket} --region us-east-1
aws lambda add-permission --function-name CreateThumbnail \
--principal s3.amazonaws.com --statement-id s3invoke --action "lambda:InvokeFunction" \
--source-arn arn:aws:s3:::{bucket} \
--source-account {account}
aws s3api put-bucket-notification-configuration --bucket {bucket} \
--notification-configuration file://notification.json
aws s3api put-object --bucket {bucket} --key HappyFace.jpg --body ./HappyFace.jpg
"""
S3_NOTIFICATION = """\
{
"LambdaFunctionConfigurations": [
    {
      "Id": "CreateThumbnailEventConfiguration",
      "LambdaFunctionArn": "arn:aws:lambda:us-east-1:123456789012:function:CreateThumbnail",
      "Events": [ "s3:ObjectCreated:Put" ]
    }
  ]
}
"""

# https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-run-lambda-schedule.html
SCHEDULE = r"""
aws events put-rule \
--name my-scheduled-rule \
--schedule-expression 'rate(5 minutes)'
aws lambda add-permission \
--function-name LogScheduledEvent \
--statement-id my-scheduled-event \
--action 'lambda:InvokeFunction' \
--principal events.amazonaws.com \
--source-arn arn:aws:events:us-east-1:{account}:rule/my-scheduled-rule
aws events put-targets --rule my-scheduled-rule --targets file://targets.json
"""
TARGETS = """\
[
  {
    "Id": "1",
    "Arn": "arn:aws:lambda:us-east-1:123456789012:function:LogScheduledEvent"
  }
]
"""

# https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-send-events-events.html and eb-log-ec2-instance-state.html
OWN_EVENTS = r"""
aws events put-rule --name "custom" --event-pattern "{{\"source\":[\"com.mycompany.myapp\"]}}"
aws lambda add-permission --function-name LogEvent --statement-id MyId --action 'lambda:InvokeFunction' --principal events.amazonaws.com --source-arn arn:aws:events:us-east-1:{account}:rule/custom
aws events put-targets --rule custom --targets "Id"="1","Arn"="arn:aws:lambda:us-east-1:{account}:function:LogEvent"
aws events put-events --entries file://entries.json
"""
ENTRIES = r"""
[
  {
    "Time": "2016-01-14T01:02:03Z",
    "Source": "com.mycompany.myapp",
    "Resources": [
      "resource1",
      "resource2"
    ],
    "DetailType": "myDetailType",
    "Detail": "{ \"key1\": \"value1\", \"key2\": \"value2\" }"
  }
]
"""

# https://docs.aws.amazon.com/lambda/latest/dg/with-sns-example.html
TOPIC = r"""
aws sns create-topic --name sns-topic-for-lambda
aws lambda add-permission --function-name Function-with-SNS \
    --source-arn arn:aws:sns:us-east-1:{account}:sns-topic-for-lambda \
    --statement-id function-with-sns --action "lambda:InvokeFunction" \
    --principal sns.amazonaws.com
aws sns subscribe --protocol lambda \
    --topic-arn arn:aws:sns:us-east-1:{account}:sns-topic-for-lambda \
    --notification-endpoint arn:aws:lambda:us-east-1:{account}:function:Function-with-SNS
aws sns publish --message file://message.txt --subject Test \
    --topic-arn arn:aws:sns:us-east-1:{account}:sns-topic-for-lambda
"""

# https://docs.aws.amazon.com/scheduler/latest/UserGuide/schedule-types.html
SCHEDULER = r"""
aws scheduler create-schedule --schedule-expression "cron(15 10 ? * 6L 2028-2031)" --name schedule-name \
--target '{{"RoleArn": "arn:aws:iam::{account}:role/r", "Arn": "arn:aws:lambda:us-east-1:{account}:function:f", "Input": "{{}}" }}' \
--schedule-expression-timezone "America/Los_Angeles" \
--flexible-time-window '{{ "Mode": "OFF" }}'
aws scheduler create-schedule --schedule-expression "at(2090-11-20T13:00:00)" --name schedule-once \
--target '{{"RoleArn": "arn:aws:iam::{account}:role/r", "Arn": "arn:aws:lambda:us-east-1:{account}:function:f", "Input": "{{}}" }}' \
--schedule-expression-timezone "America/Los_Angeles" \
--flexible-time-window '{{ "Mode": "OFF"}}'
aws scheduler create-schedule --name sqs-templated-schedule --schedule-expression 'rate(5 minutes)' --state DISABLED \
--target '{{"RoleArn": "arn:aws:iam::{account}:role/r", "Arn": "arn:aws:lambda:us-east-1:{account}:function:f" }}' \
--flexible-time-window '{{ "Mode": "FLEXIBLE", "MaximumWindowInMinutes": 15}}'
"""


def second_version() -> str:
    """The directory of an AWS CLI of version 2, or nothing."""
    for directory in os.get_exec_path():
        found = shutil.which("aws", path=directory)
        told = found and subprocess.run([found, "--version"], capture_output=True, text=True).stdout
        if told and told.startswith("aws-cli/2"):
            return directory
    return ""


class Tutorial:
    """A shell in an account of its own, in which `aws` is one version of the AWS CLI."""

    def __init__(self, daemon: Daemon, directory: Path, commands: str) -> None:
        self.account = new_account()
        self.shell = Shell(daemon, directory)
        self._begin = f"export AWS_ACCESS_KEY_ID={self.account}\n{commands}\n"

    def write(self, name: str, content: str) -> None:
        """A file of the tutorial, with this account in the place of AWS's example."""
        self.shell.write(name, content.replace("123456789012", self.account))

    def run(self, commands: str, **names: str) -> str:
        return self.shell(self._begin + commands.format(account=self.account, **names))

    def make_function(self, name: str) -> None:
        self.shell.write("function.zip", zip_of({"lambda_function.py": HANDLER}))
        self.run(FUNCTION, name=name)

    def got(self, name: str) -> Any:
        """The first event that a function has got, from its log by the command that the tutorials lead to."""
        command = f"aws logs filter-log-events --log-group-name /aws/lambda/{name} --filter-pattern Event --output json"

        def found() -> list[Any]:
            groups = json.loads(self.run("aws logs describe-log-groups --output json"))["logGroups"]
            if f"/aws/lambda/{name}" not in [group["logGroupName"] for group in groups]:
                return []
            return list(json.loads(self.run(command))["events"])

        return json.loads(awaited(found)[0]["message"].removeprefix("Event: "))


@pytest.fixture(params=["v1", "v2"])
def tutorial(request: pytest.FixtureRequest, shared_daemon: Daemon, tmp_path: Path) -> Tutorial:
    commands = ""
    if request.param == "v2":
        directory = second_version()
        if not directory:
            pytest.skip("there is no AWS CLI of version 2")
        # Its early releases do not know AWS_ENDPOINT_URL.
        commands = f'aws() {{ "{directory}/aws" --endpoint-url "$AWS_ENDPOINT_URL" "$@"; }}'
    return Tutorial(shared_daemon, tmp_path, commands)


def test_an_s3_trigger(tutorial: Tutorial, unique: Callable[[str], str]) -> None:
    bucket = unique("amzn-s3-demo-source")
    tutorial.make_function("CreateThumbnail")
    tutorial.write("notification.json", S3_NOTIFICATION)
    tutorial.shell.write("HappyFace.jpg", b"\xff\xd8")
    tutorial.run(S3_TRIGGER, bucket=bucket)
    (record,) = tutorial.got("CreateThumbnail")["Records"]
    assert (record["s3"]["bucket"]["name"], record["s3"]["object"]["key"]) == (bucket, "HappyFace.jpg")
    assert record["s3"]["configurationId"] == "CreateThumbnailEventConfiguration"


def test_a_scheduled_function(tutorial: Tutorial) -> None:
    tutorial.make_function("LogScheduledEvent")
    tutorial.write("targets.json", TARGETS)
    tutorial.run(SCHEDULE)
    arn = f"arn:aws:lambda:us-east-1:{tutorial.account}:function:LogScheduledEvent"
    named = json.loads(tutorial.run(f"aws events list-rule-names-by-target --target-arn {arn} --output json"))
    assert named["RuleNames"] == ["my-scheduled-rule"]
    rule = json.loads(tutorial.run("aws events describe-rule --name my-scheduled-rule --output json"))
    assert (rule["ScheduleExpression"], rule["State"]) == ("rate(5 minutes)", "ENABLED")
    listed = json.loads(tutorial.run("aws events list-targets-by-rule --rule my-scheduled-rule --output json"))
    assert listed["Targets"] == [{"Id": "1", "Arn": arn}]


def test_events_of_ones_own(tutorial: Tutorial) -> None:
    tutorial.make_function("LogEvent")
    tutorial.write("entries.json", ENTRIES)
    tutorial.run(OWN_EVENTS)
    event = tutorial.got("LogEvent")
    assert (event["time"], event["resources"]) == ("2016-01-14T01:02:03Z", ["resource1", "resource2"])
    assert event["detail"] == {"key1": "value1", "key2": "value2"}


def test_a_topic(tutorial: Tutorial) -> None:
    tutorial.make_function("Function-with-SNS")
    tutorial.write("message.txt", "Hello from the CLI")
    tutorial.run(TOPIC)
    (record,) = tutorial.got("Function-with-SNS")["Records"]
    assert (record["Sns"]["Subject"], record["Sns"]["Message"]) == ("Test", "Hello from the CLI")


def test_schedules_of_each_type(tutorial: Tutorial) -> None:
    tutorial.run(SCHEDULER)
    listed = json.loads(tutorial.run("aws scheduler list-schedules --name-prefix schedule- --output json"))
    assert [each["Name"] for each in listed["Schedules"]] == ["schedule-name", "schedule-once"]
    listed = json.loads(tutorial.run("aws scheduler list-schedules --state DISABLED --output json"))
    assert [each["Name"] for each in listed["Schedules"]] == ["sqs-templated-schedule"]
    pages = json.loads(tutorial.run("aws scheduler list-schedules --page-size 1 --output json"))
    assert len(pages["Schedules"]) == 3
    found = json.loads(tutorial.run("aws scheduler get-schedule --name sqs-templated-schedule --output json"))
    assert found["FlexibleTimeWindow"] == {"Mode": "FLEXIBLE", "MaximumWindowInMinutes": 15}


def test_rules_by_prefix_and_in_pages(tutorial: Tutorial) -> None:
    """https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_ListRules.html"""
    for name in ("other", "page-1", "page-2", "page-3"):
        tutorial.run(f'aws events put-rule --name {name} --event-pattern \'{{{{"source": ["a"]}}}}\' --state DISABLED')
    first = json.loads(tutorial.run("aws events list-rules --name-prefix page- --limit 2 --output json"))
    assert [rule["Name"] for rule in first["Rules"]] == ["page-1", "page-2"]
    token = first["NextToken"]
    rest = json.loads(
        tutorial.run(f"aws events list-rules --name-prefix page- --limit 2 --next-token '{token}' --output json")
    )
    assert [rule["Name"] for rule in rest["Rules"]] == ["page-3"]
    assert "NextToken" not in rest
