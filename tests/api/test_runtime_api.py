"""The Runtime API, called by a runtime that does as each test tells it.

https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
"""

from __future__ import annotations

import contextlib
import json
import re
import time

import pytest

from installed_runtimes import SYSTEM_PYTHON

MB = 1024 * 1024

# An event says which calls to make before the answer and after it. The answer is what the calls before it were answered
# with; the others are told at a door. `{id}` in a path is the id of the request; a body that is a number is so many
# bytes.
OBEDIENT = f"""#!{SYSTEM_PYTHON} -IS
import http.client, json, os, socket

ADDRESS = os.environ["AWS_LAMBDA_RUNTIME_API"]
BASE = "/2018-06-01/runtime"

class Client:
    def __init__(self):
        self.connection = http.client.HTTPConnection(ADDRESS)

    def call(self, method, path, body=None, headers=None):
        path = path if path.startswith("/") else BASE + "/" + path
        self.connection.request(method, path, body, headers or {{}}, encode_chunked=isinstance(body, list))
        return self.answer()

    def answer(self):
        answer = self.connection.getresponse()
        text = answer.read().decode()
        return {{"status": answer.status, "headers": dict(answer.getheaders()), "body": text}}

def stream(request_id, parts, trailers):
    host, port = ADDRESS.split(":")
    with socket.create_connection((host, int(port))) as connection:
        head = "POST %s/invocation/%s/response HTTP/1.1\\r\\nHost: x\\r\\nContent-Type: text/plain\\r\\n"
        head += "Lambda-Runtime-Function-Response-Mode: streaming\\r\\nTransfer-Encoding: chunked\\r\\n"
        head += "Trailer: Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body\\r\\n\\r\\n"
        data = (head % (BASE, request_id)).encode()
        for part in parts:
            data += b"%x\\r\\n%s\\r\\n" % (len(part), part.encode())
        lines = "".join("%s: %s\\r\\n" % tuple(each) for each in trailers)
        connection.sendall(data + b"0\\r\\n" + lines.encode() + b"\\r\\n")
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        return {{"status": answer.status, "headers": dict(answer.getheaders()), "body": answer.read().decode()}}

def body_of(body):
    if isinstance(body, int):
        return b'"' + b"x" * (body - 2) + b'"'
    return [part.encode() for part in body] if isinstance(body, list) else body

def knock(door, said=""):
    host, port = door.rsplit(":", 1)
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(said.encode() + b"\\n")
        connection.recv(1)

client, asked_on = Client(), None
while True:
    event = client.answer() if client is asked_on else client.call("GET", "invocation/next")
    asked_on = None
    request_id = event["headers"]["Lambda-Runtime-Aws-Request-Id"]
    task = json.loads(event["body"]) or {{}}

    def make(calls):
        return [
            client.call(method, path.replace("{{id}}", request_id), body_of(body), headers)
            for method, path, body, headers in calls
        ]

    before, after = make(task.get("before", [])), []
    if "stream" in task:
        after = [stream(request_id, task["stream"], task.get("trailers", []))]
    elif not task.get("answered"):
        answer = json.dumps({{"event": event, "before": before}})
        client.call("POST", "invocation/%s/response" % request_id, answer)
    after += make(task.get("after", []))
    if "tell" in task:
        knock(task["tell"], json.dumps(after))
    if "reconnect" in task:
        lost, client = client, Client()
        lost.connection.request("GET", BASE + "/invocation/next")
        client.call("GET", "")  # the daemon has seen the request when it has answered this one
        if task["reconnect"] == "closed":
            lost.connection.close()
            client.call("GET", "")
        asked_on = client
        client.connection.request("GET", BASE + "/invocation/next")
        Client().call("GET", "")
        knock(task["door"])
"""


@pytest.fixture(scope="module")
def obedient(functions):
    return functions.custom(OBEDIENT)


def call(method, path, body=None, headers=None):
    return [method, path, body, headers]


@pytest.fixture
def before(functions, obedient):
    """What the Runtime API answers to one call in the middle of an invocation."""

    def make(*arguments):
        answer = functions.invoke(obedient, {"before": [call(*arguments)]})
        assert answer.error is None, answer.raw
        return answer.payload["before"][0]

    return make


@pytest.fixture
def told(door):
    """What the Runtime API answered to the one call after the invocation's answer, and before the next request."""

    def hear():
        visitor = door.await_knock()
        visitor.let_in()
        (answer,) = json.loads(visitor.said)
        return answer

    return hear


@pytest.fixture
def after(functions, obedient, door, told):
    """What the Runtime API answers to one call at that moment."""

    def make(*arguments):
        assert functions.invoke(obedient, {"after": [call(*arguments)], "tell": door.address}).error is None
        return told()

    return make


def refusal(answer):
    return answer["status"], json.loads(answer["body"])["errorType"]


