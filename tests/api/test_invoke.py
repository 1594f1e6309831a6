"""Invoke: what goes in, what comes back, and what is refused.

https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html
"""

from __future__ import annotations

import base64
import json
import re
import socket
import subprocess
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError

MB = 1024 * 1024
ECHO = """
import json
def handler(event, context):
    return event
"""
FACTS = """
import os
def handler(event, context):
    client = context.client_context
    return {
        "request_id": context.aws_request_id,
        "version": context.function_version,
        "arn": context.invoked_function_arn,
        "custom": client and client.custom,
        "env": client and client.env,
        "app": client and client.client and client.client.app_title,
        "trace": os.environ["_X_AMZN_TRACE_ID"],
    }
"""
PRINTS = """
def handler(event, context):
    print("x" * event["characters"])
    print("the end")
"""


@pytest.fixture(scope="module")
def echo(functions):
    return functions.python(ECHO)


@pytest.fixture(scope="module")
def facts(functions):
    return functions.python(FACTS)


def refused(call, *arguments, **options):
    """The error code, HTTP status and message of a call that must be refused."""
    with pytest.raises(ClientError) as caught:
        call(*arguments, **options)
    error = caught.value.response
    return error["Error"]["Code"], error["ResponseMetadata"]["HTTPStatusCode"], error["Error"]["Message"]


@pytest.mark.parametrize(
    "event",
    [{}, None, True, 0, -1.5, "", "text", [], [1, [2, {"a": None}]], {"": 1}, {"größe": "日本語 🚀 \u0000 \u2028"}],
    ids=json.dumps,
)
def test_any_json_value_goes_through_and_back(functions, echo, event):
    answer = functions.invoke(echo, event)
    assert (answer.status, answer.error, answer.version) == (200, None, "$LATEST")
    assert answer.payload == event


def test_raw_utf8_goes_through_and_back(functions, echo):
    sent = json.dumps({"a": "żółć 🦆"}, ensure_ascii=False).encode()
    assert functions.invoke(echo, Payload=sent).payload == {"a": "żółć 🦆"}


def test_no_payload_is_an_empty_event(functions, echo, aws_lambda):
    assert functions.invoke(echo, Payload=b"").payload == {}
    assert json.load(aws_lambda.invoke(FunctionName=echo)["Payload"]) == {}


def test_the_answer_is_of_type_json(aws_lambda, echo):
    headers = aws_lambda.invoke(FunctionName=echo)["ResponseMetadata"]["HTTPHeaders"]
    assert headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    "payload",
    [b"{", b"hello", b'{"a": nope}', b'{"a":1}x', b"{'a': 1}", b"NaN", b'"\xff"', b"[" * 200_000, b" "],
    ids=lambda payload: repr(payload[:12]),
)
def test_a_payload_that_is_not_json_is_refused(functions, echo, payload):
    code, status, message = refused(functions.invoke, echo, Payload=payload)
    assert (code, status) == ("InvalidRequestContentException", 400)
    assert message.startswith("Could not parse request body into json")


def test_six_megabytes_go_through_and_back(functions, echo):
    event = "x" * (6 * MB - 2)
    assert functions.invoke(echo, event).payload == event


def test_a_larger_request_is_refused(functions, echo):
    code, status, message = refused(functions.invoke, echo, Payload=b'"' + b"x" * (6 * MB - 1) + b'"')
    assert (code, status) == ("RequestEntityTooLargeException", 413)
    assert "6291456 bytes" in message


def test_a_larger_response_is_an_error_of_the_function(functions):
    name = functions.python("def handler(event, context):\n    return 'x' * event\n")
    answer = functions.tail(name, 7 * MB)
    assert (answer.status, answer.error) == (200, "Unhandled")
    assert answer.payload == {
        "errorType": "Function.ResponseSizeTooLarge",
        "errorMessage": "Response payload size exceeded maximum allowed payload size (6291556 bytes).",
    }
    assert functions.invoke(name, 3).payload == "xxx"


def test_a_dry_run_runs_nothing(functions, unique, knock, door, background):
    name = functions.python(knock + "def handler(event, context):\n    knock(event, context.aws_request_id)\n")
    answer = functions.invoke(name, door.address, InvocationType="DryRun")
    assert (answer.status, answer.raw) == (204, b"")
    running = background.start(functions.invoke, name, door.address)
    first = door.await_knock()
    first.let_in()
    assert running.result().request_id == first.said
    assert refused(functions.invoke, unique(), InvocationType="DryRun")[:2] == ("ResourceNotFoundException", 404)


