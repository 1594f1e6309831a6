"""Function URLs: their configurations, requests, answers and signatures, through boto3, the CLI and plain HTTP.

https://docs.aws.amazon.com/lambda/latest/dg/urls-configuration.html
"""

from __future__ import annotations

import base64
import json
import re
import socket
from urllib.parse import urlsplit

import pytest

from api_calls import refusal
from daemons import Daemon
from function_url_calls import FORBIDDEN, create_url, send, signed
from shells import Shell

MB = 1024 * 1024
ECHO = "def handler(event, context):\n    return event\n"
# Answers with the JSON of the request's body.
SAYS = """
import base64, json

def handler(event, context):
    if event["isBase64Encoded"]:
        return json.loads(base64.b64decode(event["body"]))
    return json.loads(event["body"])
"""


@pytest.fixture(scope="module")
def echo(functions, aws_lambda):
    """The URL of a function that answers with its event."""
    return create_url(aws_lambda, functions.python(ECHO))


@pytest.fixture(scope="module")
def says(functions, aws_lambda):
    """The URL of a function that answers with what it is sent."""
    return create_url(aws_lambda, functions.python(SAYS))


def says_of(url, document, method="POST"):
    return send(url, method, body=json.dumps(document))


# Configurations


def test_the_operations(functions, aws_lambda):
    name = functions.python(ECHO)
    arn = aws_lambda.get_function_configuration(FunctionName=name)["FunctionArn"]
    cors = {
        "AllowCredentials": True,
        "AllowHeaders": ["x-a"],
        "AllowMethods": ["GET", "*"],
        "AllowOrigins": ["https://www.example.com"],
        "ExposeHeaders": ["date"],
        "MaxAge": 86400,
    }
    created = aws_lambda.create_function_url_config(FunctionName=name, AuthType="NONE", Cors=cors)
    assert created["ResponseMetadata"]["HTTPStatusCode"] == 201
    assert re.fullmatch(r"http://[a-z0-9]{32}\.lambda-url\.us-east-1\.localhost:\d+/", created["FunctionUrl"])
    assert (created["FunctionArn"], created["AuthType"], created["InvokeMode"]) == (arn, "NONE", "BUFFERED")
    assert created["Cors"] == cors
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", created["CreationTime"])
    assert "LastModifiedTime" not in created
    got = aws_lambda.get_function_url_config(FunctionName=arn)
    assert got["LastModifiedTime"] == got["CreationTime"] == created["CreationTime"]
    updated = aws_lambda.update_function_url_config(
        FunctionName=name, AuthType="AWS_IAM", InvokeMode="RESPONSE_STREAM", Cors={}
    )
    assert (updated["AuthType"], updated["InvokeMode"]) == ("AWS_IAM", "RESPONSE_STREAM")
    assert updated["FunctionUrl"] == created["FunctionUrl"]
    assert updated["LastModifiedTime"] > updated["CreationTime"]
    assert "Cors" not in updated
    (listed,) = aws_lambda.list_function_url_configs(FunctionName=name)["FunctionUrlConfigs"]
    assert listed["FunctionUrl"] == created["FunctionUrl"]
    aws_lambda.delete_function_url_config(FunctionName=name)
    assert aws_lambda.list_function_url_configs(FunctionName=name)["FunctionUrlConfigs"] == []
    gone = refusal(aws_lambda.get_function_url_config, FunctionName=name)
    assert gone == ("ResourceNotFoundException", 404, "The resource you requested does not exist.")


def test_what_is_refused(functions, aws_lambda, unique):
    create = aws_lambda.create_function_url_config
    missing = ("ResourceNotFoundException", 404, "Function does not exist")
    assert refusal(create, FunctionName=unique(), AuthType="NONE") == missing
    name = functions.python(ECHO)
    arn = aws_lambda.get_function_configuration(FunctionName=name)["FunctionArn"]
    assert refusal(create, FunctionName=name, Qualifier="PROD", AuthType="NONE") == missing
    create(FunctionName=name, AuthType="NONE")
    assert refusal(create, FunctionName=name, AuthType="NONE") == (
        "ResourceConflictException",
        409,
        f"Failed to create function url config for [functionArn = {arn}]. Error message:  "
        "FunctionUrlConfig exists for this Lambda function",
    )
    refused = refusal(create, FunctionName=name, Qualifier="1", AuthType="NONE")
    assert (refused.code, "'qualifier' failed to satisfy constraint" in refused.message) == (
        "ValidationException",
        True,
    )
    refused = refusal(create, FunctionName=name, AuthType="SOME")
    assert (refused.code, "enum value set" in refused.message) == ("ValidationException", True)
    assert refusal(create, FunctionName=name, AuthType="NONE", Cors={"MaxAge": 86401}).code == "ValidationException"