def test_next_brings_the_event_and_what_belongs_to_it(functions, obedient, aws_lambda):
    now_ms = time.time() * 1000
    sent = {"größe": [1, {"a": None}]}
    answer = functions.invoke(obedient, sent)
    event = answer.payload["event"]
    headers = {name.lower(): value for name, value in event["headers"].items()}
    arn = f"arn:aws:lambda:us-east-1:000000000000:function:{obedient}"
    assert event["status"] == 200
    assert json.loads(event["body"]) == sent
    assert headers["content-type"] == "application/json"
    assert headers["lambda-runtime-aws-request-id"] == answer.request_id
    assert headers["lambda-runtime-invoked-function-arn"] == arn
    assert 2000 < int(headers["lambda-runtime-deadline-ms"]) - now_ms < 6000
    assert re.fullmatch(
        r"Root=1-\w{8}-\w{24};Parent=\w{16};Sampled=0;Lineage=1:\w{8}:0", headers["lambda-runtime-trace-id"]
    )
    assert "lambda-runtime-client-context" not in headers


def test_next_brings_the_client_context(functions, obedient):
    answer = functions.invoke(obedient, {}, ClientContext="eyJjdXN0b20iOnsiYSI6ICLDpCJ9fQ==")
    context = answer.payload["event"]["headers"]["Lambda-Runtime-Client-Context"]
    assert json.loads(context) == {"custom": {"a": "ä"}}


def test_a_response_is_accepted_once(functions, obedient, after):
    answer = after("POST", "invocation/{id}/response", "2", {})
    assert refusal(answer) == (403, "InvalidStateTransition")
    task = {"before": [call("POST", "invocation/{id}/response", '"mine"')], "answered": True}
    assert functions.invoke(obedient, task).payload == "mine"


def test_what_an_accepted_response_is_answered_with(functions, obedient, door, told):
    calls = [call("POST", "invocation/{id}/response", '"mine"')]
    assert functions.invoke(obedient, {"answered": True, "after": calls, "tell": door.address}).payload == "mine"
    answer = told()
    assert (answer["status"], json.loads(answer["body"])) == (202, {"status": "OK"})


def test_a_response_is_passed_on_as_it_is(functions, obedient):
    task = {"answered": True, "before": [call("POST", "invocation/{id}/response", "not { json ä")]}
    assert functions.invoke(obedient, task).raw == "not { json ä".encode("latin-1")
    task = {"answered": True, "before": [call("POST", "invocation/{id}/response", "")]}
    assert functions.invoke(obedient, task).raw == b""


def test_a_chunked_response(functions, obedient):
    task = {"answered": True, "before": [call("POST", "invocation/{id}/response", ['{"a":', "1", "}"])]}
    task["before"][0][3] = {"Transfer-Encoding": "chunked"}
    assert functions.invoke(obedient, task).payload == {"a": 1}


def test_an_error_is_the_functions_error(functions, obedient):
    body = json.dumps({"errorMessage": "so it is", "errorType": "My.Error", "stackTrace": []})
    task = {"answered": True, "before": [call("POST", "invocation/{id}/error", body)]}
    answer = functions.invoke(obedient, task)
    assert (answer.status, answer.error, answer.raw.decode()) == (200, "Unhandled", body)


@pytest.mark.parametrize(
    ("headers", "body", "expected"),
    [
        ({"Lambda-Runtime-Function-Error-Type": "Runtime.Odd"}, '{"errorType": "Body.Type"}', "Runtime.Odd"),
        ({}, '{"errorType": "Runtime.Body"}', "Runtime.Body"),
        ({}, "no json at all", "Runtime.Unknown"),
    ],
)
def test_where_the_type_of_an_error_comes_from(functions, obedient, headers, body, expected):
    task = {"answered": True, "before": [call("POST", "invocation/{id}/error", body, headers)]}
    answer = functions.tail(obedient, task)
    assert (answer.error, answer.raw.decode()) == ("Unhandled", body)
    assert answer.log.endswith(f"\tStatus: error\tError Type: {expected}\n")


@pytest.mark.parametrize("what", ["response", "error"])
def test_an_id_of_no_current_request_is_refused(before, what):
    answer = before("POST", f"invocation/8476a536-e9f4-11e8-9739-2dfe598c3fcd/{what}", "{}")
    assert refusal(answer) == (400, "InvalidRequestID")


def test_the_id_of_an_earlier_request_is_refused(functions, obedient, before):
    earlier = functions.invoke(obedient).request_id
    assert refusal(before("POST", f"invocation/{earlier}/response", "{}")) == (400, "InvalidRequestID")


def test_next_during_an_invocation_is_refused(before):
    assert refusal(before("GET", "invocation/next")) == (403, "InvalidStateTransition")


