"""The command blocks that people learn Lambda from, as they are written, through bash and the real AWS CLI."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from api_calls import new_account
from daemons import Daemon, zip_of

BASIC_FUNCTION_MANAGEMENT = r"""
# Create function
aws lambda create-function \
  --function-name my-function \
  --runtime python3.9 \
  --role arn:aws:iam::account:role/lambda-role \
  --handler lambda_function.lambda_handler \
  --zip-file fileb://function.zip \
  --description "My Lambda function"

# Update function code
aws lambda update-function-code \
  --function-name my-function \
  --zip-file fileb://function.zip

# Update function configuration
aws lambda update-function-configuration \
  --function-name my-function \
  --timeout 300 \
  --memory-size 256

# Invoke function
aws lambda invoke \
  --function-name my-function \
  --payload '{"key": "value"}' \
  response.json

# List functions
aws lambda list-functions

# Get function configuration
aws lambda get-function-configuration \
  --function-name my-function

# Delete function
aws lambda delete-function \
  --function-name my-function
"""

ENVIRONMENT_VARIABLES = r"""
# Update environment variables
aws lambda update-function-configuration \
  --function-name my-function \
  --environment Variables='{
    "ENV": "production",
    "DB_HOST": "rds-endpoint.amazonaws.com",
    "API_KEY": "encrypted-key"
  }'

# Get environment variables
aws lambda get-function-configuration \
  --function-name my-function \
  --query Environment.Variables
"""

VERSIONING_AND_ALIASES = r"""
# Publish version
aws lambda publish-version \
  --function-name my-function \
  --description "Version 1.0"

# Create alias
aws lambda create-alias \
  --function-name my-function \
  --name PROD \
  --function-version 1

# Update alias
aws lambda update-alias \
  --function-name my-function \
  --name PROD \
  --function-version 2

# List versions
aws lambda list-versions-by-function \
  --function-name my-function

# List aliases
aws lambda list-aliases \
  --function-name my-function
"""

# The guide has an SQS queue as the destination; here it is a function, which needs no other service.
ASYNCHRONOUS_INVOCATION = r"""
aws lambda put-function-event-invoke-config \
  --function-name my-function \
  --maximum-event-age-in-seconds 3600 \
  --maximum-retry-attempts 0

aws lambda update-function-event-invoke-config \
  --function-name my-function \
  --destination-config '{"OnFailure":{"Destination": "DESTINATION"}}'

aws lambda get-function-event-invoke-config \
  --function-name my-function

aws lambda list-function-event-invoke-configs \
  --function-name my-function

aws lambda delete-function-event-invoke-config \
  --function-name my-function

aws lambda put-function-recursion-config \
  --function-name my-function \
  --recursive-loop Allow

aws lambda get-function-recursion-config \
  --function-name my-function
"""

INVOKE_ASYNC = r"""
aws lambda invoke-async \
  --function-name my-function \
  --invoke-args event.json
"""

DEPLOY_VIA_AWS_CLI = r"""
aws lambda create-function \
  --function-name myLambda \
  --runtime python3.9 \
  --handler lambda_function.lambda_handler \
  --role arn:aws:iam::123456789012:role/myLambdaRole \
  --zip-file fileb://function.zip
"""

MINIMAL_PYTHON_EXAMPLE = r"""
import json
def handler(event, context):
    return {"statusCode": 200, "body": json.dumps({"ok": True})}
"""

# `<ACCOUNT_ID>` stands for the reader's account.
ZIP_AND_CREATE = r"""
zip function.zip app.py
aws lambda create-function \
  --function-name hello-lambda \
  --runtime python3.11 \
  --handler app.handler \
  --zip-file fileb://function.zip \
  --role arn:aws:iam::<ACCOUNT_ID>:role/lambda-exec-role
"""

INVOKE_TEST = r"""
aws lambda invoke --function-name hello-lambda out.json
cat out.json
"""

BASIC_HANDLER = """
import json
import logging

logger = logging.getLogger()
logger.setLevel(logging.INFO)