def test_a_url_of_an_alias(functions, aws_lambda):
    name = functions.python("def handler(event, context):\n    return context.invoked_function_arn\n")
    aws_lambda.publish_version(FunctionName=name)
    aws_lambda.create_alias(FunctionName=name, Name="PROD", FunctionVersion="1")
    url = create_url(aws_lambda, name, Qualifier="PROD")
    assert send(url).json.endswith(f":function:{name}:PROD")
    assert send(create_url(aws_lambda, name)).json.endswith(f":function:{name}")
    aws_lambda.delete_alias(FunctionName=name, Name="PROD")
    assert (send(url).status, send(url).body) == (404, b'{"Message":null}')
    assert len(aws_lambda.list_function_url_configs(FunctionName=name)["FunctionUrlConfigs"]) == 1


def test_the_cli(functions, shared_daemon, tmp_path):
    name = functions.python(ECHO)
    shell = Shell(shared_daemon, tmp_path)
    created = shell.json(
        f"aws lambda create-function-url-config --function-name {name} --auth-type NONE --invoke-mode BUFFERED"
        """ --cors '{"AllowOrigins": ["*"], "MaxAge": 1}'"""
    )
    assert created["Cors"] == {"AllowOrigins": ["*"], "MaxAge": 1}
    url = created["FunctionUrl"]
    for options in (
        "--statement-id url --action lambda:InvokeFunctionUrl --function-url-auth-type NONE",
        "--statement-id invoke --action lambda:InvokeFunction --invoked-via-function-url",
    ):
        assert send(url).status == 403
        shell(f"aws lambda add-permission --function-name {name} --principal '*' {options}")
    resolved = f"{urlsplit(url).hostname}:{urlsplit(url).port}:127.0.0.1"
    event = shell.json(
        f"curl -sS -X POST --resolve {resolved} '{url}some/path?message=HelloWorld'"
        """ -H 'content-type: application/json' -d '{ "example": "test" }'"""
    )
    assert (event["rawPath"], event["queryStringParameters"], event["body"]) == (
        "/some/path",
        {"message": "HelloWorld"},
        '{ "example": "test" }',
    )


def test_a_url_survives_the_daemon(tmp_path, functions_of):
    with Daemon(tmp_path / "data") as daemon:
        functions = functions_of(daemon)
        name = functions.python(ECHO)
        url_id = urlsplit(create_url(functions.client, name)).hostname.split(".")[0]
        daemon.kill()
        daemon.start()
        client = daemon.client("lambda")
        url = client.get_function_url_config(FunctionName=name)["FunctionUrl"]
        assert urlsplit(url).hostname.split(".")[0] == url_id
        assert send(url).json["requestContext"]["apiId"] == url_id
        client.delete_function(FunctionName=name)
        assert send(url).status == 404


# Requests


def test_the_event(echo):
    headers = {
        "User-Agent": "agent",
        "Cookie": "a=1; b=2",
        "X-Many": "1",
        "x-many": "2",
        "Content-Type": "application/json",
    }
    answer = send(echo, "PUT", "/a%20b/c?p=1&q=%C3%BC&p=2", headers, body='{"x": 1}')
    event = answer.json
    host = urlsplit(echo).hostname
    assert (event["version"], event["routeKey"], event["rawPath"]) == ("2.0", "$default", "/a%20b/c")
    assert event["rawQueryString"] == "p=1&q=%C3%BC&p=2"
    assert event["queryStringParameters"] == {"p": "1,2", "q": "ü"}
    assert event["cookies"] == ["a=1", "b=2"]
    assert event["headers"]["x-many"] == "1,2"
    assert (event["body"], event["isBase64Encoded"]) == ('{"x": 1}', False)
    context = event["requestContext"]
    assert context["http"] == {
        "method": "PUT",
        "path": "/a%20b/c",
        "protocol": "HTTP/1.1",
        "sourceIp": "127.0.0.1",
        "userAgent": "agent",
    }
    assert (context["domainName"], context["domainPrefix"]) == (host, host.split(".")[0])
    assert context["requestId"] == answer.header("x-amzn-RequestId")
    assert answer.header("Content-Type") == "application/json"


def test_the_path_style(echo):
    url_id = urlsplit(echo).hostname.split(".")[0]
    port = urlsplit(echo).port
    event = send(f"http://127.0.0.1:{port}/", target=f"/_lambdad/urls/{url_id}/a/b?c=d").json
    assert (event["rawPath"], event["rawQueryString"]) == ("/a/b", "c=d")
    assert event["requestContext"]["domainName"] == urlsplit(echo).hostname
    assert send(f"http://127.0.0.1:{port}/", target=f"/_lambdad/urls/{url_id}").json["rawPath"] == "/"
    assert send(f"http://127.0.0.1:{port}/", target="/_lambdad/urls/nothing/").status == 404