def test_an_init_error_after_the_initialization_is_refused(before, after):
    assert refusal(before("POST", "init/error", "{}")) == (403, "InvalidStateTransition")
    assert refusal(after("POST", "init/error", "{}")) == (403, "InvalidStateTransition")


def test_a_response_that_is_too_large(functions, obedient, door, told):
    calls = [call("POST", "invocation/{id}/response", 7 * MB)]
    answer = functions.invoke(obedient, {"answered": True, "after": calls, "tell": door.address})
    assert (answer.error, answer.payload["errorType"]) == ("Unhandled", "Function.ResponseSizeTooLarge")
    assert refusal(told()) == (413, "RequestEntityTooLarge")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/2018-06-01/runtime/invocation", 404),
        ("POST", "/2018-06-01/runtime/invocation/{id}/nothing", 404),
        ("GET", "/2015-03-31/functions", 404),
        ("GET", "/2018-06-01/runtime/invocation/{id}/response", 405),
    ],
)
def test_other_paths_and_methods(before, method, path, status):
    assert before(method, path)["status"] == status


# Connections


@pytest.mark.parametrize("old", ["closed", "open"])
def test_a_runtime_that_asks_again_has_one_event_at_a_time(functions, door, background, old):
    """Its first request for the next event is forgotten, and the environment is not counted twice."""
    name = _reconnected(functions, door, old)
    answers = [background.start(functions.invoke, name, {}) for _ in range(4)]
    assert [answer.result().error for answer in answers] == [None] * 4
    ids = {answer.result().payload["event"]["headers"]["Lambda-Runtime-Aws-Request-Id"] for answer in answers}
    assert ids == {answer.result().request_id for answer in answers}


def _reconnected(functions, door, old):
    """A function that has asked again. It is frozen 10 ms after it asked first; on a busy machine another one tries."""
    for _ in range(20):
        name = functions.custom(OBEDIENT)
        functions.invoke(name, {"reconnect": old, "door": door.address})
        with contextlib.suppress(TimeoutError):
            door.await_knock(timeout_s=1.0).let_in()
            return name
    raise AssertionError("each was frozen before it could ask again")


# Streaming


def test_a_streamed_response(obedient, aws_lambda, door, told):
    payload = json.dumps({"stream": ["one ", "two"], "tell": door.address}).encode()
    events = list(aws_lambda.invoke_with_response_stream(FunctionName=obedient, Payload=payload)["EventStream"])
    assert b"".join(event["PayloadChunk"]["Payload"] for event in events[:-1]) == b"one two"
    assert events[-1] == {"InvokeComplete": {}}
    assert told()["status"] == 202


def test_trailers_tell_of_an_error_half_way(functions, obedient, aws_lambda):
    trailers = [
        ("Lambda-Runtime-Function-Error-Type", "My.Error"),
        ("Lambda-Runtime-Function-Error-Body", "eyJlcnJvck1lc3NhZ2UiOiAiaGFsZiB3YXkifQ=="),
    ]
    payload = json.dumps({"stream": ["one "], "trailers": trailers}).encode()
    events = list(aws_lambda.invoke_with_response_stream(FunctionName=obedient, Payload=payload)["EventStream"])
    assert events == [
        {"PayloadChunk": {"Payload": b"one "}},
        {"InvokeComplete": {"ErrorCode": "My.Error", "ErrorDetails": '{"errorMessage": "half way"}'}},
    ]
    answer = functions.invoke(obedient, Payload=payload)
    assert (answer.error, answer.payload) == ("Unhandled", {"errorMessage": "half way"})


# Initialization

REFUSES = f"""#!{SYSTEM_PYTHON} -IS
import http.client, json, os, sys
connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
body = json.dumps({{"errorMessage": "no luck", "errorType": "Body.Type"}})
connection.request("POST", "/2018-06-01/runtime/init/error", body, json.loads(os.environ["HEADERS"]))
answer = connection.getresponse()
print("told", answer.status, answer.read().decode(), flush=True)
sys.exit(1)
"""


@pytest.mark.parametrize(
    ("headers", "error_type"),
    [({"Lambda-Runtime-Function-Error-Type": "Runtime.NoLuck"}, "Runtime.NoLuck"), ({}, "Runtime.Unknown")],
)
def test_an_init_error(functions, headers, error_type, log_of):
    name = functions.custom(REFUSES, Environment={"Variables": {"HEADERS": json.dumps(headers)}})
    answer = functions.tail(name)
    assert (answer.error, answer.payload["errorMessage"]) == ("Unhandled", "no luck")
    log = "".join(log_of(name))
    assert f"\tPhase: init\tStatus: error\tError Type: {error_type}\n" in log
    assert f"\tPhase: invoke\tStatus: error\tError Type: {error_type}\n" in log
    assert answer.log.endswith(f"\tStatus: error\tError Type: {error_type}\n")