def lambda_handler(event, context):
    logger.info(f"Received event: {json.dumps(event)}")

    return {
        'statusCode': 200,
        'body': json.dumps({
            'message': 'Hello from Lambda!',
            'request_id': context.aws_request_id
        })
    }
"""

# https://docs.aws.amazon.com/lambda/latest/dg/permissions-function-services.html
# https://docs.aws.amazon.com/lambda/latest/dg/permissions-function-cross-account.html
RESOURCE_BASED_POLICY = r"""
aws lambda add-permission \
  --function-name my-function \
  --action lambda:InvokeFunction \
  --statement-id s3-account \
  --principal s3.amazonaws.com \
  --source-arn arn:aws:s3:::amzn-s3-demo-bucket \
  --source-account 111122223333

aws lambda add-permission \
  --function-name my-function:prod \
  --statement-id xaccount \
  --action lambda:InvokeFunction \
  --principal 111122223333 \
  --output text
"""

GET_POLICY = r"""
aws lambda get-policy \
  --function-name my-function \
  --output text
"""

REMOVE_PERMISSION = r"""
aws lambda remove-permission \
  --function-name my-function \
  --statement-id s3-account
"""


CONCURRENCY_MANAGEMENT = r"""
# Set reserved concurrency
aws lambda put-provisioned-concurrency-config \
  --function-name my-function \
  --qualifier PROD \
  --provisioned-concurrency-limit 100

# Get concurrency configuration
aws lambda get-provisioned-concurrency-config \
  --function-name my-function \
  --qualifier PROD

# Delete reserved concurrency
aws lambda delete-provisioned-concurrency-config \
  --function-name my-function \
  --qualifier PROD