def test_the_host_decides_and_not_the_path(echo, functions):
    name = functions.python(ECHO)
    for path in (f"/2015-03-31/functions/{name}/invocations", "/_lambdad/health", "/2015-03-31/functions/"):
        event = send(echo, "POST", path, body="{}").json
        assert event["rawPath"] == path


def test_a_binary_body_there_and_back(says, echo):
    data = bytes(range(256))
    event = send(echo, "POST", headers={"Content-Type": "image/png"}, body=data).json
    assert (base64.b64decode(event["body"]), event["isBase64Encoded"]) == (data, True)
    document = {
        "statusCode": 200,
        "headers": {"Content-Type": "image/png"},
        "body": base64.b64encode(data).decode(),
        "isBase64Encoded": True,
    }
    answer = says_of(says, document)
    assert (answer.header("Content-Type"), answer.body) == ("image/png", data)


def test_a_request_that_is_too_large(echo):
    answer = send(echo, "POST", headers={"Content-Type": "text/plain"}, body="x" * (6 * MB + 1))
    assert answer.status == 413
    assert answer.json["message"] == "Request must be smaller than 6291456 bytes for the InvokeFunction operation"


# Answers


def test_a_whole_answer(says):
    document = {
        "statusCode": 299,
        "headers": {"X-One": "1", "content-type": "text/html"},
        "cookies": ["a=1; Max-Age=1", "b=2"],
        "body": "<p>ü",
    }
    answer = says_of(says, document)
    assert (answer.status, answer.body) == (299, "<p>ü".encode())
    assert answer.all("Set-Cookie") == ["a=1; Max-Age=1", "b=2"]
    assert (answer.header("X-One"), answer.all("content-type")) == ("1", ["text/html"])
    assert answer.header("X-Amzn-Trace-Id").startswith("Root=1-")


@pytest.mark.parametrize("document", ["Hello, world!", {"message": "Hello, world!"}, [1, 2], None])
def test_an_inferred_answer(says, document):
    answer = says_of(says, document)
    assert (answer.status, answer.json, answer.header("Content-Type")) == (200, document, "application/json")


@pytest.mark.parametrize(
    "document",
    [
        {"statusCode": "no"},
        {"statusCode": 200, "body": {"a": 1}},
        {"statusCode": 200, "headers": {"a": "b\r\nInjected: c"}},
        {"statusCode": 200, "cookies": ["a=b\r\nInjected: c"]},
    ],
)
def test_an_answer_that_is_none(says, document):
    answer = says_of(says, document)
    assert (answer.status, answer.body, answer.header("Injected")) == (502, b"Internal Server Error", None)


def test_framing_is_not_the_functions(says):
    headers = {"Content-Length": "1", "Transfer-Encoding": "chunked", "Connection": "close"}
    answer = says_of(says, {"statusCode": 200, "headers": headers, "body": "whole"})
    assert (answer.body, answer.header("Transfer-Encoding"), answer.all("Content-Length")) == (b"whole", None, ["5"])


def test_failures(functions, aws_lambda):
    name = functions.python("import time\ndef handler(event, context):\n    exec(event['rawPath'][1:])\n", Timeout=1)
    url = create_url(aws_lambda, name)
    for path in ("/1/0", "/exit(1)", "/time.sleep(9)"):
        answer = send(url, target=path)
        assert (answer.status, answer.body) == (502, b"Internal Server Error")
    assert (send(url, target="/1").status, send(url, target="/1").json) == (200, None)
    aws_lambda.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
    answer = send(url)
    assert (answer.status, answer.json["Reason"]) == (429, "ReservedFunctionConcurrentInvocationLimitExceeded")


def test_head(echo):
    answer = send(echo, "HEAD")
    assert (answer.status, answer.body) == (200, b"")
    assert int(answer.header("Content-Length")) > 100