@pytest.mark.parametrize(("option", "member"), [("InvocationType", "invocationType"), ("LogType", "logType")])
def test_an_unknown_choice_is_refused(functions, echo, option, member):
    code, status, message = refused(functions.invoke, echo, **{option: "Sometimes"})
    assert (code, status) == ("ValidationException", 400)
    assert f"Value 'Sometimes' at '{member}' failed to satisfy constraint" in message


# Logs with the answer


def test_the_tail_of_the_log_comes_when_asked_for(functions, echo):
    assert functions.invoke(echo).log == ""
    answer = functions.tail(echo)
    assert f"START RequestId: {answer.request_id} Version: $LATEST\n" in answer.log
    assert f"END RequestId: {answer.request_id}\nREPORT RequestId: {answer.request_id}\t" in answer.log


def test_the_tail_is_four_kilobytes_of_the_end(functions):
    name = functions.python(PRINTS)
    short = functions.tail(name, {"characters": 10})
    assert "x" * 10 + "\nthe end\nEND" in short.log
    long = functions.tail(name, {"characters": 300_000})
    assert len(long.log) == 4096
    assert re.search(r"^x+\nthe end\nEND RequestId: \S+\nREPORT RequestId: .*\n$", long.log)


# Client context


def encoded(context):
    return base64.b64encode(context if isinstance(context, bytes) else json.dumps(context).encode()).decode()


def test_the_function_sees_the_client_context(functions, facts):
    context = {"custom": {"größe": "1"}, "env": {"locale": "de"}, "client": {"app_title": "shop"}}
    seen = functions.invoke(facts, ClientContext=encoded(context)).payload
    assert (seen["custom"], seen["env"], seen["app"]) == ({"größe": "1"}, {"locale": "de"}, "shop")
    assert functions.invoke(facts).payload["custom"] is None


@pytest.mark.parametrize("context", [b"not json", b"[1]", b'"text"', b"\xff"], ids=repr)
def test_a_client_context_that_is_no_object_is_refused(functions, facts, context):
    code, status, message = refused(functions.invoke, facts, ClientContext=encoded(context))
    assert (code, status) == ("InvalidRequestContentException", 400)
    assert message == "Client context must be a valid Base64-encoded JSON object."


def test_a_client_context_that_is_not_base64_is_refused(functions, facts):
    assert refused(functions.invoke, facts, ClientContext="{}")[:2] == ("InvalidRequestContentException", 400)


def test_a_client_context_is_at_most_3583_bytes(functions, facts):
    def of_size(size):
        return encoded({"custom": {"a": "x" * size}})

    fits = of_size(2664)
    assert 3576 <= len(fits) <= 3583
    assert functions.invoke(facts, ClientContext=fits).payload["custom"] == {"a": "x" * 2664}
    code, status, _ = refused(functions.invoke, facts, ClientContext=of_size(2670))
    assert (code, status) == ("InvalidRequestContentException", 400)


# Which version


def test_the_qualifier_chooses_the_version(functions, aws_lambda):
    name = functions.python("def handler(event, context):\n    return 'one', context.function_version\n")
    aws_lambda.publish_version(FunctionName=name)
    aws_lambda.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    functions.update_code(name, "def handler(event, context):\n    return 'two', context.function_version\n")

    answers = {
        qualifier: functions.invoke(name, **({"Qualifier": qualifier} if qualifier else {}))
        for qualifier in ("", "$LATEST", "1", "live")
    }
    assert {q: (a.version, a.payload) for q, a in answers.items()} == {
        "": ("$LATEST", ["two", "$LATEST"]),
        "$LATEST": ("$LATEST", ["two", "$LATEST"]),
        "1": ("1", ["one", "1"]),
        "live": ("1", ["one", "1"]),
    }
    aws_lambda.update_alias(FunctionName=name, Name="live", FunctionVersion="$LATEST")
    assert functions.invoke(name, Qualifier="live").payload == ["two", "$LATEST"]
    assert refused(functions.invoke, name, Qualifier="7")[:2] == ("ResourceNotFoundException", 404)
    assert refused(functions.invoke, name, Qualifier="gone")[:2] == ("ResourceNotFoundException", 404)


