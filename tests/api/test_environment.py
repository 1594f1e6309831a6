"""What a function finds around it: environment variables, its context, the AWS endpoint and credentials.

https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html
"""

from __future__ import annotations

import json
import re

import pytest
from botocore.exceptions import ClientError

SHOWS = """
import os, sys, time

def handler(event, context):
    return {
        "variables": dict(os.environ),
        "context": {
            "function_name": context.function_name,
            "function_version": context.function_version,
            "invoked_function_arn": context.invoked_function_arn,
            "memory_limit_in_mb": context.memory_limit_in_mb,
            "aws_request_id": context.aws_request_id,
            "log_group_name": context.log_group_name,
            "log_stream_name": context.log_stream_name,
            "client_context": context.client_context,
            "identity": [context.identity.cognito_identity_id, context.identity.cognito_identity_pool_id],
        },
        "remaining_ms": context.get_remaining_time_in_millis(),
        "zone": time.strftime("%Z %z"),
        "encodings": [sys.getdefaultencoding(), sys.stdout.encoding, sys.getfilesystemencoding()],
        "directory": os.getcwd(),
        "stdin": sys.stdin.read(),
    }
"""
CALLS = """
import json, os
import boto3

def handler(event, context):
    client = boto3.client("lambda")
    answer = client.invoke(FunctionName=event["name"], Payload=json.dumps(event["payload"]))
    return {
        "payload": json.load(answer["Payload"]),
        "status": answer["StatusCode"],
        "error": answer.get("FunctionError"),
        "functions": [
            each["FunctionName"]
            for page in client.get_paginator("list_functions").paginate()
            for each in page["Functions"]
        ],
        "region": client.meta.region_name,
        "endpoint": client.meta.endpoint_url,
    }
"""


@pytest.fixture(scope="module")
def shows(functions):
    return functions.python(
        SHOWS, MemorySize=256, Timeout=20, Environment={"Variables": {"GREETING": "grüß dich", "PATH_LIKE": "/a:/b"}}
    )


@pytest.fixture(scope="module")
def shown(functions, shows):
    return functions.invoke(shows)


def test_the_variables_that_lambda_sets(shown, shows, shared_daemon):
    variables = shown.payload["variables"]
    fixed = {
        "_HANDLER": "app.handler",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": shared_daemon.url,
        "AWS_EXECUTION_ENV": "AWS_Lambda_python3.11",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
        "AWS_LAMBDA_FUNCTION_NAME": shows,
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{shows}",
        "AWS_REGION": "us-east-1",
        "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
        "GREETING": "grüß dich",
        "LANG": "en_US.UTF-8",
        "PATH_LIKE": "/a:/b",
        "TZ": ":UTC",
    }
    assert {name: variables.get(name) for name in fixed} == fixed
    assert re.fullmatch(r"\d{4}/\d\d/\d\d/\[\$LATEST\][0-9a-f]{32}", variables["AWS_LAMBDA_LOG_STREAM_NAME"])
    assert re.fullmatch(r"ASIA[A-Z2-7]{16}", variables["AWS_ACCESS_KEY_ID"])
    assert len(variables["AWS_SECRET_ACCESS_KEY"]) == 40
    assert variables["AWS_SESSION_TOKEN"]
    assert variables["_X_AMZN_TRACE_ID"].startswith("Root=1-")
    task_root = variables["LAMBDA_TASK_ROOT"]
    assert shown.payload["directory"] == task_root
    assert variables["LD_LIBRARY_PATH"].split(":")[-3:] == [task_root, f"{task_root}/lib", "/opt/lib"]
    assert variables["PATH"].split(":")[-1] == "/opt/bin"


def test_no_variable_of_the_daemon_leaks(shown):
    variables = shown.payload["variables"]
    allowed = {"_HANDLER", "_X_AMZN_TRACE_ID", "GREETING", "PATH_LIKE", "LANG", "LD_LIBRARY_PATH", "PATH", "TZ"}
    allowed |= {"LAMBDA_TASK_ROOT", "LAMBDA_RUNTIME_DIR", "LC_CTYPE"}
    assert {name for name in variables if not name.startswith("AWS_")} <= allowed


def test_the_context(shown, shows):
    context = shown.payload["context"]
    assert context == {
        "function_name": shows,
        "function_version": "$LATEST",
        "invoked_function_arn": f"arn:aws:lambda:us-east-1:000000000000:function:{shows}",
        "memory_limit_in_mb": "256",
        "aws_request_id": shown.request_id,
        "log_group_name": f"/aws/lambda/{shows}",
        "log_stream_name": shown.payload["variables"]["AWS_LAMBDA_LOG_STREAM_NAME"],
        "client_context": None,
        "identity": [None, None],
    }
    assert 15_000 < shown.payload["remaining_ms"] <= 20_000