def test_a_browser_asks_first(functions, aws_lambda, log_of):
    """What a browser sends before and with `fetch(url, {method: "PUT", headers: {"X-Custom": "1"}})`."""
    name = functions.python("def handler(event, context):\n    return event['requestContext']['http']['method']\n")
    origin = "http://localhost:60905"
    cors = {"AllowOrigins": [origin], "AllowMethods": ["PUT"], "AllowHeaders": ["x-custom"], "MaxAge": 300}
    url = create_url(aws_lambda, name, Cors=cors)
    asked = {"Origin": origin, "Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "x-custom"}
    preflight = send(url, "OPTIONS", headers=asked)
    assert (preflight.status, preflight.body) == (200, b"")
    assert preflight.header("Access-Control-Allow-Origin") == origin
    assert preflight.header("Access-Control-Allow-Methods") == "PUT"
    assert preflight.header("Access-Control-Allow-Headers") == "x-custom"
    assert preflight.header("Access-Control-Max-Age") == "300"
    assert preflight.header("Vary") == "Origin"
    answer = send(url, "PUT", headers={"Origin": origin, "X-Custom": "1"})
    assert (answer.json, answer.header("Access-Control-Allow-Origin")) == ("PUT", origin)
    elsewhere = send(url, "OPTIONS", headers={**asked, "Origin": "https://elsewhere"})
    assert elsewhere.header("Access-Control-Allow-Origin") is None
    assert len([line for line in log_of(name) if line.startswith("START ")]) == 1  # of the PUT


def test_a_client_of_the_old_protocol(echo):
    parts = urlsplit(echo)
    with socket.create_connection(("127.0.0.1", parts.port), timeout=30) as connection:
        connection.sendall(f"GET /old HTTP/1.0\r\nHost: {parts.netloc}\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    event = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert event["requestContext"]["http"]["protocol"] == "HTTP/1.0"


# Signatures


@pytest.fixture(scope="module")
def guarded(functions, aws_lambda):
    return create_url(aws_lambda, functions.python(ECHO), "AWS_IAM")


def test_a_signature_is_needed_and_verified(guarded):
    answer = send(guarded)
    assert (answer.status, answer.json, answer.header("x-amzn-ErrorType")) == (403, FORBIDDEN, "AccessDeniedException")
    answer = signed(f"{guarded}a/b?c=d")
    assert answer.status == 200
    assert answer.json["requestContext"]["authorizer"]["iam"]["accessKey"] == "test"
    assert signed(f"{guarded}?c=d", presigned=True, method="GET", body=b"").status == 200
    answer = signed(guarded, secret="wrong")
    assert (answer.status, answer.header("x-amzn-ErrorType")) == (403, "InvalidSignatureException")
    assert "signature we calculated does not match" in answer.json["message"]
    answer = signed(guarded, key="AKIAIOSFODNN7EXAMPLE")
    assert (answer.status, answer.header("x-amzn-ErrorType")) == (403, "UnrecognizedClientException")


def test_another_account_needs_permission(functions, aws_lambda):
    name = functions.python(ECHO)
    url = create_url(aws_lambda, name, "AWS_IAM")
    assert signed(url, "111111111111").json == FORBIDDEN
    aws_lambda.add_permission(
        FunctionName=name,
        StatementId="url",
        Action="lambda:InvokeFunctionUrl",
        Principal="111111111111",
        FunctionUrlAuthType="AWS_IAM",
    )
    aws_lambda.add_permission(
        FunctionName=name,
        StatementId="invoke",
        Action="lambda:InvokeFunction",
        Principal="111111111111",
        InvokedViaFunctionUrl=True,
    )
    assert signed(url, "111111111111").json["requestContext"]["authorizer"]["iam"]["accountId"] == "111111111111"


def test_keys_of_the_embedded_iam_and_sts(shared_daemon, guarded, unique):
    iam, sts = shared_daemon.client("iam"), shared_daemon.client("sts")
    name = unique()
    iam.create_user(UserName=name)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    answer = signed(guarded, key["AccessKeyId"], key["SecretAccessKey"])
    assert answer.json["requestContext"]["authorizer"]["iam"]["userArn"].endswith(f":user/{name}")
    assert signed(guarded, key["AccessKeyId"], "test").status == 403
    role = sts.assume_role(RoleArn="arn:aws:iam::000000000000:role/r", RoleSessionName="session")["Credentials"]
    keys = role["AccessKeyId"], role["SecretAccessKey"]
    answer = signed(guarded, *keys, role["SessionToken"])
    assert answer.json["requestContext"]["authorizer"]["iam"]["userArn"].endswith(":assumed-role/r/session")
    assert signed(guarded, *keys).status == 403


def test_a_function_calls_a_url_with_its_own_keys(functions, guarded):
    caller = functions.python(
        "import os\n"
        "def handler(event, context):\n"
        "    names = 'AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY', 'AWS_SESSION_TOKEN'\n"
        "    return [os.environ[name] for name in names]\n"
    )
    key, secret, token = functions.invoke(caller).payload
    answer = signed(guarded, key, secret, token)
    identity = answer.json["requestContext"]["authorizer"]["iam"]
    assert identity["userArn"].endswith(f":assumed-role/lambda-role/{caller}")
    assert signed(guarded, key, secret).header("x-amzn-ErrorType") == "UnrecognizedClientException"