def test_a_name_may_be_an_arn_and_the_function_sees_what_was_invoked(functions, aws_lambda, facts):
    version = aws_lambda.publish_version(FunctionName=facts)["Version"]
    arn = f"arn:aws:lambda:us-east-1:000000000000:function:{facts}"
    seen = {
        form: functions.invoke(form).payload["arn"]
        for form in (facts, arn, f"000000000000:function:{facts}", f"{facts}:{version}", f"{arn}:$LATEST")
    }
    assert seen == {
        facts: arn,
        arn: arn,
        f"000000000000:function:{facts}": arn,
        f"{facts}:{version}": f"{arn}:{version}",
        f"{arn}:$LATEST": f"{arn}:$LATEST",
    }


def test_an_absent_function_is_not_found(functions, unique):
    name = unique()
    code, status, message = refused(functions.invoke, name)
    assert (code, status) == ("ResourceNotFoundException", 404)
    assert message == f"Function not found: arn:aws:lambda:us-east-1:000000000000:function:{name}"


# Ids


def test_the_request_id_is_the_same_everywhere(functions, facts, log_of):
    answer = functions.tail(facts)
    assert answer.payload["request_id"] == answer.request_id
    assert f"START RequestId: {answer.request_id} " in answer.log
    assert any(f"REPORT RequestId: {answer.request_id}\t" in line for line in log_of(facts))
    assert functions.invoke(facts).request_id != answer.request_id


def test_the_callers_trace_is_passed_on(shared_daemon, facts):
    client = shared_daemon.client("lambda")
    trace = "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=1"
    client.meta.events.register(
        "before-sign.lambda.Invoke", lambda request, **_: request.headers.add_header("X-Amzn-Trace-Id", trace)
    )
    answer = client.invoke(FunctionName=facts)
    assert json.load(answer["Payload"])["trace"].startswith(trace.split(";")[0])
    assert answer["ResponseMetadata"]["HTTPHeaders"]["x-amzn-trace-id"].startswith(trace.split(";")[0])


def test_a_qualifier_that_cannot_be_one_is_refused(functions, echo):
    constraint = "Member must satisfy regular expression pattern: \\$(LATEST(\\.PUBLISHED)?)|[a-zA-Z0-9-_$]+"
    assert refused(functions.invoke, echo, Qualifier="a b") == (
        "ValidationException",
        400,
        f"1 validation error detected: Value 'a b' at 'qualifier' failed to satisfy constraint: {constraint}",
    )
    message = refused(functions.invoke, echo, Qualifier="a" * 129)[2]
    assert message.endswith("Member must have length less than or equal to 128")


@pytest.mark.parametrize("payload", [b'"\\ud800"', b'{"a": "\\uDC00 and \\ud83d\\ude00"}'])
def test_the_escape_of_half_a_surrogate_pair_is_json(functions, echo, payload):
    assert functions.invoke(echo, Payload=payload).payload == json.loads(payload)


@pytest.mark.parametrize("payload", [b'["\\ud800", NaN]', b'"\\ud800', b'"\\ud800\xff"'])
def test_but_what_else_is_no_json_beside_one_is_refused(functions, echo, payload):
    assert refused(functions.invoke, echo, Payload=payload)[0] == "InvalidRequestContentException"


@pytest.mark.parametrize("kind", ["RequestResponse", "Event"])
def test_every_answer_has_the_trace(aws_lambda, echo, kind):
    answer = aws_lambda.invoke(FunctionName=echo, InvocationType=kind)
    assert answer["ResponseMetadata"]["HTTPHeaders"]["x-amzn-trace-id"].startswith("Root=1-")


def test_an_invocation_without_a_trace_gets_one(functions, facts):
    first, second = (functions.invoke(facts).payload["trace"] for _ in range(2))
    assert re.fullmatch(r"Root=1-[0-9a-f]{8}-[0-9a-f]{24};Parent=[0-9a-f]{16};Sampled=0;Lineage=1:[0-9a-f]{8}:0", first)
    assert first != second


# Errors that the function's own code makes