"""


class Terminal:
    """bash in a directory of its own, with the AWS CLI of an account of its own."""

    def __init__(self, daemon: Daemon, directory: Path) -> None:
        self.directory = directory
        self.account_id = new_account()
        self.client = daemon.client("lambda", account_id=self.account_id)
        self._environ = {**daemon.cli_environ(), "AWS_ACCESS_KEY_ID": self.account_id}

    def run(self, block: str) -> list[Any]:
        """Run a block, which must succeed from its first command to its last; returns what it printed as JSON."""
        text = self.run_text(block)
        documents, at = [], 0
        while text[at:].strip():
            at += len(text[at:]) - len(text[at:].lstrip())
            document, at = json.JSONDecoder().raw_decode(text, at)
            documents.append(document)
        return documents

    def start(self, block: str) -> subprocess.CompletedProcess[str]:
        """Run a block up to the first command that fails."""
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block],
            cwd=self.directory,
            env=self._environ,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def run_text(self, block: str) -> str:
        """Run a block, which must succeed; returns what it printed."""
        done = self.start(block)
        if "is not installed on this machine" in done.stderr:
            pytest.skip(done.stderr.strip().rpartition(": The ")[2])
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout


@pytest.fixture
def terminal(shared_daemon: Daemon, tmp_path: Path) -> Terminal:
    if shutil.which("aws", path=shared_daemon.cli_environ()["PATH"]) is None:
        pytest.skip("the AWS CLI (aws) is not installed")
    return Terminal(shared_daemon, tmp_path)


def put_package(terminal: Terminal, source: str = BASIC_HANDLER) -> None:
    (terminal.directory / "function.zip").write_bytes(zip_of({"lambda_function.py": source}))


def test_basic_function_management(terminal: Terminal) -> None:
    put_package(terminal)
    created, code, configured, invoked, listed, got, deleted = terminal.run(BASIC_FUNCTION_MANAGEMENT)
    assert created["FunctionArn"] == f"arn:aws:lambda:us-east-1:{terminal.account_id}:function:my-function"
    assert created["Role"] == f"arn:aws:iam::{terminal.account_id}:role/lambda-role"
    assert (created["Runtime"], created["Description"]) == ("python3.9", "My Lambda function")
    assert (created["Timeout"], created["MemorySize"]) == (3, 128)
    assert code["CodeSha256"] == created["CodeSha256"]
    assert (configured["Timeout"], configured["MemorySize"]) == (300, 256)
    assert invoked == {"StatusCode": 200, "ExecutedVersion": "$LATEST"}
    response = json.loads((terminal.directory / "response.json").read_text())
    assert response["statusCode"] == 200
    assert json.loads(response["body"])["message"] == "Hello from Lambda!"
    assert [function["FunctionName"] for function in listed["Functions"]] == ["my-function"]
    assert got == configured
    assert deleted == {"StatusCode": 204}
    assert terminal.client.list_functions()["Functions"] == []


def test_environment_variables_then_versioning_and_aliases(terminal: Terminal) -> None:
    put_package(terminal)
    terminal.run(BASIC_FUNCTION_MANAGEMENT.partition("# Update function code")[0])
    variables = {"ENV": "production", "DB_HOST": "rds-endpoint.amazonaws.com", "API_KEY": "encrypted-key"}

    # The CLI itself does not take JSON after `Variables=`, whatever it talks to; it takes the whole parameter as JSON.
    refused = terminal.start(ENVIRONMENT_VARIABLES)
    assert refused.stderr.strip().startswith("Error parsing parameter '--environment': Expected: '=', received: '\"'")
    as_json = ENVIRONMENT_VARIABLES.replace("Variables='{", '\'{"Variables": {', 1).replace("}'", "}}'", 1)
    updated, got = terminal.run(as_json)
    assert updated["Environment"]["Variables"] == variables
    assert got == variables

    # The block moves its alias on to a version 2, so there must be a version 1 that differs from what it publishes.
    terminal.run("aws lambda publish-version --function-name my-function")
    terminal.run("aws lambda update-function-configuration --function-name my-function --timeout 10")
    published, created, moved, versions, aliases = terminal.run(VERSIONING_AND_ALIASES)
    assert (published["Version"], published["Description"]) == ("2", "Version 1.0")
    assert (created["FunctionVersion"], moved["FunctionVersion"]) == ("1", "2")
    arn = f"arn:aws:lambda:us-east-1:{terminal.account_id}:function:my-function"
    assert created["AliasArn"] == moved["AliasArn"] == f"{arn}:PROD"
    assert [version["FunctionArn"] for version in versions["Versions"]] == [f"{arn}:$LATEST", f"{arn}:1", f"{arn}:2"]
    assert aliases["Aliases"] == [moved]


def test_asynchronous_invocation(terminal: Terminal) -> None:
    put_package(terminal)
    create = BASIC_FUNCTION_MANAGEMENT.partition("# Update function code")[0]
    terminal.run(create)
    (other,) = terminal.run(create.replace("my-function", "other"))
    destination = other["FunctionArn"]
    put, updated, got, listed, allowed, recursion = terminal.run(
        ASYNCHRONOUS_INVOCATION.replace("DESTINATION", destination)
    )
    modified = put.pop("LastModified")
    assert put == {
        "FunctionArn": f"arn:aws:lambda:us-east-1:{terminal.account_id}:function:my-function:$LATEST",
        "MaximumRetryAttempts": 0,
        "MaximumEventAgeInSeconds": 3600,
        "DestinationConfig": {"OnSuccess": {}, "OnFailure": {}},
    }
    assert updated.pop("LastModified") > modified
    assert updated == {**put, "DestinationConfig": {"OnSuccess": {}, "OnFailure": {"Destination": destination}}}
    assert listed["FunctionEventInvokeConfigs"] == [got]
    assert {name: value for name, value in got.items() if name != "LastModified"} == updated
    assert allowed == recursion == {"RecursiveLoop": "Allow"}

    (terminal.directory / "event.json").write_text('{"key": "value"}')
    assert terminal.run(INVOKE_ASYNC) == [{"Status": 202}]


def test_concurrency_management(terminal: Terminal) -> None:
    put_package(terminal)
    terminal.run(BASIC_FUNCTION_MANAGEMENT.partition("# Update function code")[0].replace("python3.9", "python3.11"))
    terminal.run("aws lambda publish-version --function-name my-function")
    terminal.run("aws lambda create-alias --function-name my-function --name PROD --function-version 1")

    # The flag of the guide is not one that the CLI ever had, in either of its versions: it asks for the right one.
    refused = terminal.start(CONCURRENCY_MANAGEMENT)
    assert refused.returncode in (2, 252)
    last_line = refused.stderr.strip().splitlines()[-1]
    assert last_line == "aws: error: the following arguments are required: --provisioned-concurrent-executions"

    block = CONCURRENCY_MANAGEMENT.replace(
        "--provisioned-concurrency-limit 100", "--provisioned-concurrent-executions 2"
    )
    put, got = terminal.run(block)
    assert (put["RequestedProvisionedConcurrentExecutions"], put["Status"]) == (2, "IN_PROGRESS")
    assert got["LastModified"] == put["LastModified"]
    left = terminal.run("aws lambda list-provisioned-concurrency-configs --function-name my-function")
    assert left == [{"ProvisionedConcurrencyConfigs": []}]


def test_resource_based_policy(terminal: Terminal) -> None:
    put_package(terminal)
    terminal.run(BASIC_FUNCTION_MANAGEMENT.partition("# Update function code")[0])
    terminal.run("aws lambda publish-version --function-name my-function")
    terminal.run("aws lambda create-alias --function-name my-function --name prod --function-version 1")
    added, for_alias = terminal.run(RESOURCE_BASED_POLICY)
    arn = f"arn:aws:lambda:us-east-1:{terminal.account_id}:function:my-function"
    of_bucket = json.loads(added["Statement"])
    assert of_bucket == {
        "Sid": "s3-account",
        "Effect": "Allow",
        "Principal": {"Service": "s3.amazonaws.com"},
        "Action": "lambda:InvokeFunction",
        "Resource": arn,
        "Condition": {
            "StringEquals": {"AWS:SourceAccount": "111122223333"},
            "ArnLike": {"AWS:SourceArn": "arn:aws:s3:::amzn-s3-demo-bucket"},
        },
    }
    assert for_alias == {
        "Sid": "xaccount",
        "Effect": "Allow",
        "Principal": {"AWS": "arn:aws:iam::111122223333:root"},
        "Action": "lambda:InvokeFunction",
        "Resource": f"{arn}:prod",
    }
    policy, revision_id = terminal.run_text(GET_POLICY).split("\t")
    assert json.loads(policy) == {"Version": "2012-10-17", "Id": "default", "Statement": [of_bucket]}
    assert revision_id.strip() == terminal.client.get_function_configuration(FunctionName=arn)["RevisionId"]
    assert terminal.run(REMOVE_PERMISSION) == []
    assert "The resource you requested does not exist." in terminal.start(GET_POLICY).stderr


def test_deploy_via_aws_cli(terminal: Terminal) -> None:
    put_package(
        terminal,
        "def lambda_handler(event, context):\n"
        "    return {\n        'statusCode': 200,\n        'body': 'Hello from Lambda!'\n    }\n",
    )
    (created,) = terminal.run(DEPLOY_VIA_AWS_CLI)
    assert (created["FunctionName"], created["Role"]) == ("myLambda", "arn:aws:iam::123456789012:role/myLambdaRole")
    answer = terminal.client.invoke(FunctionName="myLambda")
    assert json.loads(answer["Payload"].read()) == {"statusCode": 200, "body": "Hello from Lambda!"}


def test_minimal_python_example(terminal: Terminal) -> None:
    if shutil.which("zip") is None:
        pytest.skip("zip is not installed")
    (terminal.directory / "app.py").write_text(MINIMAL_PYTHON_EXAMPLE)
    created = terminal.run_text(ZIP_AND_CREATE.replace("<ACCOUNT_ID>", terminal.account_id))
    assert f"arn:aws:iam::{terminal.account_id}:role/lambda-exec-role" in created
    invoked, out = terminal.run(INVOKE_TEST)
    assert invoked["StatusCode"] == 200
    assert out == {"statusCode": 200, "body": '{"ok": true}'}
