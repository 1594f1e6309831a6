"""Subscriptions to telemetry, and each event by AWS's documents."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lambdad.domain import telemetry
from lambdad.domain.telemetry import Api, InvalidSubscription, Subscription, subscription

SCHEMA = "https://docs.aws.amazon.com/lambda/latest/dg/telemetry-schema-reference.html"
NOW = 1_665_532_815.064  # 2022-10-12T00:00:15.064Z
HTTP = {"protocol": "HTTP", "URI": "http://sandbox.localdomain:8080"}


def body(**changes: Any) -> bytes:
    """AWS's example, with its sum done.

    https://docs.aws.amazon.com/lambda/latest/dg/telemetry-api-reference.html#telemetry-subscribe-api-example
    """
    request = {
        "schemaVersion": "2022-12-13",
        "types": ["platform", "function", "extension"],
        "buffering": {"maxItems": 1000, "maxBytes": 256 * 1024, "timeoutMs": 100},
        "destination": HTTP,
    }
    request |= changes
    return json.dumps({name: value for name, value in request.items() if value is not None}).encode()


def test_aws_s_example() -> None:
    assert subscription(Api.TELEMETRY, body()) == Subscription(
        Api.TELEMETRY,
        "2022-12-13",
        ("platform", "function", "extension"),
        port=8080,
        method="POST",
        path="/",
        max_items=1000,
        max_bytes=262_144,
        timeout_ms=100,
    )


def test_defaults() -> None:
    """https://docs.aws.amazon.com/lambda/latest/dg/telemetry-api.html#telemetry-api-buffering"""
    wanted = subscription(Api.TELEMETRY, body(buffering=None))
    assert (wanted.max_items, wanted.max_bytes, wanted.timeout_ms) == (10_000, 262_144, 1_000)
    wanted = subscription(Api.TELEMETRY, body(buffering={"timeoutMs": 25}))
    assert (wanted.max_items, wanted.max_bytes, wanted.timeout_ms) == (10_000, 262_144, 25)
    assert subscription(Api.LOGS, body(schemaVersion=None)).schema_version == "2020-08-15"


@pytest.mark.parametrize(
    ("destination", "port", "method", "path"),
    [
        ({"protocol": "HTTP", "URI": "http://sandbox:1234/a/b?c=d"}, 1234, "POST", "/a/b?c=d"),
        ({"protocol": "HTTP", "URI": "http://sandbox.localdomain:80/"}, 80, "POST", "/"),
        ({"protocol": "TCP", "port": 4321}, 4321, "", ""),
        ({"protocol": "TCP", "URI": "tcp://sandbox.localdomain:4321"}, 4321, "", ""),
    ],
)
def test_destinations(destination: dict[str, Any], port: int, method: str, path: str) -> None:
    wanted = subscription(Api.TELEMETRY, body(destination=destination))
    assert (wanted.port, wanted.method, wanted.path) == (port, method, path)


def test_the_logs_api_also_puts() -> None:
    """ "You can choose to receive logs through PUT or POST."

    https://docs.aws.amazon.com/lambda/latest/dg/runtimes-logs-api.html#runtimes-logs-api-dest
    """
    destination = HTTP | {"method": "PUT", "encoding": "JSON"}
    assert subscription(Api.LOGS, body(schemaVersion="2021-03-18", destination=destination)).method == "PUT"
    with pytest.raises(InvalidSubscription, match="method should be one of: POST"):
        subscription(Api.TELEMETRY, body(destination=destination))