def test_an_exception_is_reported_with_its_trace(functions):
    name = functions.python("def handler(event, context):\n    raise KeyError('größe')\n")
    answer = functions.tail(name)
    assert (answer.status, answer.error) == (200, "Unhandled")
    assert {**answer.payload, "stackTrace": len(answer.payload["stackTrace"])} == {
        "errorMessage": "'größe'",
        "errorType": "KeyError",
        "requestId": answer.request_id,
        "stackTrace": 1,
    }
    assert re.fullmatch(r'  File ".*/app.py", line 2, in handler\n    raise .*\n', answer.payload["stackTrace"][0])
    assert "[ERROR] KeyError: 'größe'\nTraceback (most recent call last):\n" in answer.log
    assert re.search(r"REPORT .* MB\t(Init Duration: \S+ ms\t)?\n$", answer.log), "no Status: the platform did well"


@pytest.mark.parametrize(
    ("source", "handler", "error_type", "message"),
    [
        ("import nowhere_to_be_found", "app.handler", "Runtime.ImportModuleError", "No module named 'nowhere_to"),
        ("def handler(:", "app.handler", "Runtime.UserCodeSyntaxError", "Syntax error in module 'app'"),
        ("x = 1", "app.handler", "Runtime.HandlerNotFound", "Handler 'handler' missing on module 'app'"),
        ("x = 1", "app", "Runtime.MalformedHandlerName", "Bad handler 'app'"),
        ("x = 1", "other.handler", "Runtime.ImportModuleError", "Unable to import module 'other'"),
        ("raise ValueError('at import')", "app.handler", "ValueError", "at import"),
    ],
)
def test_code_that_cannot_be_loaded(functions, source, handler, error_type, message):
    name = functions.python(source + "\n", Handler=handler)
    for _ in range(2):
        answer = functions.tail(name)
        assert (answer.status, answer.error) == (200, "Unhandled")
        assert answer.payload["errorType"] == error_type
        assert message in answer.payload["errorMessage"]
        assert error_type in answer.log


def test_a_result_that_is_not_json(functions):
    name = functions.python("def handler(event, context):\n    return {1, 2}\n")
    answer = functions.invoke(name)
    assert (answer.error, answer.payload["errorType"]) == ("Unhandled", "Runtime.MarshalError")
    assert "set is not JSON serializable" in answer.payload["errorMessage"]


# Clients


def test_a_function_runs_on_when_its_caller_hangs_up(functions, shared_daemon, knock, door):
    name = functions.python(
        knock + "n = 0\ndef handler(event, context):\n    global n\n    n += 1\n"
        "    if event:\n        knock(event)\n        knock(event, 'after')\n    return n\n"
    )
    url = urlsplit(shared_daemon.url)
    body = json.dumps(door.address).encode()
    head = f"POST /2015-03-31/functions/{name}/invocations HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection((url.hostname, url.port)) as caller:
        caller.sendall(head.encode() + body)
        visitor = door.await_knock()
    visitor.let_in()
    again = door.await_knock()
    assert again.said == "after"
    again.let_in()
    assert functions.invoke(name).payload in (1, 2)  # 1 when it came before the environment was free


@pytest.fixture
def aws(shared_daemon, tmp_path):
    """Runs `aws lambda invoke`; returns what it printed and what it wrote."""

    def run(name, *arguments):
        out = tmp_path / "out.json"
        command = ["aws", "lambda", "invoke", "--function-name", name, *arguments, str(out)]
        ran = subprocess.run(command, env=shared_daemon.cli_environ(), capture_output=True, text=True, timeout=60)
        assert ran.returncode == 0, ran.stderr
        return json.loads(ran.stdout), out.read_bytes()

    return run


def test_the_aws_cli(echo, aws):
    shown, written = aws(echo, "--log-type", "Tail", "--payload", '{"a": "b"}')
    assert (shown["StatusCode"], shown["ExecutedVersion"]) == (200, "$LATEST")
    assert b"REPORT RequestId" in base64.b64decode(shown["LogResult"])
    assert json.loads(written) == {"a": "b"}


def test_the_aws_cli_shows_an_error_of_the_function(functions, aws):
    shown, written = aws(functions.python("def handler(event, context):\n    raise KeyError('gone')\n"))
    assert (shown["StatusCode"], shown["FunctionError"]) == (200, "Unhandled")
    assert json.loads(written)["errorType"] == "KeyError"
