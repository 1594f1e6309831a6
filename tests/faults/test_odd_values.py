"""Values that the service models hardly forbid, and that break programs: NULs, half characters, huge numbers."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from daemons import ROLE, Daemon, create_python, zip_of
from faults.calm import assert_calm
from faults.wire import Answer, Connection

ECHO = "import os\n\ndef handler(event, context):\n    return os.environ.get('ODD', event)\n"
FUNCTIONS = "/2015-03-31/functions"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("odd") / "data") as own:
        create_python(own.client("lambda"), "odd", ECHO, Publish=True)
        own.client("logs").create_log_group(logGroupName="odd")
        own.client("logs").create_log_stream(logGroupName="odd", logStreamName="s")
        yield own


@pytest.fixture(autouse=True)
def calm(daemon: Daemon) -> Iterator[None]:
    yield
    assert_calm(daemon)


def ask(daemon: Daemon, method: str, target: str, document: Any = None, **headers: str) -> Answer:
    """A request with a JSON document, which may hold half characters; 5 seconds for the answer."""
    body = b"" if document is None else json.dumps(document).encode("ascii")
    lines = [f"{method} {target} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    with Connection(daemon, patience_s=5.0) as connection:
        answer = connection.send("\r\n".join([*lines, "", ""]).encode("latin-1") + body).answer()
    assert b"Traceback" not in answer.body
    return answer


def ask_logs(daemon: Daemon, operation: str, document: Any) -> Answer:
    return ask(daemon, "POST", "/", document, X_Amz_Target=f"Logs_20140328.{operation}")


ODD_TEXTS = {
    "a NUL": "a\0b",
    "half a character": "\ud800",
    "the other half": "x\udfff",
    "noncharacters": "\ufffe\uffff",
    "a text direction override": "\u202eabc",
    "line breaks": "a\r\nb\nc",
    "an equals sign": "=",
    "emoji": "👩‍👩‍👧‍👦",
    "a format string": "%s%n{0}{x.__class__}",
    "many combining marks": "a" + "\u0300" * 200,
}


def in_utf8(text: str) -> str:
    """The text as UTF-8 holds it: half a character becomes a question mark."""
    return text.encode(errors="replace").decode()


@pytest.mark.parametrize("what", ODD_TEXTS)
@pytest.mark.parametrize("member", ["Description", "Environment", "Handler", "Tags", "LogGroup"])
def test_a_function_with_an_odd_text_is_refused_or_works(daemon, member, what, unique):
    name = unique()
    odd: dict[str, Any] = {
        "Description": ODD_TEXTS[what],
        "Environment": {"Variables": {"ODD": ODD_TEXTS[what]}},
        "Handler": f"app.{ODD_TEXTS[what]}",
        "Tags": {"key": ODD_TEXTS[what]},
        "LogGroup": None,
    }
    document = {
        "FunctionName": name,
        "Runtime": "python3.11",
        "Role": ROLE,
        "Handler": "app.handler",
        "Code": {"ZipFile": base64.b64encode(zip_of({"app.py": ECHO})).decode()},
        member: odd[member],
    }
    if member == "LogGroup":
        del document[member]
        document["LoggingConfig"] = {"LogGroup": ODD_TEXTS[what]}
    created = ask(daemon, "POST", FUNCTIONS, document)
    assert created.status in (201, 400), created.body
    if created.status == 400:
        return
    shown = ask(daemon, "GET", f"{FUNCTIONS}/{name}")
    assert shown.status == 200
    invoked = ask(daemon, "POST", f"{FUNCTIONS}/{name}/invocations", 1)
    assert invoked.status == 200, invoked.body
    if member == "Environment":
        assert invoked.json == in_utf8(ODD_TEXTS[what])
    elif member != "Handler":
        assert invoked.json == 1
    assert ask(daemon, "DELETE", f"{FUNCTIONS}/{name}").status == 204


HUGE = "9" * 30


@pytest.mark.parametrize(
    "target",
    [
        f"{FUNCTIONS}/odd?Qualifier={HUGE}",
        f"{FUNCTIONS}/odd?Qualifier=9223372036854775808",
        f"{FUNCTIONS}/odd?Qualifier=-1",
        f"{FUNCTIONS}/odd?Qualifier=007",
        f"{FUNCTIONS}/odd:{HUGE}",
        f"{FUNCTIONS}/odd?Qualifier=",
        f"{FUNCTIONS}/odd?Qualifier=a&Qualifier=b",
        f"{FUNCTIONS}/odd?Qualifier=%ff",
        f"{FUNCTIONS}/odd/aliases/{HUGE}",
        f"{FUNCTIONS}/odd/aliases?FunctionVersion={HUGE}",
        f"{FUNCTIONS}/odd/versions?Marker={base64.urlsafe_b64encode(f'odd:{HUGE}'.encode()).decode()}",
        f"{FUNCTIONS}/odd/versions?Marker={base64.urlsafe_b64encode(b'odd:-99').decode()}",
        f"{FUNCTIONS}/odd/versions?Marker={base64.urlsafe_b64encode(b'odd:x').decode()}",
        f"{FUNCTIONS}?Marker={base64.urlsafe_b64encode(f'odd:{HUGE}'.encode()).decode()}&FunctionVersion=ALL",
        f"{FUNCTIONS}?Marker=%00",
        f"{FUNCTIONS}?Marker=%f0%9f%98%80",
        f"{FUNCTIONS}?MaxItems={HUGE}",
        f"{FUNCTIONS}?MaxItems=0",
        f"{FUNCTIONS}?MaxItems=1e3",
        f"{FUNCTIONS}?MaxItems=%D9%A3",
        f"{FUNCTIONS}/odd/aliases?Marker={base64.urlsafe_b64encode(bytes([255, 254])).decode()}",
        f"/2017-03-31/tags/arn%3Aaws%3Alambda%3Aus-east-1%3A000000000000%3Afunction%3Aodd%3A{HUGE}",
        "/2017-03-31/tags/%00",
    ],
)
def test_odd_places_in_a_query_or_path(daemon, target):
    assert ask(daemon, "GET", target).status in (200, 400, 404)


ODD_NUMBERS = [0, -1, 2**31, 2**63, 10**30, 1.5, 1e308, -0.0, True, "1", None, [1], {}]


@pytest.mark.parametrize("number", ODD_NUMBERS, ids=repr)
def test_odd_numbers(daemon, number):
    for method, target, document in (
        ("PUT", "/2017-10-31/functions/odd/concurrency", {"ReservedConcurrentExecutions": number}),
        ("PUT", f"{FUNCTIONS}/odd/configuration", {"Timeout": number}),
        ("PUT", f"{FUNCTIONS}/odd/configuration", {"MemorySize": number}),
        ("PUT", f"{FUNCTIONS}/odd/configuration", {"EphemeralStorage": {"Size": number}}),
        (
            "POST",
            f"{FUNCTIONS}/odd/aliases",
            {"Name": "n", "FunctionVersion": "1", "RoutingConfig": {"AdditionalVersionWeights": {"1": number}}},
        ),
    ):
        assert ask(daemon, method, target, document).status in (200, 201, 400, 409)
    assert ask(daemon, "DELETE", "/2017-10-31/functions/odd/concurrency").status == 204
    for operation, document in (
        ("GetLogEvents", {"logGroupName": "odd", "logStreamName": "s", "startTime": number}),
        ("GetLogEvents", {"logGroupName": "odd", "logStreamName": "s", "endTime": number, "limit": number}),
        ("FilterLogEvents", {"logGroupName": "odd", "startTime": number, "endTime": number}),
        ("PutRetentionPolicy", {"logGroupName": "odd", "retentionInDays": number}),
        (
            "PutLogEvents",
            {"logGroupName": "odd", "logStreamName": "s", "logEvents": [{"timestamp": number, "message": "m"}]},
        ),
    ):
        assert ask_logs(daemon, operation, document).status in (200, 400)


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_odd_log_events_come_back(daemon, text, unique):
    stream = unique()
    assert ask_logs(daemon, "CreateLogStream", {"logGroupName": "odd", "logStreamName": stream}).status == 200
    events = [{"timestamp": int(time.time() * 1000), "message": ODD_TEXTS[text]}]
    put = {"logGroupName": "odd", "logStreamName": stream, "logEvents": events}
    assert ask_logs(daemon, "PutLogEvents", put).status == 200
    got = ask_logs(daemon, "GetLogEvents", {"logGroupName": "odd", "logStreamName": stream, "startFromHead": True})
    assert [event["message"] for event in got.json["events"]] == [in_utf8(ODD_TEXTS[text])]


@pytest.mark.parametrize(
    "token",
    ["", "f/1/s", f"f/{'9' * 56}/s", f"b/{'0' * 56}/s", "f/" + "x" * 56 + "/s", "\0", "😀", "A" * 5000, "MTox"],
)
def test_odd_tokens(daemon, token):
    for operation, document in (
        ("GetLogEvents", {"logGroupName": "odd", "logStreamName": "s", "nextToken": token}),
        ("FilterLogEvents", {"logGroupName": "odd", "nextToken": token}),
        ("DescribeLogGroups", {"nextToken": token}),
        ("DescribeLogStreams", {"logGroupName": "odd", "nextToken": token}),
        ("DescribeLogStreams", {"logGroupName": "odd", "nextToken": token, "orderBy": "LastEventTime"}),
    ):
        assert ask_logs(daemon, operation, document).status in (200, 400)


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer x",
        "AWS4-HMAC-SHA256 Credential=",
        "AWS4-HMAC-SHA256 Credential=a/b/c/d/aws4_request",
        "AWS4-HMAC-SHA256 Credential=x/20261121/us-east-1//aws4_request",
        "AWS4-HMAC-SHA256 Credential=x/20261121/us-east-1/nothing/aws4_request",
        "AWS4-HMAC-SHA256 Credential=x/20261121/../lambda/aws4_request",
        "AWS4-HMAC-SHA256 Credential=" + "x" * 30_000 + "/20261121/us-east-1/lambda/aws4_request",
        "AWS4-HMAC-SHA256 Credential=ASIALD" + "A" * 14 + "/20261121/us-east-1/lambda/aws4_request",
        "AWS4-HMAC-SHA256 Credential=ASIALD!!!!!!!!!!!!!!/20261121/us-east-1/lambda/aws4_request",
        "\xff\xfe",
    ],
)
def test_odd_credentials(daemon, authorization):
    answer = ask(daemon, "GET", FUNCTIONS, Authorization=authorization)
    assert answer.status in (200, 400, 403, 404, 501)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"{",
        b"\xff",
        b"\xef\xbb\xbf{}",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"FunctionName": 1e999}',
        b'{"FunctionName": NaN}',
        b'{"FunctionName": "a", "FunctionName": "b"}',
        b'{"Code": {"ZipFile": "not base64!"}}',
        b'{"Code": []}',
        b"\0" * 1000,
        b"9" * 100_000,
    ],
    ids=lambda body: repr(body[:20]),
)
def test_odd_documents(daemon, body):
    for method, target in (("POST", FUNCTIONS), ("PUT", f"{FUNCTIONS}/odd/configuration"), ("POST", "/")):
        head = f"{method} {target} HTTP/1.1\r\nX-Amz-Target: Logs_20140328.PutLogEvents\r\nContent-Length: {len(body)}"
        with Connection(daemon, patience_s=5.0) as connection:
            answer = connection.send(head.encode() + b"\r\n\r\n" + body).answer()
        assert answer.status in (200, 400), answer.body
    with Connection(daemon, patience_s=5.0) as connection:
        head = f"POST {FUNCTIONS}/odd/invocations HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n"
        answer = connection.send(head.encode() + body).answer()
    assert answer.status in (200, 400), answer.body