def test_the_documented_error() -> None:
    """https://docs.aws.amazon.com/lambda/latest/dg/telemetry-api-reference.html#telemetry-subscribe-api-example"""
    invalid = body(types=[], destination={"protocol": "HTTP", "URI": "http://sandbox.localdomain"})
    with pytest.raises(InvalidSubscription) as raised:
        subscription(Api.TELEMETRY, invalid)
    assert str(raised.value) == "URI port is not provided; types should not be empty"


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"schemaVersion": None}, "schemaVersion should be one of: 2022-07-01, 2022-12-13, 2025-01-29"),
        ({"schemaVersion": ["2022-07-01"]}, "schemaVersion should be one of"),
        ({"types": None}, "types should not be empty"),
        ({"types": "platform"}, "types should not be empty"),
        ({"types": ["platform", "traces"]}, "types should be among: platform, function, extension"),
        ({"types": [{}]}, "types should be among"),
        ({"destination": None}, "destination is not provided"),
        ({"destination": "http://sandbox:80"}, "destination should be an object"),
        ({"destination": {}}, "protocol should be one of: HTTP, TCP"),
        ({"destination": {"protocol": "HTTP"}}, "URI is not provided"),
        ({"destination": {"protocol": "HTTP", "URI": 8080}}, "URI is not provided"),
        ({"destination": {"protocol": "HTTP", "URI": "https://sandbox:80"}}, "URI scheme should be http"),
        ({"destination": {"protocol": "HTTP", "URI": "http://169.254.169.254:80"}}, "URI host should be one of"),
        ({"destination": {"protocol": "HTTP", "URI": "http://sandbox:99999"}}, "URI is not valid"),
        ({"destination": {"protocol": "HTTP", "URI": "http://sandbox:80/\u00e4"}}, "URI is not valid"),
        ({"destination": {"protocol": "HTTP", "URI": "http://sandbox:80/a b"}}, "URI is not valid"),
        ({"destination": {"protocol": "HTTP", "URI": "http://sandbox:9001"}}, "port 9001 is reserved"),
        ({"destination": {"protocol": "TCP"}}, "URI is not provided"),
        ({"destination": {"protocol": "TCP", "port": 0}}, "port should be between 1 and 65535"),
        ({"destination": {"protocol": "TCP", "port": True}}, "port should be between 1 and 65535"),
        ({"destination": {"protocol": "TCP", "port": "80"}}, "port should be between 1 and 65535"),
        ({"destination": HTTP | {"encoding": "XML"}}, "encoding should be JSON"),
        ({"buffering": []}, "buffering should be an object"),
        ({"buffering": {"maxItems": 999}}, "maxItems should be between 1000 and 10000"),
        ({"buffering": {"maxBytes": 1_048_577}}, "maxBytes should be between 262144 and 1048576"),
        ({"buffering": {"timeoutMs": 24}}, "timeoutMs should be between 25 and 30000"),
        ({"buffering": {"timeoutMs": 100.5}}, "timeoutMs should be between 25 and 30000"),
    ],
)
def test_what_is_refused(changes: dict[str, Any], fault: str) -> None:
    request = json.loads(body()) | changes
    with pytest.raises(InvalidSubscription) as raised:
        subscription(
            Api.TELEMETRY, json.dumps({name: value for name, value in request.items() if value is not None}).encode()
        )
    assert fault in str(raised.value)


@pytest.mark.parametrize("request_body", [b"", b"{", b"[]", b"\xff", b"[" * 100_000])
def test_bodies_that_are_no_objects(request_body: bytes) -> None:
    with pytest.raises(InvalidSubscription, match="request body"):
        subscription(Api.TELEMETRY, request_body)


# Events

TELEMETRY = subscription(Api.TELEMETRY, body())
OLD_TELEMETRY = subscription(Api.TELEMETRY, body(schemaVersion="2022-07-01"))
LOGS_2020 = subscription(Api.LOGS, body(schemaVersion="2020-08-15"))
LOGS_2021 = subscription(Api.LOGS, body(schemaVersion="2021-03-18"))


def sent(wanted: Subscription, kind: str, record: object) -> Any:
    event = telemetry.platform_event(wanted, NOW, kind, record)
    return None if event is None else json.loads(event)


RUNTIME_DONE = {
    "requestId": "6d68ca91-49c9-448d-89b8-7ca3e6dc66aa",
    "status": "error",
    "errorType": "Runtime.ExitError",
    "spans": [{"name": "responseLatency", "start": "2022-08-02T12:01:23.521Z", "durationMs": 23.02}],
    "metrics": {"durationMs": 140.0, "producedBytes": 16},
}
REPORT = {
    "requestId": "6d68ca91-49c9-448d-89b8-7ca3e6dc66aa",
    "status": "success",
    "metrics": {
        "billedDurationMs": 694,
        "durationMs": 693.92,
        "initDurationMs": 397.68,
        "maxMemoryUsedMB": 84,
        "memorySizeMB": 128,
    },
}


def test_the_telemetry_api_has_events_as_they_are() -> None:
    """`Event: Object - time: String - type: String - record`, https://docs.aws.amazon.com/lambda/latest/dg/
    telemetry-schema-reference.html#platform-report"""
    event = sent(TELEMETRY, "platform.report", REPORT)
    assert event == {"time": "2022-10-12T00:00:15.064Z", "type": "platform.report", "record": REPORT}
    assert list(event) == ["time", "type", "record"]
    for kind in ("platform.end", "platform.fault", "platform.logsSubscription"):
        assert sent(TELEMETRY, kind, {}) is None