def test_time_is_utc_and_text_is_utf8(shown):
    assert shown.payload["zone"] == "UTC +0000"
    assert shown.payload["encodings"] == ["utf-8", "utf-8", "utf-8"]
    assert shown.payload["stdin"] == ""


def test_a_published_version_sees_itself(functions, aws_lambda, shows):
    version = aws_lambda.publish_version(FunctionName=shows)["Version"]
    payload = functions.invoke(shows, Qualifier=version).payload
    assert payload["variables"]["AWS_LAMBDA_FUNCTION_VERSION"] == version
    assert payload["context"]["function_version"] == version
    assert f"[{version}]" in payload["context"]["log_stream_name"]


def test_what_a_user_sets_goes_before_what_may_be_set(functions):
    variables = {"TZ": "Europe/Vienna", "LANG": "C.UTF-8", "PATH": "/my/bin", "AWS_ENDPOINT_URL": "http://192.0.2.1"}
    seen = functions.invoke(functions.python(SHOWS, Environment={"Variables": variables})).payload["variables"]
    assert {name: seen[name] for name in variables} == variables


@pytest.mark.parametrize("name", ["AWS_REGION", "_HANDLER", "AWS_LAMBDA_RUNTIME_API", "LAMBDA_TASK_ROOT"])
def test_reserved_variables_are_refused(functions, name):
    with pytest.raises(ClientError) as caught:
        functions.python(SHOWS, Environment={"Variables": {name: "mine"}})
    code = caught.value.response["Error"]["Code"]
    assert code in ("InvalidParameterValueException", "ValidationException")


# Calls to AWS from within


@pytest.fixture(scope="module")
def calls(functions):
    return functions.python(CALLS, Timeout=30, MemorySize=512)


def test_a_function_calls_another(functions, calls, shared_daemon):
    callee = functions.python("def handler(event, context):\n    return [event, context.invoked_function_arn]\n")
    answer = functions.invoke(calls, {"name": callee, "payload": {"a": 1}})
    assert answer.error is None, answer.raw
    arn = f"arn:aws:lambda:us-east-1:000000000000:function:{callee}"
    assert (answer.payload["payload"], answer.payload["status"]) == ([{"a": 1}, arn], 200)
    assert {calls, callee} <= set(answer.payload["functions"])
    assert (answer.payload["region"], answer.payload["endpoint"]) == ("us-east-1", shared_daemon.url)
    failing = functions.python("def handler(event, context):\n    raise ValueError('deep')\n")
    nested = functions.invoke(calls, {"name": failing, "payload": None}).payload
    assert (nested["error"], nested["payload"]["errorMessage"]) == ("Unhandled", "deep")


def test_a_function_calls_itself_in_another_environment(functions):
    name = functions.python(
        "import boto3, json\nclient = boto3.client('lambda')\ndef handler(event, context):\n    if event == 0:\n"
        "        return [context.log_stream_name]\n"
        "    answer = client.invoke(FunctionName=context.function_name, Payload=json.dumps(event - 1))\n"
        "    return json.load(answer['Payload']) + [context.log_stream_name]\n",
        Timeout=30,
    )
    streams = functions.invoke(name, 2).payload
    assert len(streams) == len(set(streams)) == 3


def test_a_function_belongs_to_its_own_account_and_region(shared_daemon, functions_of):
    client = shared_daemon.client("lambda", account_id="123456789012", region="eu-central-1")
    own = type(functions_of(shared_daemon))(client)
    source = CALLS.replace('event["name"]', 'context.function_name if event["payload"] else "nobody"')
    source = source.replace(
        "def handler(event, context):\n",
        "def handler(event, context):\n    if not event:\n        return os.environ['AWS_REGION']\n",
    ).replace('json.dumps(event["payload"])', '"0"')
    name = own.python(source, Timeout=30)
    payload = own.invoke(name, {"payload": 1}).payload
    assert payload["functions"] == [name]
    assert (payload["payload"], payload["region"]) == ("eu-central-1", "eu-central-1")
    arn = json.loads(own.invoke(own.python("def handler(e, c):\n    return c.invoked_function_arn\n")).raw)
    assert arn.startswith("arn:aws:lambda:eu-central-1:123456789012:function:")
