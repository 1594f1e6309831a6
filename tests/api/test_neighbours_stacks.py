"""CloudFormation among the embedded services: stacks of what is here, custom resources, and templates that are none."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from daemons import Daemon
from faults.processes import eventually

PROVIDER = """
import json
import urllib.request

def handler(event, context):
    if "fail" in event["ResourceProperties"]:
        answer = {"Status": "FAILED", "Reason": "as it was asked"}
    else:
        answer = {"Status": "SUCCESS", "Data": {"Greeting": "hello " + event["ResourceProperties"]["name"]}}
    answer["PhysicalResourceId"] = context.log_stream_name
    for name in ("StackId", "RequestId", "LogicalResourceId"):
        answer[name] = event[name]
    body = json.dumps(answer).encode()
    headers = {"content-type": "", "content-length": str(len(body))}
    request = urllib.request.Request(event["ResponseURL"], body, headers, method="PUT")
    urllib.request.urlopen(request, timeout=10).read()
"""


@pytest.fixture(scope="module")
def cloudformation(shared_daemon: Daemon) -> Any:
    return shared_daemon.client("cloudformation")


def template(*types: str, **properties: Any) -> str:
    resources = {f"R{number}": {"Type": each, "Properties": properties} for number, each in enumerate(types)}
    return json.dumps({"Resources": resources})


def status_of(cloudformation: Any, name: str) -> str:
    return str(cloudformation.describe_stacks(StackName=name)["Stacks"][0]["StackStatus"])


def test_a_stack_of_what_is_here(shared_daemon: Daemon, cloudformation: Any, unique: Callable[[str], str]) -> None:
    name = unique("stack")
    body = """
Resources:
  Bucket: {Type: "AWS::S3::Bucket"}
  Queue: {Type: "AWS::SQS::Queue"}
  Topic: {Type: "AWS::SNS::Topic"}
  Metadata: {Type: "AWS::CDK::Metadata"}
  Role:
    Type: AWS::IAM::Role
    Properties: {AssumeRolePolicyDocument: {Version: 2012-10-17, Statement: []}}
Outputs:
  Bucket: {Value: !Ref Bucket}
  Queue: {Value: !GetAtt Queue.Arn}
"""
    cloudformation.create_stack(StackName=name, TemplateBody=body)
    stack = cloudformation.describe_stacks(StackName=name)["Stacks"][0]
    outputs = {each["OutputKey"]: each["OutputValue"] for each in stack["Outputs"]}
    assert stack["StackStatus"] == "CREATE_COMPLETE"
    assert outputs["Queue"].startswith("arn:aws:sqs:us-east-1:000000000000:")
    shared_daemon.client("s3", s3={"addressing_style": "path"}).head_bucket(Bucket=outputs["Bucket"])
    cloudformation.delete_stack(StackName=name)
    with pytest.raises(ClientError, match="does not exist"):
        cloudformation.describe_stacks(StackName=name)


def test_a_custom_resource(cloudformation: Any, functions: Any, unique: Callable[[str], str]) -> None:
    arn = functions.client.get_function(FunctionName=functions.python(PROVIDER))["Configuration"]["FunctionArn"]
    resource = {"Type": "Custom::Greeting", "Properties": {"ServiceToken": arn, "name": "you"}}
    body = {
        "Resources": {"Greeting": resource},
        "Outputs": {"Greeting": {"Value": {"Fn::GetAtt": ["Greeting", "Greeting"]}}},
    }
    good, bad = unique("stack"), unique("stack")
    cloudformation.create_stack(StackName=good, TemplateBody=json.dumps(body))
    assert eventually(lambda: status_of(cloudformation, good) == "CREATE_COMPLETE")
    stack = cloudformation.describe_stacks(StackName=good)["Stacks"][0]
    assert stack["Outputs"][0]["OutputValue"] == "hello you"
    failing = template("AWS::CloudFormation::CustomResource", ServiceToken=arn, fail="yes")
    cloudformation.create_stack(StackName=bad, TemplateBody=failing)
    assert eventually(lambda: status_of(cloudformation, bad) == "CREATE_FAILED")
    events = cloudformation.describe_stack_events(StackName=bad)["StackEvents"]
    assert "as it was asked" in events[0]["ResourceStatusReason"]


REFUSED = {
    "a function": (template("AWS::Lambda::Function"), "Unrecognized resource types: [AWS::Lambda::Function]"),
    "a rule": (template("AWS::Events::Rule", "AWS::SQS::Queue"), "Unrecognized resource types: [AWS::Events::Rule]"),
    "what SAM makes": (template("AWS::Serverless::Function"), "Unrecognized resource types"),
    "nonsense": (template("AWS::Nonsense::Thing"), "Unrecognized resource types"),
    "no JSON": ('{"Resources": {', "Template format error"),
    "a word": ("word", "Template format error: unsupported structure."),
    "nothing": ("{}", "At least one Resources member must be defined."),
    "no type": ('{"Resources": {"A": {}}}', "Every Resource must have a Type"),
    "what is not there": (template("AWS::SQS::Queue", QueueName={"Ref": "Nobody"}), "Unresolved resource dependencies"),
    "Python": ('a: !!python/object/apply:os._exit [1]\nResources: {A: {Type: "A::B::C"}}', "Unrecognized resource"),
    "aliases": ('Resources: {A: &a {Type: "AWS::SQS::Queue"}, B: *a}', "YAML aliases are not allowed"),
    "a deep nest": ("[" * 20_000, "Template format error"),
}


@pytest.mark.parametrize(("body", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_a_template_that_is_none(cloudformation: Any, unique: Callable[[str], str], body: str, message: str) -> None:
    name = unique("stack")
    with pytest.raises(ClientError) as caught:
        cloudformation.create_stack(StackName=name, TemplateBody=body)
    assert caught.value.response["Error"]["Code"] == "ValidationError"
    assert message in caught.value.response["Error"]["Message"]
    with pytest.raises(ClientError, match="does not exist"):
        cloudformation.describe_stacks(StackName=name)