def test_the_logs_api_has_its_own_forms() -> None:
    """https://docs.aws.amazon.com/lambda/latest/dg/runtimes-logs-api.html#runtimes-logs-api-examples"""
    request_id = REPORT["requestId"]
    start = {"requestId": request_id, "version": "$LATEST", "tracing": {"type": "X-Amzn-Trace-Id", "value": "Root=1"}}
    assert sent(LOGS_2020, "platform.start", start)["record"] == {"requestId": request_id, "version": "$LATEST"}
    assert sent(LOGS_2020, "platform.end", {"requestId": request_id})["record"] == {"requestId": request_id}
    report = sent(LOGS_2020, "platform.report", REPORT)["record"]
    assert report == {"requestId": request_id, "metrics": REPORT["metrics"]}
    fault = "RequestId: d783b35e-a91d-4251-af17-035953428a2c Process exited before completing request"
    assert sent(LOGS_2020, "platform.fault", fault) == {
        "time": "2022-10-12T00:00:15.064Z",
        "type": "platform.fault",
        "record": fault,
    }
    subscribed = {"name": "Foo.bar", "state": "Subscribed", "types": ["function", "platform"]}
    assert sent(LOGS_2020, "platform.logsSubscription", subscribed)["record"] == subscribed
    registered = {"name": "Foo.bar", "state": "Ready", "events": ["INVOKE", "SHUTDOWN"]}
    assert sent(LOGS_2020, "platform.extension", registered)["record"] == registered
    for kind in ("platform.initStart", "platform.initReport", "platform.telemetrySubscription"):
        assert sent(LOGS_2021, kind, {}) is None


def test_runtime_done_of_the_logs_api() -> None:
    """https://docs.aws.amazon.com/lambda/latest/dg/runtimes-logs-api.html#runtimes-logs-api-ref-done"""
    assert sent(LOGS_2020, "platform.runtimeDone", RUNTIME_DONE) is None
    done = sent(LOGS_2021, "platform.runtimeDone", RUNTIME_DONE)["record"]
    assert done == {"requestId": RUNTIME_DONE["requestId"], "status": "failure"}
    for status in ("success", "timeout"):
        assert sent(LOGS_2021, "platform.runtimeDone", RUNTIME_DONE | {"status": status})["record"]["status"] == status


def test_logs_dropped() -> None:
    """https://docs.aws.amazon.com/lambda/latest/dg/telemetry-schema-reference.html#platform-logsDropped"""
    record = telemetry.logs_dropped(123, 12345)
    assert record == {
        "droppedBytes": 12345,
        "droppedRecords": 123,
        "reason": "Consumer seems to have fallen behind as it has not acknowledged receipt of logs.",
    }
    for wanted in (TELEMETRY, LOGS_2020):
        assert sent(wanted, telemetry.LOGS_DROPPED, record)["record"] == record


def test_types_that_are_not_wanted() -> None:
    functions = subscription(Api.TELEMETRY, body(types=["function"]))
    assert sent(functions, "platform.start", {}) is None
    assert telemetry.log_event(functions, NOW, "extension", "x", in_json=False) is None
    assert telemetry.log_event(functions, NOW, "function", "x", in_json=False) is not None


def line(wanted: Subscription, text: str, *, in_json: bool) -> Any:
    event = telemetry.log_event(wanted, NOW, "function", text, in_json=in_json)
    assert event is not None
    assert b"\n" not in event
    return json.loads(event)["record"]


def test_a_function_s_lines() -> None:
    """https://docs.aws.amazon.com/lambda/latest/dg/telemetry-schema-reference.html#telemetry-api-function"""
    text = "[INFO] Hello world, I am a function!\n"
    assert line(TELEMETRY, text, in_json=False) == text
    assert line(LOGS_2020, "ERROR encountered. Stack trace:\n\\my-function (line 10)\n", in_json=False).count("\n") == 2


def test_a_function_s_lines_in_json() -> None:
    """Objects where the log format is JSON, but not in schemas older than 2022-12-13, nor in the Logs API."""
    text = '{"timestamp": "2022-10-12T00:03:50.000Z", "level": "INFO", "message": "Hello world, I am a function!"}\n'
    assert line(TELEMETRY, text, in_json=True) == json.loads(text)
    for wanted, in_json in ((TELEMETRY, False), (OLD_TELEMETRY, True), (LOGS_2021, True)):
        assert line(wanted, text, in_json=in_json) == text


@pytest.mark.parametrize("text", ["no object\n", "{broken\n", '{"a": NaN}\n', "[1]\n", '{"a":' * 100_000])
def test_lines_that_are_no_objects_stay_text(text: str) -> None:
    assert line(TELEMETRY, text, in_json=True) == text


def test_tracing() -> None:
    """https://docs.aws.amazon.com/lambda/latest/dg/telemetry-schema-reference.html#TraceContext"""
    header = "Root=1-62e900b2-710d76f009d6e7785905449a;Parent=0efbd19962d95b05;Sampled=1"
    context = {"type": "X-Amzn-Trace-Id", "value": header}
    assert telemetry.tracing(header + ";Lineage=1:0123abcd:0") == context
    assert telemetry.tracing(header.replace("Sampled=1", "Sampled=0")) is None
    assert telemetry.tracing("Root=1") is None


def test_a_span() -> None:
    """https://docs.aws.amazon.com/lambda/latest/dg/telemetry-schema-reference.html#Span"""
    assert telemetry.span("responseLatency", NOW, NOW + 0.02302) == {
        "name": "responseLatency",
        "start": "2022-10-12T00:00:15.064Z",
        "durationMs": 23.02,
    }
    assert telemetry.span("responseDuration", NOW, NOW - 1)["durationMs"] == 0
